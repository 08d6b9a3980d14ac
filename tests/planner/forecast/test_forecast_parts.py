"""Parts of a step, what limits it, and the table that prediction and measurement share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.forecast.lines import Line, Totals, rows, table
from orchestrator.planner.forecast.measured import measured_parts, measured_totals
from orchestrator.planner.forecast.parts import Parts, limit

pytestmark = pytest.mark.unit

SECONDS = st.floats(0.0, 10.0)
SHARE = st.floats(0.0, 0.3)


@given(st.floats(0.01, 10.0), SECONDS, SECONDS, SECONDS, SECONDS)
def test_the_limit_is_the_largest_part(compute, communication, waiting, data, checkpoint):
    parts = Parts(compute, communication, waiting, data, checkpoint)
    found = limit(parts)
    assert found.share * parts.whole == pytest.approx(
        max(compute, communication, waiting, data, checkpoint)
    )
    assert f"{found.share:.0%}" in found.sentence


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (Parts(2.0, 1.0, 0.0, 0.0, 0.0), "compute-bound"),
        (Parts(1.0, 2.0, 0.0, 0.0, 0.0, {"dp": 0.5, "tp": 1.5}), "communication-bound by tensor"),
        (Parts(1.0, 2.0, 0.0, 0.0, 0.0, {"fsdp": 2.0}), "communication-bound by shard"),
        (Parts(1.0, 0.0, 2.0, 0.0, 0.0), "waiting"),
        (Parts(1.0, 0.0, 0.0, 2.0, 0.0), "data-bound"),
        (Parts(1.0, 0.0, 0.0, 0.0, 2.0), "checkpoint-bound"),
        (Parts(1.0, 0.0, 0.0, 0.0, 0.0, apart=False), "compute- or communication-bound"),
    ],
)
def test_each_limit_has_its_word(parts, kind):
    assert limit(parts).kind == kind


def test_parts_survive_being_kept():
    parts = Parts(1.0, 2.0, 0.5, 0.25, 0.125, {"dp": 2.0}, apart=False)
    assert Parts.of(parts.view()) == parts
    with pytest.raises(KeyError):
        Parts.of({"compute": 1.0})


@given(st.floats(1e-3, 10.0), SHARE, SHARE, SHARE, st.booleans())
def test_measured_parts_sum_to_the_step(step, exchange, waiting, data, pipelined):
    parts = measured_parts(
        step_seconds=step,
        data_seconds=data * step,
        pause_seconds=0.5,
        exchange_share=exchange,
        waiting_share=waiting,
        by_dimension={"dp": 0.01, "pp": 0.02},
        pipelined=pipelined,
    )
    assert parts.step == pytest.approx(step)
    assert parts.whole == pytest.approx(step + 0.5)
    assert sum(parts.by_dimension.values()) == pytest.approx(parts.communication)
    if pipelined:  # what is not communication by prediction is the bubble
        assert parts.communication <= 0.03 + 1e-12


def test_what_nobody_could_tell_apart_is_not_told_apart():
    parts = measured_parts(
        step_seconds=1.0,
        data_seconds=0.1,
        pause_seconds=0.0,
        exchange_share=None,
        waiting_share=None,
        by_dimension={"dp": 0.2},
        pipelined=False,
    )
    assert (parts.compute, parts.communication, parts.apart) == (0.9, 0.0, False)
    lines = {line.name: line for line in table(None, measured_totals(parts, None, 10.0, None))}
    assert "computing" not in lines
    assert lines["step"].measured == 1.0


def test_the_table_has_a_line_for_each_dimension_where_there_are_several():
    one = Totals(Parts(1.0, 0.3, 0.0, 0.0, 0.0, {"dp": 0.1, "tp": 0.2}), 100.0, 10.0)
    names = [line.name for line in table(one, None)]
    assert "  by tensor" in names
    assert "  by replicate" in names
    alone = Totals(Parts(1.0, 0.1, 0.0, 0.0, 0.0, {"dp": 0.1}), 100.0, 10.0)
    assert not any(name.startswith("  by") for name in (line.name for line in table(alone, None)))


def test_an_error_is_relative_to_what_was_measured():
    assert Line("step", "s", 1.2, 1.0).error == pytest.approx(0.2)
    assert Line("step", "s", 1.2, None).error is None
    assert Line("waiting", "s", 1e-5, 0.0).error is None
    shown = rows([Line("step", "s", 0.162, 0.2), Line("x", "s", 0.0, None)])
    assert shown == (("step", "162 ms", "200 ms", "-19.0%"), ("x", "0 s", "–", "–"))

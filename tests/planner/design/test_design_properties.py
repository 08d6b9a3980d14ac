"""What holds for every workload: pressures are shares, demand never relieves, rounds end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.plan import parse_plan
from orchestrator.planner.design import (
    Workload,
    design,
    design_values,
    plan_yaml,
    radar_svg,
    verdict,
    worksheet,
)
from orchestrator.planner.design.checks import check_workload
from orchestrator.planner.design.defaults import defaults_of
from orchestrator.planner.design.design import MOST_ROUNDS
from orchestrator.planner.design.workload import Failure, Trust
from tests.planner.design.shipped import designed

pytestmark = pytest.mark.unit


def magnitudes(low: float, high: float) -> st.SearchStrategy[float]:
    """Powers of ten between two exponents."""
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


def sizes(low: float, high: float) -> st.SearchStrategy[int]:
    return magnitudes(low, high).map(int)


machines = st.fixed_dictionaries(
    {
        "devices": st.sampled_from([0, 1, 4, 8]),
        "memory": sizes(9, 13),
        "disk": sizes(9, 14),
        "flops": magnitudes(9, 15),
        "network": st.fixed_dictionaries(
            {"bandwidth": magnitudes(5, 12), "latency": magnitudes(-6, -1)}
        ),
    }
).map(lambda m: {**m, "device_memory": 80 * 10**9} if m["devices"] else m)

sections: dict[str, st.SearchStrategy[Any]] = {
    "data": st.fixed_dictionaries(
        {
            "size": sizes(6, 16),
            "access": st.sampled_from(["scan", "random"]),
            "may_leave": st.booleans(),
            "process": st.none()
            | st.fixed_dictionaries(
                {"rate": magnitudes(6, 10), "window": magnitudes(2, 6),
                 "shuffle": st.floats(0.0, 2.0)}
            ),
        }
    ),
    "training": st.fixed_dictionaries(
        {
            "samples": magnitudes(4, 13),
            "deadline": magnitudes(2, 7),
            "batch": st.sampled_from([1.0, 7.0, 256.0, 768.0, 4_194_304.0]),
            "overlap": st.sampled_from([0.0, 0.5, 0.9]),
        }
    ).map(lambda t: {**t, "batch": min(t["batch"], t["samples"])}),
    "serving": st.fixed_dictionaries(
        {
            "requests_per_second": magnitudes(0, 6),
            "latency": magnitudes(-3, 1),
            "lookups": st.integers(0, 100),
            "lookup_latency": magnitudes(-5, -2),
            "compute": magnitudes(-5, 0),
        }
    ),
    "agents": st.fixed_dictionaries(
        {
            "population": st.integers(1, 10_000),
            "decisions_per_second": magnitudes(-1, 2),
            "compute": magnitudes(-4, 0),
            "alone": st.booleans(),
            "channel": st.none()
            | st.fixed_dictionaries({"bandwidth": magnitudes(4, 9), "latency": magnitudes(-4, -2)}),
        }
    ),
}  # fmt: skip


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Any combination of sections; contradictions are drawn again."""
    values: dict[str, Any] = {"name": "drawn", "machine": draw(machines)}
    values |= {key: draw(section) for key, section in sections.items() if draw(st.booleans())}
    values["model"] = {"parameters": draw(magnitudes(4, 13))}
    domains = draw(st.sampled_from([1, 2, 12]))
    values["trust"] = {"domains": domains, "link": {"bandwidth": 1.25e7, "latency": 0.02}}
    values["failure"] = {"survive": draw(st.sampled_from(["nothing", "machine"]))}
    workload = Workload.model_validate(values)
    assert check_workload(workload) == ()
    return workload


@settings(max_examples=150)
@given(workloads())
def test_every_workload_has_a_design_that_can_be_told(workload: Workload) -> None:
    found = design(workload)
    assert 1 <= len(found.rounds) < MOST_ROUNDS
    assert found.final.turn is None  # the back edge ended
    for walk in found.rounds:
        assert len(walk.pressures) == 6
        assert all(0.0 <= each.pressure <= 1.0 for each in walk.pressures)
        axes = {each.axis for each in walk.distributed} - {"coordination"}
        # An axis is distributed because one of its own ceilings binds.
        assert axes == {each.axis for each in walk.demands if each.binds}
    assert found.one_machine == (found.final.binding is None)
    assert verdict(found).endswith(".")
    page = worksheet(found, defaults_of(workload))
    assert max(map(len, page.splitlines())) <= 100
    assert "nan" not in page
    assert design_values(found, ())["num_machines"] >= 1
    assert radar_svg(workload.name, found.final.pressures).endswith("</svg>\n")
    parse_plan(plan_yaml(found))


def scaled(workload: Workload, factor: float, *fields: str) -> Workload:
    """The workload with some of its demands multiplied, where it makes them."""
    changed = workload
    for path in fields:
        section, field = path.split(".")
        part = getattr(changed, section)
        if part is not None:
            value = getattr(part, field) * factor
            value = int(value) if field == "size" else value
            part = part.model_copy(update={field: value})
            changed = changed.model_copy(update={section: part})
    return changed


@settings(max_examples=100)
@given(workloads(), st.floats(1.0, 100.0))
def test_more_demand_never_lowers_a_pressure(workload: Workload, factor: float) -> None:
    heavier = scaled(
        workload, factor, "serving.requests_per_second", "training.samples", "data.size",
        "model.parameters", "agents.decisions_per_second",
    )  # fmt: skip
    before, after = design(workload).rounds[0], design(heavier).rounds[0]
    for small, large in zip(before.pressures, after.pressures, strict=True):
        # A wider split needs fewer replicas, which may round to fewer machines to coordinate.
        if small.axis != "coordination":
            assert large.pressure >= small.pressure - 1e-12, small.axis


@settings(max_examples=60)
@given(workloads(), st.floats(1.0, 100.0))
def test_more_work_never_needs_less_coordination(workload: Workload, factor: float) -> None:
    heavier = scaled(
        workload, factor, "serving.requests_per_second", "training.samples", "data.size"
    )
    before, after = design(workload).rounds[0], design(heavier).rounds[0]
    assert after.sizing.num_machines >= before.sizing.num_machines
    assert after.pressures[4].pressure >= before.pressures[4].pressure


@settings(max_examples=60)
@given(workloads())
def test_a_workload_without_a_ceiling_stays_on_one_machine(workload: Workload) -> None:
    machine = workload.machine.model_copy(
        update={
            "memory": 2**70, "disk": 2**70, "disk_rate": 1e30, "flops": 1e40,
            "device_memory": 2**70 if workload.machine.devices else None,
        }
    )  # fmt: skip
    data = workload.data
    if data is not None and data.process is not None:
        fast = data.process.model_copy(update={"rate": 1e30})
        data = data.model_copy(update={"process": fast})
    alone = {"trust": Trust(), "failure": Failure(), "serving": None, "agents": None}
    found = design(workload.model_copy(update={"machine": machine, "data": data, **alone}))
    assert found.one_machine
    assert found.final.sizing.num_machines == 1
    assert verdict(found) == "One machine: no ceiling binds, so distribute nothing."
    assert len(found.rounds) == 1


@given(st.integers(1, 200))
def test_the_budget_is_gone_at_the_fan_out_that_was_said(lookups: int) -> None:
    found = designed("fraud-scoring", f"serving.lookups={lookups}")
    tax = found.rounds[0].taxes.serving
    assert tax is not None
    assert tax.fan_out_limit == 50
    assert (tax.left_seconds is not None and tax.left_seconds <= 1e-12) == (lookups >= 50)
    assert (len(found.rounds) > 1) == (lookups > 40)

"""A pipeline must not change what is computed: every schedule against a single process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from gloo_gang import Gang
from pipeline_cases import Broken, Changeable, Tower

pytestmark = pytest.mark.gloo

LOSSES, NORMS, PARAMETERS = 1e-5, 1e-5, 1e-4
"""Relative, over 20 steps in float32; parameters to the largest of the same tensor."""

INTERLEAVED = {"pipeline_schedule": "interleaved-1f1b"}
CASES = {
    "1f1b, tied": (Tower(counts=True), {"pipeline": 2}, 4, {}),
    "1f1b, as few as can be": (Tower(weighted=True), {"pipeline": 2}, 2, {}),
    "gpipe, one micro-batch": (
        Tower(tie=False),
        {"pipeline": 2},
        1,
        {"pipeline_schedule": "gpipe"},
    ),
    "gpipe, weighted": (
        Tower(weighted=True, counts=True),
        {"pipeline": 2},
        4,
        {"pipeline_schedule": "gpipe"},
    ),
    "interleaved, tied, weighted": (
        Tower(weighted=True, counts=True),
        {"pipeline": 2},
        4,
        INTERLEAVED,
    ),
    "interleaved, three stages each": (
        Tower(num_blocks=6, tie=False),
        {"pipeline": 2},
        4,
        {**INTERLEAVED, "virtual_stages": 3},
    ),
    "four ranks, uneven blocks": (Tower(num_blocks=6, weighted=True), {"pipeline": 4}, 4, {}),
    "two tensors handed on": (Tower(sums=True), {"pipeline": 2}, 4, {}),
    "two tensors, four ranks, interleaved": (
        Tower(num_blocks=9, sums=True),
        {"pipeline": 4},
        8,
        INTERLEAVED,
    ),
    "fewer micro-batches than ranks": (Tower(num_blocks=8), {"pipeline": 4}, 2, INTERLEAVED),
    "copied": (Tower(weighted=True), {"pipeline": 2, "replicate": 2}, 4, {}),
    "sharded, interleaved": (Tower(), {"pipeline": 2, "shard": 2}, 4, INTERLEAVED),
    "sharded, gpipe, untied": (
        Tower(tie=False, weighted=True),
        {"pipeline": 2, "shard": 2},
        4,
        {"pipeline_schedule": "gpipe"},
    ),
}


def alone(gang: Gang, job: Tower, micro_batches: int, bf16: bool = False) -> dict[str, Any]:
    (outcome,) = gang.run("pipeline_cases:train_case", 1, job, {}, micro_batches, {}, bf16)
    return outcome  # type: ignore[no-any-return]


def off(values: Any, expected: Any) -> float:
    """The largest relative difference."""
    return float(np.max(np.abs(np.array(values) / np.array(expected) - 1)))


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_trains_like_a_single_process(gang: Gang, name: str) -> None:
    job, degrees, micro_batches, settings = CASES[name]
    expected = alone(gang, job, micro_batches)
    ranks = gang.run(
        "pipeline_cases:train_case",
        int(np.prod(list(degrees.values()))),
        job,
        degrees,
        micro_batches,
        settings,
    )
    for rank in ranks:
        assert off(rank["losses"], expected["losses"]) < LOSSES
        assert off(rank["norms"], expected["norms"]) < NORMS
        for found, wanted in zip(rank["metrics"], expected["metrics"], strict=True):
            assert found == pytest.approx(wanted, rel=LOSSES, abs=LOSSES)
        compare_state(rank, expected)
    assert set().union(*(rank["parameters"] for rank in ranks)) == set(expected["parameters"])


def compare_state(rank: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Parameters that the rank has are those of the single process, and so are counters."""
    for name, value in rank["parameters"].items():
        wanted = expected["parameters"][name]
        assert np.max(np.abs(value - wanted)) < PARAMETERS * np.max(np.abs(wanted)), name
    for name, calls in rank["buffers"].items():
        assert calls == expected["buffers"][name], name


def test_copies_of_a_tied_parameter_stay_alike_and_one_of_them_counts(gang: Gang) -> None:
    ranks = gang.run("pipeline_cases:train_case", 4, Tower(), {"pipeline": 4}, 4, {})
    first, last = ranks[0], ranks[3]
    np.testing.assert_array_equal(
        first["parameters"]["embed.weight"], last["parameters"]["embed.weight"]
    )
    assert [rank["uncounted"] for rank in ranks] == [[], [], [], ["embed.weight"]]
    assert "head.weight" not in last["parameters"]


def test_half_precision_is_that_of_a_single_process(gang: Gang) -> None:
    job = Tower(weighted=True)
    expected = alone(gang, job, 4, bf16=True)
    full = alone(gang, job, 4)
    for rank in gang.run("pipeline_cases:train_case", 2, job, {"pipeline": 2}, 4, {}, True):
        assert off(rank["losses"], expected["losses"]) < LOSSES
    assert off(expected["losses"], full["losses"]) > LOSSES


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (Broken(), "ZeroDivisionError: my own mistake"),
        (
            Changeable(),
            "TypeError: Changeable.criterion returned both a mean and (total, weight); "
            "it must return the same for every batch",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_mistakes_of_a_job_are_told_in_its_own_words(gang: Gang, job: Tower, told: str) -> None:
    assert gang.run("pipeline_cases:failing_case", 2, job) == [told, told]

"""The number of workers does not change what is computed: 1, 2 and 4 workers, one curve."""

from __future__ import annotations

import pytest

from tests.axis_command import Axis

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 20


def test_the_losses_of_1_2_and_4_workers_agree(axis: Axis) -> None:
    curves = {}
    for workers in (1, 2, 4):
        name = f"digits-{workers}"
        done = axis(
            "run",
            "configs/digits.yaml",
            f"storage={axis.storage}",
            f"name={name}",
            f"training.workers={workers}",
            f"training.steps={STEPS}",
            "inference=null",
        )
        assert done.code == 0, done
        steps = [record for record in axis.metrics(name) if record["kind"] == "step"]
        ranks = {r["rank"] for r in axis.metrics(name) if r["kind"] == "worker"}
        assert ranks == set(range(workers)), "as many workers as were asked for"
        curves[workers] = [record["loss"] for record in steps]
    assert len(curves[1]) == STEPS
    assert curves[1][-1] < curves[1][0]
    for workers in (2, 4):
        assert curves[workers] == pytest.approx(curves[1], rel=1e-5)
    stores = [event for run in curves for event in axis.events(f"digits-{run}", "store-ready")]
    assert [event["store"]["reused"] for event in stores] == [False, True, True]

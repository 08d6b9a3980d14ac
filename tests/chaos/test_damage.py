"""A checkpoint that is no longer what was written: told, left aside, the one before it taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.axis_command import Axis, assert_exactly_once

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

COMMON = (
    "configs/digits.yaml",
    "inference=null",
    "training.log_samples=true",
    "coordination.checkpoint.every=20",
)


def _checkpoints(axis: Axis) -> list[Path]:
    return sorted((axis.storage / "digits" / "checkpoints").iterdir())


def _flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def test_a_flipped_bit_costs_the_steps_of_one_checkpoint(axis: Axis) -> None:
    command = ("run", *COMMON, f"storage={axis.storage}")
    first = axis(*command, "training.steps=60")
    assert first.code == 0, first
    newest = _checkpoints(axis)[-1]
    assert newest.name.startswith("step-00000060")
    _flip_a_bit(next(newest.glob("*.distcp")))

    done = axis(*command, "training.steps=80")
    assert done.code == 0, done
    damaged = axis.events("digits", "checkpoint-damaged")
    assert [event["folder"] for event in damaged] == [f"checkpoints/{newest.name}"]
    assert ".distcp" in damaged[0]["reason"]
    assert ".distcp" in (newest / "damaged.json").read_text(), "set aside, with the reason"
    again = [r["step"] for r in axis.metrics("digits") if r["kind"] == "step" and r["attempt"] > 1]
    assert min(again) == 41, "resumed from the checkpoint of step 40"
    assert_exactly_once(axis.computed_ids("digits"), 1797 - 359, 80, 64)

"""A checkpoint belongs to no mesh: what one wrote, every other goes on with unchanged."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from gloo_gang import Gang
from mesh_runs import LOSSES, REQUIRED, Outcome, overrides
from small_runs import GPT, Stores

from orchestrator.plan.mesh import Mesh

NewRun = Callable[[], str]

STOPPED_AFTER = 8

ROUND = (*REQUIRED, Mesh(), REQUIRED[0])
"""A tour on which each mesh is left once and arrived at once: every kind of change is there."""


def check_change(
    gang: Gang, stores: Stores, run: str, alone: Outcome, before: Mesh, after: Mesh
) -> None:
    """Eight steps on one mesh, the rest of twenty on another, optimizer state and all."""
    first: list[Any] = gang.run(
        "train_case", before.size, GPT, overrides(before), stores.gpt, run,
        None, 1, {0: STOPPED_AFTER},
    )  # fmt: skip
    checkpoint = first[0]["result"].checkpoint
    assert first[0]["result"].step == STOPPED_AFTER
    rest: list[Any] = gang.run(
        "train_case", after.size, GPT, overrides(after), stores.gpt, run, checkpoint, 2
    )
    assert rest[0]["steps"] == list(range(STOPPED_AFTER + 1, 21))
    losses = [*first[0]["losses"], *rest[0]["losses"]]
    worst = np.max(np.abs(np.array(losses) / np.array(alone.losses) - 1))
    print(f"{before} → {after}: losses differ by {worst:.1e}")
    assert worst <= LOSSES
    assert rest[0]["result"].metrics == pytest.approx(alone.metrics, rel=LOSSES)


def _is_slow(before: Mesh, after: Mesh) -> bool:
    """Most steps are taken with layers that are cut, which few cores take long for; one change of
    that kind is enough by default."""
    return after.tensor * after.context > 1 and before != Mesh(replicate=2, shard=2)


@pytest.mark.gloo
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(*pair, marks=pytest.mark.slow) if _is_slow(*pair) else pair
        for pair in pairwise(ROUND)
    ],
    ids=str,
)
def test_another_mesh_goes_on_with_the_same_losses(
    gang8: Gang, stores: Stores, new_run: NewRun, alone: Outcome, before: Mesh, after: Mesh
) -> None:
    check_change(gang8, stores, new_run(), alone, before, after)


@pytest.mark.gloo
@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [pair for pair in permutations((*REQUIRED, Mesh()), 2) if pair not in set(pairwise(ROUND))],
    ids=str,
)
def test_every_mesh_goes_on_after_every_other(
    gang8: Gang, stores: Stores, new_run: NewRun, alone: Outcome, before: Mesh, after: Mesh
) -> None:
    """The rest of the full cross product."""
    check_change(gang8, stores, new_run(), alone, before, after)

"""A mesh must not change what is computed: every one against a single process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from gloo_gang import Gang
from mesh_runs import REQUIRED, Outcome, check_same, train_on
from small_runs import Stores

from orchestrator.plan.mesh import Mesh

NewRun = Callable[[], str]


@pytest.mark.gloo
@pytest.mark.parametrize("of", REQUIRED, ids=str)
def test_a_mesh_follows_a_single_process(
    gang8: Gang,
    stores: Stores,
    new_run: NewRun,
    alone: Outcome,
    of: Mesh,
    record_property: Callable[[str, Any], None],
) -> None:
    """Loss and norm of each step, the last evaluation, and the final parameters."""
    outcome = train_on(gang8, of, stores.gpt, new_run())
    assert len(outcome.losses) == 20
    check_same(outcome, alone, record_property)


def every_mesh(sizes: Sequence[int]) -> list[Mesh]:
    """All dense meshes of so many processes that the small GPT can be cut into."""
    found = []
    for degrees in product((1, 2, 4, 8), (1, 2, 4, 8), (1, 2), (1, 2), (1, 2)):
        replicate, shard, tensor, pipeline, context = degrees
        candidate = Mesh(replicate, shard, tensor, pipeline, context)
        if candidate.size in sizes and candidate not in REQUIRED:
            found.append(candidate)
    return found


@pytest.mark.gloo
@pytest.mark.slow
@pytest.mark.parametrize("of", every_mesh((2, 4, 8)), ids=str)
def test_every_mesh_follows_a_single_process(
    gang8: Gang,
    stores: Stores,
    new_run: NewRun,
    alone: Outcome,
    of: Mesh,
    record_property: Callable[[str, Any], None],
) -> None:
    """The full sweep over degrees on 2, 4 and 8 processes."""
    check_same(train_on(gang8, of, stores.gpt, new_run()), alone, record_property)


@pytest.mark.gloo
@pytest.mark.parametrize(
    ("of", "mode"),
    [
        (Mesh(shard=2), "full"),
        (Mesh(tensor=2), "selective"),
        (Mesh(pipeline=2), "full"),
        pytest.param(Mesh(shard=2), "selective", marks=pytest.mark.slow),
        pytest.param(Mesh(tensor=2), "full", marks=pytest.mark.slow),
        pytest.param(Mesh(pipeline=2), "selective", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_recomputing_activations_changes_nothing(
    gang8: Gang,
    stores: Stores,
    new_run: NewRun,
    alone: Outcome,
    of: Mesh,
    mode: str,
    record_property: Callable[[str, Any], None],
) -> None:
    more = (f"model.activation_checkpoint={mode}",)
    check_same(train_on(gang8, of, stores.gpt, new_run(), more=more), alone, record_property)


@pytest.mark.gloo
@pytest.mark.parametrize(
    "of", [Mesh(shard=4), pytest.param(Mesh(tensor=2, pipeline=2), marks=pytest.mark.slow)], ids=str
)
def test_bf16_keeps_parameters_in_float32(
    gang8: Gang, stores: Stores, new_run: NewRun, alone: Outcome, of: Mesh
) -> None:
    """Autocast on every mesh alike; it stays near, but is not the same."""
    outcome = train_on(gang8, of, stores.gpt, new_run(), more=("training.precision=bf16",))
    assert {value.dtype for value in outcome.parameters.values()} == {np.dtype(np.float32)}
    assert list(outcome.losses) != list(alone.losses)
    np.testing.assert_allclose(outcome.losses, alone.losses, rtol=2e-3)

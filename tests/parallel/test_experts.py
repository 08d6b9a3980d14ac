"""Experts on several ranks compute what they compute on one, and so do their gradients."""

from __future__ import annotations

import pytest
from gloo_gang import Gang

from orchestrator.plan.mesh import Mesh

pytestmark = pytest.mark.gloo

EXACT = 1e-12
"""Relative, in float64: sums are taken in another order."""


@pytest.mark.parametrize(
    ("by_rank", "mode"),
    [
        pytest.param([[2, 2, 2, 2], [2, 2, 2, 2]], "none", id="even"),
        pytest.param([[5, 0, 1, 3], [1, 0, 7, 2]], "selective", id="an expert without tokens"),
        pytest.param([[0, 0, 0, 0], [3, 1, 0, 2]], "none", id="a rank that sends nothing"),
        pytest.param([[0, 0, 3, 2], [0, 0, 1, 2]], "none", id="a rank nobody chose"),
        pytest.param([[0, 0, 3, 2], [0, 0, 1, 2]], "full", id="a rank nobody chose, recomputed"),
    ],
)
def test_two_ranks_share_four_experts(gang: Gang, by_rank: list[list[int]], mode: str) -> None:
    for distances in gang.run("experts_cases:exchange_case", 2, by_rank, mode):
        assert max(distances.values()) < EXACT, distances


@pytest.mark.parametrize(
    "by_rank",
    [
        pytest.param([[1, 2, 3, 4], [4, 3, 2, 1], [5, 0, 0, 1], [1, 1, 1, 1]], id="uneven"),
        pytest.param([[6, 0, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0], [1, 0, 0, 0]], id="one for all"),
    ],
)
def test_four_ranks_have_one_expert_each(gang: Gang, by_rank: list[list[int]]) -> None:
    for distances in gang.run("experts_cases:exchange_case", 4, by_rank, "none"):
        assert max(distances.values()) < EXACT, distances


@pytest.mark.parametrize(
    ("mesh", "mode"),
    [
        (Mesh(replicate=4, expert=2), "none"),
        (Mesh(replicate=2, shard=2, expert=2), "none"),
        (Mesh(shard=4, expert=2), "selective"),
        (Mesh(shard=4, expert=4), "full"),
        (Mesh(replicate=2, shard=2, expert=4), "none"),
        (Mesh(shard=2, tensor=2), "none"),
        (Mesh(shard=2, tensor=2, expert=2), "full"),
        (Mesh(tensor=4), "none"),
    ],
    ids=str,
)
def test_a_mixture_of_experts_over_a_mesh(gang: Gang, mesh: Mesh, mode: str) -> None:
    for distances in gang.run("experts_cases:mixture_case", mesh.size, mesh, mode):
        assert max(distances.values()) < EXACT, distances


@pytest.mark.parametrize(
    ("kind", "size", "says"),
    [
        ("hidden", 2, "TypeError: Experts.hidden_dims must say along which dimension of 'down'"),
        ("size", 3, "ValueError: up (4, 8, 6) cannot be shared evenly by 3 expert ranks"),
        ("mesh", 2, "ValueError: experts are spread over expert and tensor ranks, not over"),
    ],
)
def test_experts_that_cannot_be_spread_are_refused(
    gang: Gang, kind: str, size: int, says: str
) -> None:
    for message in gang.run("experts_cases:refused_case", size, kind):
        assert message.startswith(says)


def test_counts_that_are_not_those_of_the_tokens_are_refused(gang: Gang) -> None:
    for message in gang.run("experts_cases:miscounted_case", 2):
        assert message == "3 tokens, but their counts say 2"


def test_parts_of_a_single_expert_lie_as_the_whole_would(gang: Gang) -> None:
    """``fully_shard`` takes no other."""
    expected = {"up": (48, 6, 1), "down": (48, 8, 1)}
    for strides in gang.run("experts_cases:strides_case", 4):
        for name, found in strides.items():
            assert found == expected[name.partition(".")[2]], name

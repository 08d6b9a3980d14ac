"""Sequences in pieces: what each rank holds, and that attention still sees all of it."""

from __future__ import annotations

import pytest
import torch
from gloo_gang import Gang
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.parallel.context import cut_sequence, pieces, sequence_counts, whole_length

pytestmark = pytest.mark.gloo


@pytest.mark.unit
@given(st.integers(1, 64))
def test_every_piece_is_held_once_and_every_rank_has_the_same_causal_work(degree: int) -> None:
    held = [pieces(rank, degree) for rank in range(degree)]
    assert sorted(piece for pair in held for piece in pair) == list(range(2 * degree))
    assert {early + late for early, late in held} == {2 * degree - 1}


@pytest.mark.unit
@given(degree=st.integers(1, 6), length=st.integers(1, 4), dim=st.integers(0, 2))
def test_the_pieces_of_all_ranks_are_the_sequence(degree: int, length: int, dim: int) -> None:
    shape = [2, 3, 4]
    shape[dim] = 2 * degree * length
    whole = torch.arange(torch.Size(shape).numel()).reshape(shape)
    other = torch.arange(5)
    cuts = [
        cut_sequence({"x": whole, "other": other}, {"x": dim}, rank, degree)
        for rank in range(degree)
    ]
    assert all(torch.equal(cut["other"], other) for cut in cuts)
    by_piece = {}
    for rank, cut in enumerate(cuts):
        if degree == 1:
            assert torch.equal(cut["x"], whole)
            return
        by_piece |= dict(zip(pieces(rank, degree), cut["x"].split(length, dim), strict=True))
    assert torch.equal(torch.cat([by_piece[i] for i in range(2 * degree)], dim), whole)


@pytest.mark.unit
def test_a_length_that_cannot_be_cut_says_which_can() -> None:
    with pytest.raises(ValueError, match=r"'x' along dimension 1 has 10 .* 2·2 = 4 .* 8 or 12"):
        cut_sequence({"x": torch.zeros(2, 10)}, {"x": 1}, 0, 2)
    with pytest.raises(ValueError, match=r"has 3 positions.*works: 8 positions"):
        cut_sequence({"x": torch.zeros(2, 3)}, {"x": 1}, 0, 4)


@pytest.mark.unit
def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(ValueError, match=r"names y, but Job.prepare returned x"):
        cut_sequence({"x": torch.zeros(2, 4)}, {"x": 1, "y": 1}, 0, 2)


@pytest.mark.unit
def test_counts_of_whole_sequences() -> None:
    before, total = sequence_counts(torch.tensor([[1, 0, 1, 1], [0, 0, 2, 5]]))
    assert before.tolist() == [[0, 1, 1, 2], [0, 0, 0, 2]]
    assert total.tolist() == [3, 7]
    assert whole_length(4) == 4


@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize("mode", ["none", "full", "selective"])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_attention_of_pieces_is_exact(gang: Gang, degree: int, mode: str, kv_heads: int) -> None:
    for distances in gang.run("context_cases:attention_case", degree, kv_heads, True, mode):
        assert max(distances.values()) < 1e-12, distances


def test_attention_without_a_mask_sees_every_position(gang: Gang) -> None:
    for distances in gang.run("context_cases:attention_case", 2, 2, False, "none"):
        assert max(distances.values()) < 1e-12, distances


def test_attention_in_bfloat16(gang: Gang) -> None:
    for found in gang.run("context_cases:autocast_case", 2):
        assert found["output"] < 0.02, found
        assert found["input"] < 0.02, found


def test_outside_the_blocks_nothing_changes(gang: Gang) -> None:
    assert gang.run("context_cases:outside_case", 2) == [True, True]


@pytest.mark.parametrize(("kind", "says"), [("mask", "attn_mask"), ("lengths", "4 queries to 6")])
def test_attention_that_cannot_be_cut_is_refused(gang: Gang, kind: str, says: str) -> None:
    for message in gang.run("context_cases:refused_case", 2, kind):
        assert says in message


@pytest.mark.parametrize("degree", [2, 4])
def test_counts_of_pieces_are_those_of_the_sequence(gang: Gang, degree: int) -> None:
    marks = torch.randint(0, 3, (3, 16, 5), generator=torch.Generator().manual_seed(degree))
    assert gang.run("context_cases:counts_case", degree, marks) == [(0.0, 0.0)] * degree

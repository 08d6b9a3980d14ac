"""What is passed over is never used, and everything else is, once and in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.feed.cursor import Order, share
from orchestrator.feed.loader import Loader
from orchestrator.feed.store import SampleStore
from orchestrator.feed.windows import NO_WINDOWS, Windows
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit

WINDOWS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 7)), max_size=6).map(
    lambda pairs: _laid_out(pairs)
)


def _laid_out(pairs: list[tuple[int, int]]) -> Windows:
    """Gap, length, gap, length, …; a gap of 0 makes two windows touch."""
    found, at = [], 0
    for gap, length in pairs:
        found.append((at + gap, at + gap + length))
        at += gap + length
    return Windows(tuple(found))


@given(WINDOWS, st.integers(1, 120))
def test_turns_are_the_positions_outside_of_the_windows_in_order(
    windows: Windows, count: int
) -> None:
    inside = {g for start, stop in windows.passed for g in range(start, stop)}
    outside = [g for g in range(count + windows.num_passed) if g not in inside]
    turns = np.arange(count, dtype=np.int64)
    assert windows.positions(turns).tolist() == outside[:count]
    assert [windows.position(turn) for turn in range(0, count, 7)] == outside[:count:7]


@given(WINDOWS, st.integers(0, 40), st.integers(1, 8))
def test_what_is_passed_over_changes_no_turn_before_it(
    windows: Windows, first: int, length: int
) -> None:
    """What was trained on stays what it was, also where a window lies in the middle."""
    grown = windows.passing_over(first, first + length)
    before = np.arange(first, dtype=np.int64)
    assert grown.positions(before).tolist() == windows.positions(before).tolist()
    after = np.arange(first, first + 20, dtype=np.int64)
    assert grown.positions(after).tolist() == windows.positions(after + length).tolist()
    assert grown.num_passed == windows.num_passed + length
    assert Windows.of([list(window) for window in grown.passed]) == grown


@pytest.mark.parametrize("wrong", [((4, 4),), ((5, 4),), ((0, 4), (3, 6)), ((4, 6), (0, 2))])
def test_windows_that_are_none_are_refused(wrong: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="not windows"):
        Windows(wrong)
    with pytest.raises(ValueError, match="not windows"):
        Windows.of([[1, 2, 3]])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, make_store: Any) -> SampleStore:
    storage = Storage.open(str(tmp_path_factory.mktemp("store")))
    make_store(storage, (13, 1, 27, 19))
    return SampleStore.open(storage)


@pytest.mark.parametrize("windows", [NO_WINDOWS, Windows(((16, 32), (48, 56)))])
@pytest.mark.parametrize("degree", [1, 2, 4])
def test_a_loader_passes_over_windows_whatever_the_number_of_ranks(
    store: SampleStore, windows: Windows, degree: int
) -> None:
    order = Order(5, 60, 0.1)
    ranks = []
    for rank in range(degree):
        with Loader(store, order, global_batch=8, micro_batch=2, first_step=1, last_step=9,
                    batch_rank=rank, batch_degree=degree, windows=windows) as loader:  # fmt: skip
            ranks.append([batch.ids.tolist() for batch in loader])
    found = [number for parts in zip(*ranks, strict=True) for ids in parts for number in ids]
    turns = np.arange(*share(1, 8, 0, 1), dtype=np.int64)[0] + np.arange(64, dtype=np.int64)
    assert found == order.ids_at(windows.positions(turns)).tolist()

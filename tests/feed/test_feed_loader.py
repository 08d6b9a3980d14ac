"""The loader hands over the right samples ahead of time, tells its stalls, and ends cleanly."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import DeadlineExceeded
from orchestrator.feed.cursor import Order, share
from orchestrator.feed.loader import Loader
from orchestrator.feed.store import SampleStore
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, make_store: Any) -> SampleStore:
    storage = Storage.open(str(tmp_path_factory.mktemp("store")))
    make_store(storage, (13, 1, 27, 19))
    return SampleStore.open(storage)


def loader_of(store: Any, **changed: Any) -> Loader:
    order = changed.pop("order", Order(5, 60, 0.1))
    options: dict[str, Any] = {"global_batch": 8, "micro_batch": 2, "first_step": 0}
    return Loader(store, order, **{**options, "last_step": 20, **changed})


@settings(deadline=None, max_examples=30)
@given(
    batch_rank=st.integers(0, 3),
    degree=st.sampled_from([1, 2, 4]),
    micro=st.sampled_from([1, 2]),
    first=st.integers(0, 30),
    count=st.integers(0, 300),
    prefetch=st.integers(1, 5),
)
def test_each_step_has_its_share_of_the_order(
    store: SampleStore,
    batch_rank: int,
    degree: int,
    micro: int,
    first: int,
    count: int,
    prefetch: int,
) -> None:
    order = Order(5, 60, 0.1)
    rank = batch_rank % degree
    with loader_of(
        store,
        order=order,
        batch_rank=rank,
        batch_degree=degree,
        micro_batch=micro,
        first_step=first,
        last_step=first + count,
        prefetch=prefetch,
    ) as loader:
        batches = list(loader)
    assert [batch.step for batch in batches] == list(range(first, first + count))
    for batch in batches:
        assert np.array_equal(batch.ids, order.train_ids(*share(batch.step, 8, rank, degree)))
        assert len(batch.micro_batches) == 8 // degree // micro
        taken = np.concatenate([part["id"] for part in batch.micro_batches])
        assert np.array_equal(taken, batch.ids)
        assert all(part["grid"].shape == (micro, 2, 3) for part in batch.micro_batches)


def test_a_changing_world_takes_every_sample_once_an_epoch(store: SampleStore) -> None:
    order = Order(5, 60, 0.1)
    consumed: list[int] = []
    for degree, steps in ((2, range(5)), (4, range(5, 11)), (1, range(11, 27))):
        parts = []
        for rank in range(degree):
            with loader_of(
                store,
                order=order,
                batch_rank=rank,
                batch_degree=degree,
                first_step=steps.start,
                last_step=steps.stop,
            ) as loader:
                parts.append([batch.ids.tolist() for batch in loader])
        consumed += [i for ranks in zip(*parts, strict=True) for ids in ranks for i in ids]
    for epoch in range(4):
        assert sorted(consumed[54 * epoch : 54 * (epoch + 1)]) == sorted(order.train_ids(0, 54))


def test_arrays_belong_to_the_caller(store: SampleStore) -> None:
    torch = pytest.importorskip("torch")

    with loader_of(store) as loader, warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = next(loader), next(loader)
        before = second.micro_batches[0]["grid"].copy()
        for part in first.micro_batches:
            for array in part.values():
                torch.from_numpy(array).zero_()
        assert np.array_equal(second.micro_batches[0]["grid"], before)


class SlowStore:
    """A store whose reads take ``seconds``, or wait for ``gate``, or fail at a read."""

    def __init__(self, store: SampleStore, seconds: float = 0.0, fail_at: int = -1) -> None:
        self._store, self._seconds, self._fail_at = store, seconds, fail_at
        self.num_samples, self.columns, self.name = store.num_samples, store.columns, "slow"
        self.num_reads = 0
        self.gate = threading.Event()
        self.gate.set()

    def take(self, ids: np.ndarray, allocate: Any) -> Any:
        self.gate.wait(10)
        time.sleep(self._seconds)
        if self.num_reads == self._fail_at:
            raise OSError("the disk is gone")
        self.num_reads += 1
        return self._store.take(ids, allocate)


@pytest.fixture
def single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small steps are not read in groups."""
    monkeypatch.setattr("orchestrator.feed.loader._MOST_STEPS_IN_GROUP", 1)


@pytest.mark.usefixtures("single_steps")
def test_reading_is_hidden_behind_computing(store: SampleStore) -> None:
    slow = SlowStore(store, seconds=0.02)
    with loader_of(slow, last_step=6) as loader:
        next(loader)
        stalled = loader.stall_seconds
        assert stalled > 0.01
        for _ in range(5):
            time.sleep(0.06)
            next(loader)
        # One stall would be 0.02 s; 0.06 s of computing hides it even on a busy machine.
        assert loader.stall_seconds - stalled < 0.02


@pytest.mark.usefixtures("single_steps")
def test_waiting_is_counted(store: SampleStore) -> None:
    with loader_of(SlowStore(store, seconds=0.05), last_step=4) as loader:
        began = time.monotonic()
        list(loader)
        elapsed = time.monotonic() - began
    assert 0.8 * elapsed < loader.stall_seconds <= elapsed


@pytest.mark.usefixtures("single_steps")
def test_no_more_is_read_ahead_than_asked_for(store: SampleStore) -> None:
    slow = SlowStore(store)
    with loader_of(slow, prefetch=3, last_step=1000) as loader:
        next(loader)
        time.sleep(0.3)
        # Taken, three waiting, one in the thread's hand.
        assert slow.num_reads == 5


def test_small_steps_are_read_in_bounded_groups(store: SampleStore) -> None:
    slow = SlowStore(store)
    with loader_of(slow, last_step=640) as loader:
        assert len(list(loader)) == 640
    assert slow.num_reads == 10


@pytest.mark.usefixtures("single_steps")
def test_errors_of_the_thread_reach_the_caller(store: SampleStore) -> None:
    loader = loader_of(SlowStore(store, fail_at=2))
    assert [next(loader).step, next(loader).step] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(loader)
    with pytest.raises(RuntimeError, match="closed"):
        next(loader)
    loader.close()


def test_a_wait_has_a_deadline(store: SampleStore) -> None:
    slow = SlowStore(store)
    slow.gate.clear()
    loader = loader_of(slow, timeout_seconds=0.1, first_step=3)
    with pytest.raises(DeadlineExceeded, match="for the samples of step 3"):
        next(loader)
    with pytest.raises(DeadlineExceeded, match=r"waited 0\.1 s for the loader to finish"):
        loader.close(timeout_seconds=0.1)
    slow.gate.set()
    loader.close()


def test_close_ends_the_thread_at_once(store: SampleStore) -> None:
    loader = loader_of(store, last_step=10**9)
    next(loader)
    began = time.monotonic()
    loader.close()
    assert time.monotonic() - began < 2
    assert not any(thread.name == "axis-loader" for thread in threading.enumerate())
    with pytest.raises(RuntimeError, match="closed"):
        next(loader)
    loader.close()


def test_a_dropped_loader_ends_too(store: SampleStore) -> None:
    loader = loader_of(store, last_step=10**9)
    thread = loader._thread
    del loader
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_no_steps_are_no_batches(store: SampleStore) -> None:
    with loader_of(store, first_step=7, last_step=7) as loader:
        assert list(loader) == []
    with loader_of(store, first_step=9, last_step=7) as loader:
        assert list(loader) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_degree": 3}, "8 mod 3 = 2"),
        ({"micro_batch": 3}, "micro_batch 3 does not divide the 8 samples"),
        ({"micro_batch": 0}, "micro_batch 0"),
        ({"prefetch": 0}, "at least 1 step"),
        ({"order": Order(0, 59, 0.1)}, "an order|the order is one of 59 samples"),
    ],
)
def test_senseless_settings_are_refused(
    store: SampleStore, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loader_of(store, **changed)


def test_pinned_memory(store: SampleStore) -> None:
    torch = pytest.importorskip("torch")
    from orchestrator.parallel.pinned import pinned_empty

    if not torch.cuda.is_available():
        with loader_of(store, allocate=pinned_empty) as loader, pytest.raises(RuntimeError):
            next(loader)
        return
    with loader_of(store, allocate=pinned_empty) as loader:
        for batch in loader:
            taken = np.concatenate([part["id"] for part in batch.micro_batches])
            assert np.array_equal(taken, batch.ids)
            assert torch.from_numpy(batch.micro_batches[1]["grid"]).is_pinned()

"""Which arrays does a worker need next, and are they there before it asks?

A thread takes the samples of coming steps out of the store while the worker computes. It
knows the order and this worker's share of it; it does not know what a step does with them.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from orchestrator.errors import DeadlineExceeded
from orchestrator.feed.cursor import Order, share
from orchestrator.feed.shuffle import Ids
from orchestrator.feed.store import Allocate, SampleStore
from orchestrator.feed.windows import NO_WINDOWS, Windows

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

# A shuffle or a gather of 32 samples costs nearly as much as one of some thousands, so ids are
# computed, and small steps read and handed over, many at a time.
_IDS_AT_ONCE = 8192
_GROUP_BYTES = 1 << 20
_MOST_STEPS_IN_GROUP = 64
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class StepBatch:
    """One rank's samples of one step.

    ``ids`` are its ``b`` sample ids; ``micro_batches`` are its columns, cut into ``b/m``
    contiguous views of ``[m, *shape]`` in the same order. The arrays are writable.
    """

    step: int
    ids: Ids
    micro_batches: list[Arrays]


@dataclass(frozen=True)
class _Failure:
    error: BaseException


_Group = list[StepBatch] | _Failure


class Loader:
    """Iterates over the steps ``first_step ≤ step < last_step`` of one batch rank, once.

    ``global_batch`` is B, of which batch rank r of D takes ``b = B/D`` samples a step, in
    micro-batches of m. At least ``prefetch`` steps are read ahead; steps of few bytes are read
    in groups of up to 1 MiB. Positions in ``windows`` are passed over. ``allocate`` makes the
    arrays, for instance where a GPU can fetch them. ``timeout_seconds`` bounds the wait for one
    step.

    Raises ``ValueError`` where D does not divide B or m not b, or where ``order`` is not one
    of the store's samples. What fails in the thread is raised by the iteration.
    """

    def __init__(
        self,
        store: SampleStore,
        order: Order,
        *,
        global_batch: int,
        micro_batch: int,
        first_step: int,
        last_step: int,
        batch_rank: int = 0,
        batch_degree: int = 1,
        prefetch: int = 4,
        windows: Windows = NO_WINDOWS,
        allocate: Allocate = np.empty,
        timeout_seconds: float = 300.0,
    ) -> None:
        start, stop = share(first_step, global_batch, batch_rank, batch_degree)
        if micro_batch < 1 or (stop - start) % micro_batch:
            raise ValueError(
                f"micro_batch {micro_batch} does not divide the {stop - start} samples of a "
                f"rank: {global_batch} / {batch_degree} = {stop - start}"
            )
        if order.num_samples != store.num_samples:
            raise ValueError(
                f"the order is one of {order.num_samples} samples; {store.name} has "
                f"{store.num_samples}"
            )
        if prefetch < 1:
            raise ValueError(f"at least 1 step is read ahead, not {prefetch}")
        self.stall_seconds = 0.0
        self._next_step, self._last_step = first_step, last_step
        self._timeout_seconds = timeout_seconds
        self._ready: deque[StepBatch] = deque()
        self._stop = threading.Event()
        work = _Work(
            store, order, windows, global_batch, batch_rank, batch_degree, micro_batch, allocate
        )
        self._queue: queue.Queue[_Group] = queue.Queue(-(-prefetch // work.steps_in_group))
        # The thread holds no reference to the loader, so that one that is dropped ends it.
        arguments = (work, range(first_step, last_step), self._queue, self._stop)
        self._thread = threading.Thread(
            target=_produce, args=arguments, name="axis-loader", daemon=True
        )
        weakref.finalize(self, self._stop.set)
        self._thread.start()

    def __iter__(self) -> Iterator[StepBatch]:
        return self

    def __next__(self) -> StepBatch:
        if self._next_step >= self._last_step:
            raise StopIteration
        if self._stop.is_set():
            raise RuntimeError("the loader is closed")
        if not self._ready:
            self._ready.extend(self._next_group())
        batch = self._ready.popleft()
        self._next_step = batch.step + 1
        return batch

    def close(self, timeout_seconds: float = 10.0) -> None:
        """End the thread. Raises ``DeadlineExceeded`` if it does not end in time."""
        self._stop.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            raise DeadlineExceeded(
                f"waited {timeout_seconds:g} s for the loader to finish reading step "
                f"{self._next_step} or later"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _next_group(self) -> list[StepBatch]:
        try:
            group = self._queue.get_nowait()
        except queue.Empty:
            group = self._wait()
        if isinstance(group, _Failure):
            self._stop.set()
            raise group.error
        return group

    def _wait(self) -> _Group:
        began = time.monotonic()
        try:
            while True:
                try:
                    return self._queue.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    self._check_waiting(time.monotonic() - began)
        finally:
            self.stall_seconds += time.monotonic() - began

    def _check_waiting(self, waited_seconds: float) -> None:
        if not self._thread.is_alive() and self._queue.empty():
            raise RuntimeError(f"the loader's thread ended before step {self._next_step}")
        if waited_seconds > self._timeout_seconds:
            raise DeadlineExceeded(
                f"waited {waited_seconds:.0f} s for the samples of step {self._next_step}"
            )


@dataclass(frozen=True)
class _Work:
    store: SampleStore
    order: Order
    windows: Windows
    global_batch: int
    batch_rank: int
    batch_degree: int
    micro_batch: int
    allocate: Allocate

    @property
    def per_rank(self) -> int:
        return self.global_batch // self.batch_degree

    @property
    def steps_in_group(self) -> int:
        step_bytes = self.per_rank * sum(column.size_bytes for column in self.store.columns)
        return max(1, min(_MOST_STEPS_IN_GROUP, _GROUP_BYTES // step_bytes))

    def groups(self, steps: range) -> Iterator[list[StepBatch]]:
        in_group = self.steps_in_group
        steps_at_once = in_group * max(1, _IDS_AT_ONCE // (self.per_rank * in_group))
        for first in range(0, len(steps), steps_at_once):
            block = steps[first : first + steps_at_once]
            ids = self._ids(block)
            for start in range(0, len(block), in_group):
                stop = start + in_group
                yield self._group(block[start:stop], ids[start:stop])

    def _group(self, steps: range, ids: Ids) -> list[StepBatch]:
        arrays = self.store.take(ids.reshape(-1), self.allocate)
        return [
            StepBatch(step, ids[index], self._cut(arrays, index * self.per_rank))
            for index, step in enumerate(steps)
        ]

    def _ids(self, steps: range) -> Ids:
        first, _ = share(steps.start, self.global_batch, self.batch_rank, self.batch_degree)
        begins = first + self.global_batch * np.arange(len(steps), dtype=np.int64)
        turns = begins[:, None] + np.arange(self.per_rank, dtype=np.int64)
        positions = self.windows.positions(turns.reshape(-1))
        return self.order.ids_at(positions).reshape(turns.shape)

    def _cut(self, arrays: Arrays, begin: int) -> list[Arrays]:
        size = self.micro_batch
        return [
            {name: array[start : start + size] for name, array in arrays.items()}
            for start in range(begin, begin + self.per_rank, size)
        ]


def _produce(
    work: _Work,
    steps: range,
    out: queue.Queue[_Group],
    stop: threading.Event,
) -> None:
    try:
        for group in work.groups(steps):
            if not _put(out, group, stop):
                return
    except BaseException as exc:
        _put(out, _Failure(exc), stop)


def _put(out: queue.Queue[_Group], item: _Group, stop: threading.Event) -> bool:
    """Hand over; ``False`` once nobody wants it any more."""
    while not stop.is_set():
        try:
            out.put(item, timeout=_POLL_SECONDS)
            return True
        except queue.Full:
            continue
    return False

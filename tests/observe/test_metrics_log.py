"""Step records: written in bulk, read back whole, and what of them counts."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from orchestrator.errors import StorageError
from orchestrator.observe.metrics_log import MetricsLog, last_step, lasting, read_metrics, steps
from orchestrator.storage import Storage

pytestmark = pytest.mark.unit


@pytest.fixture(params=["local", "object"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage.open(str(tmp_path))
    return Storage.on(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "")


def step(number: int, loss: float = 1.0) -> dict[str, object]:
    return {"kind": "step", "step": number, "loss": loss}


@dataclass(frozen=True)
class Evaluation:
    kind: str
    step: int
    val_loss: float


def test_records_come_back_with_their_attempt(storage: Storage) -> None:
    with MetricsLog(storage, 1) as log:
        log.append(step(1, 2.5))
        log.append(Evaluation("eval", 1, math.inf))
    with MetricsLog(storage, 2) as log:
        log.append(step(2, math.nan))
    found = read_metrics(storage)
    assert found.num_unreadable == 0
    assert found.records[:2] == (
        {**step(1, 2.5), "attempt": 1},
        {"kind": "eval", "step": 1, "val_loss": math.inf, "attempt": 1},
    )
    assert math.isnan(found.records[2]["loss"])
    assert [each["step"] for each in read_metrics(storage, 2).records] == [2]
    newest = last_step(storage)
    assert newest is not None
    assert (newest["step"], newest["attempt"]) == (2, 2)


def test_nothing_is_there_before_anything_is_written(storage: Storage) -> None:
    assert read_metrics(storage).records == ()
    assert last_step(storage) is None
    MetricsLog(storage, 1).flush()
    assert storage.list("metrics") == []


def test_records_are_written_in_bulk(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.observe.metrics_log.FLUSH_RECORDS", 10)
    log = MetricsLog(storage, 1)
    for number in range(1, 26):
        log.append(step(number))
    assert len(read_metrics(storage).records) == 20
    log.close()
    assert len(read_metrics(storage).records) == 25


def test_a_writer_that_follows_a_dead_one_loses_only_the_torn_line(storage: Storage) -> None:
    with MetricsLog(storage, 1) as log:
        log.append(step(1))
    path = "metrics/attempt-0001.jsonl"
    path = path if storage.is_local else "metrics/attempt-0001/part-00000001.jsonl"
    storage.append(path, b'{"kind":"step","st')
    with MetricsLog(storage, 1) as log:
        log.append(step(2))
    found = read_metrics(storage)
    assert [each["step"] for each in found.records] == [1, 2]
    assert found.num_unreadable == 1


def test_steps_taken_again_are_counted_twice_but_last_once() -> None:
    first = [{**step(number, 1.0), "attempt": 1} for number in (1, 2, 3, 4)]
    second = [{**step(number, 2.0), "attempt": 2} for number in (3, 4, 5)]
    records = [*first, {"kind": "eval", "step": 4, "attempt": 1}, *second]
    assert steps(records) == Counter({1: 1, 2: 1, 3: 2, 4: 2, 5: 1})
    assert [(each["step"], each["loss"]) for each in lasting(records)] == [
        (1, 1.0),
        (2, 1.0),
        (3, 2.0),
        (4, 2.0),
        (5, 2.0),
    ]


def test_steps_that_a_rollback_took_back_do_not_last() -> None:
    """Within one attempt: steps 3 and 4 again, after a rollback to step 2."""
    taken = [(1, 1.0), (2, 1.0), (3, math.nan), (4, math.nan), (3, 2.0), (4, 2.0)]
    records = [{**step(number, loss), "attempt": 1} for number, loss in taken]
    found = [(each["step"], each["loss"]) for each in lasting(records)]
    assert found == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=1, max_size=6))
def test_whatever_is_lost_on_the_way_each_step_lasts_once(attempts: list[tuple[int, int]]) -> None:
    """Each attempt takes some steps and loses some of the last ones with its workers."""
    records, committed = [], 0
    for number, (taken, lost) in enumerate(attempts, start=1):
        records += [{**step(committed + each), "attempt": number} for each in range(1, taken + 1)]
        reached, committed = committed + taken, max(committed, committed + taken - lost)
    found = [int(each["step"]) for each in lasting(records)]
    assert found == list(range(1, reached + 1))


def test_a_disk_that_becomes_full_in_the_middle_of_a_line_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.storage import durable

    append_file, room = durable.append_file, [150]

    def on_a_small_disk(path: Path, data: bytes) -> None:
        append_file(path, data[: room[0]])
        room[0] -= min(len(data), room[0])
        if not room[0]:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "append_file", on_a_small_disk)
    storage = Storage.open(str(tmp_path))
    log = MetricsLog(storage, 1)
    for part in range(3):
        with suppress(StorageError):
            log.extend({"kind": "step", "step": 10 * part + number} for number in range(10))
    assert room == [0], "the fault fired"
    room[0] = 10**6
    log.flush()
    metrics = read_metrics(storage)
    assert [record["step"] for record in metrics.records] == list(range(30))
    assert metrics.num_unreadable == 0

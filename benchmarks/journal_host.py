"""Writes journals of any length, and reads one: what ``benchmarks.journal`` measures.

``write PLAIN COMPACTED NUM_EVENTS``: the events of one long run, as one journal that was never
compacted and as one that was compacted as the coordinator does it. ``read FOLDER``, ``by-hand
FOLDER``: time and memory of one reading, in a process of its own.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from orchestrator.coordinator import events as ev
from orchestrator.coordinator.decide import decide
from orchestrator.coordinator.policy import RunPolicy
from orchestrator.coordinator.state import CheckpointRecord, RunState, StoreRecord
from orchestrator.observe.event_lines import encode_line
from orchestrator.observe.journal import Journal, Retention
from orchestrator.observe.journal_files import list_layout, segment_path
from orchestrator.storage import Storage

POLICY = RunPolicy(
    steps=10**9,
    workers=(4, 2),
    restarts={"worker": -1, "node": -1},
    keep=3,
    gang_timeout_seconds=120.0,
    start_timeout_seconds=300.0,
    stop_timeout_seconds=60.0,
)
LOSSES, DRIVERS = 0.002, 0.0001
"""How often the worker group is lost, and a driver starts anew."""

CHECKPOINTS = 0.2
"""How often a sign of life is a checkpoint, whose predecessor is then deleted."""


def long_run(num_events: int) -> Iterator[ev.Event]:
    """The events of a run: signs of life, checkpoints and deletions, now and then a loss."""
    rng, state, count = random.Random(0), RunState(), 0
    while count < num_events:
        decision = decide(state, event := _next(rng, state, 30.0 * count))
        if decision.accepted:
            state, count = decision.state, count + 1
            yield event


def _next(rng: random.Random, state: RunState, at_seconds: float) -> ev.Event:
    attempt, drawn = state.attempt, rng.random()
    if state.phase == "new" or drawn < DRIVERS:
        opened = ev.Opened(attempt=attempt + 1, at_seconds=at_seconds, name="long", policy=POLICY)
        return replace(opened, plan_hash="0" * 64, holder="pid 1234 on node7")
    if state.phase == "reserving":
        return ev.GangPlaced(attempt=attempt, at_seconds=at_seconds, workers=4, note="dp 4")
    if state.phase == "sharding":
        store = StoreRecord(key="5f2c", content_hash="90ab", num_samples=72_345)
        return ev.StoreReady(attempt=attempt, at_seconds=at_seconds, store=store)
    if not state.started:
        step = state.committed_step + 1
        return ev.TrainingStarted(attempt=attempt, at_seconds=at_seconds, step=step)
    if state.doomed:
        doomed = state.doomed
        return ev.CheckpointsDeleted(attempt=attempt, at_seconds=at_seconds, folders=doomed)
    if drawn < DRIVERS + LOSSES:
        message = "rank 1 (pid 99 on node8) was killed by signal 9"
        failed = ev.TrainingFailed(
            attempt=attempt, at_seconds=at_seconds, cause="node", message=message
        )
        return replace(failed, rank=1, pid=99, node="node8")
    step = state.step + rng.randrange(1, 400)
    if rng.random() > CHECKPOINTS:
        return ev.Progressed(attempt=attempt, at_seconds=at_seconds, done=step)
    record = CheckpointRecord(
        step=step,
        attempt=attempt,
        folder=f"checkpoints/step-{step:08d}-attempt-{attempt:04d}",
        metrics={"val_loss": rng.random(), "val_accuracy": rng.random()},
        size_bytes=5_242_880,
        at_seconds=at_seconds,
    )
    return ev.CheckpointCommitted(attempt=attempt, at_seconds=at_seconds, checkpoint=record)


def write(plain: Storage, compacted: Storage, num_events: int) -> dict[str, object]:
    """Both journals; no line is synced by itself, which only the writing would notice."""
    events, seq, kinds = long_run(num_events), 0, dict[str, int]()
    every, compacting = Retention().snapshot_every, list[float]()
    while batch := list(islice(events, every)):
        lines: dict[int, list[bytes]] = {}
        for event in batch:
            seq += 1
            kinds[event.kind] = kinds.get(event.kind, 0) + 1
            lines.setdefault(event.attempt, []).append(encode_line(event, seq))
        for attempt, written in lines.items():
            _append(plain, attempt, b"".join(written))
            _append(compacted, attempt, b"".join(written))
        journal = Journal(compacted)
        state = journal.state()
        began = time.perf_counter()
        journal.compact(state)
        compacting.append(time.perf_counter() - began)
    return {"kinds": kinds, "compaction_seconds": sorted(compacting)[len(compacting) // 2]}


def _append(storage: Storage, attempt: int, data: bytes) -> None:
    layout = list_layout(storage)
    key = layout.newest if layout.newest[0] == attempt else (attempt, 1)
    storage.append(segment_path((key[0], key[1] + layout.is_closed(key))), data)


def read(storage: Storage) -> dict[str, object]:
    """The state of the run, as the coordinator and ``axis status`` get it."""
    journal = Journal(storage)
    state = journal.state()
    return {"num_events": journal.num_events, "step": state.committed_step}


def read_by_hand(storage: Storage) -> dict[str, object]:
    """The newest committed step from ``json.loads`` of every line, nothing checked."""
    num_events = step = 0
    for path in sorted(storage.local_path("journal").glob("*.jsonl")):
        with path.open() as file:
            for line in file:
                event = json.loads(line)["event"]
                num_events += 1
                if event["kind"] == "checkpoint-committed":
                    step = event["checkpoint"]["step"]
    return {"num_events": num_events, "step": step}


def main() -> None:
    """One command; prints what came out as one line of JSON."""
    what, folder, *others = sys.argv[1:]
    storage = Storage.open(folder)
    if what == "write":
        print(json.dumps(write(storage, Storage.open(others[0]), int(others[1]))))
        return
    reader = {"read": read, "by-hand": read_by_hand}[what]
    before, began, busy = _peak_mib(), time.perf_counter(), time.process_time()
    found = reader(storage)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - busy
    figures = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": _peak_mib()}
    size_mib = sum(path.stat().st_size for path in Path(folder).rglob("*.json*")) / 2**20
    print(json.dumps({**found, **figures, "start_mib": before, "size_mib": size_mib}))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

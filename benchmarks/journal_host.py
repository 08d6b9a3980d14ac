"""Writes journals of any length, and reads one: what ``benchmarks.journal`` measures.

``write PLAIN COMPACTED NUM_EVENTS``: the events of one long run, as one journal that was never
compacted and as one that was compacted as the coordinator does it. ``read FOLDER``, ``by-hand
FOLDER``: time and memory of one reading, in a process of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from itertools import islice
from pathlib import Path

from benchmarks.long_run import long_run
from orchestrator.observe.event_lines import encode_line
from orchestrator.observe.journal import Journal, Retention
from orchestrator.observe.journal_files import list_layout, segment_path
from orchestrator.storage import Storage


def write(plain: Storage, compacted: Storage, num_events: int) -> dict[str, object]:
    """Both journals; no line is synced by itself, which only the writing would notice."""
    events, seq, kinds = long_run(num_events), 0, dict[str, int]()
    every, compacting = Retention().snapshot_every, list[float]()
    while batch := list(islice(events, every)):
        lines: dict[int, list[bytes]] = {}
        for event, _ in batch:
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

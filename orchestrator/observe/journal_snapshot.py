"""How is a run's state written down, so that a replay need not begin with the first event?

One line of JSON with a format, the number of the last event that is folded in, a checksum and the
state; its fields are those of ``RunState``, whichever they are. Fields that are missing have their
defaults, so a later version reads what an earlier one wrote; a field or a format that is not known
is refused by name, since a state must not be read halfway. Does not know when it is taken
(``journal``), nor when it may be used (``journal_reading``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from orchestrator.coordinator.state import RunState
from orchestrator.errors import DamagedError
from orchestrator.observe.event_lines import checksum

FORMAT = 1
_LINE = re.compile(
    rb'\{"snapshot":(\d+),"seq":(\d+),"crc32":"([0-9a-f]{8})","state":(.*)\}\n', re.DOTALL
)
# A list of one: a bare dataclass would not take the settings, which those inside it inherit.
_ADAPTER: TypeAdapter[list[RunState]] = TypeAdapter(
    list[RunState], config=ConfigDict(extra="forbid")
)


class NewerSnapshot(DamagedError):
    """A snapshot that is whole, but of a version that this one does not know."""


def encode_snapshot(state: RunState, num_events: int) -> bytes:
    """``state`` as it is after ``num_events`` events of the journal."""
    (plain,) = _ADAPTER.dump_python([state])
    body = json.dumps(_spelled(plain), separators=(",", ":"), allow_nan=False).encode()
    head = (FORMAT, num_events, checksum(num_events, body))
    return b'{"snapshot":%d,"seq":%d,"crc32":"%08x","state":%b}\n' % (*head, body)


def decode_snapshot(data: bytes, num_events: int) -> RunState:
    """The state that ``encode_snapshot`` wrote.

    Raises ``DamagedError`` for bytes that are not what was written or are of another event than
    ``num_events``, ``NewerSnapshot`` naming the format or the field that is not known.
    """
    match = _LINE.fullmatch(data)
    if match is None:
        raise DamagedError(f"not a snapshot: {data[:60]!r}")
    written, seq, body = int(match[1]), int(match[2]), match[4]
    if checksum(seq, body) != int(match[3], 16):
        raise DamagedError("the snapshot is not what was written (crc32 does not match)")
    if seq != num_events:
        raise DamagedError(f"the snapshot is of event {seq}, its name says {num_events}")
    if written != FORMAT:
        raise NewerSnapshot(f"a snapshot of format {written}; this version reads {FORMAT}")
    try:
        return _ADAPTER.validate_json(b"[%b]" % body)[0]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "state"
        raise NewerSnapshot(f"not a state of this version: {place}: {first['msg']}") from None


def _spelled(value: Any) -> Any:
    """``value`` with NaN and infinities as the strings that are read back as numbers: a metric
    that became NaN is worth keeping, and JSON has no number for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): _spelled(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(each) for each in value]
    return value

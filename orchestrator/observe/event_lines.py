"""How is an event written down, so that damage to it is noticed?

A line holds the event's number in the run, a checksum of number and event, and the event's JSON.
A file is read in blocks: memory holds one block and one line of it. Does not know which file
follows which (``journal_reading``), nor what events mean.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

from orchestrator.coordinator.events import Event, from_json, to_json
from orchestrator.errors import DamagedError

_LINE = re.compile(rb'\{"seq":(\d+),"crc32":"([0-9a-f]{8})","event":(.*)\}')
_HEAD = re.compile(rb'\{"seq":(\d+),"crc32":"')


def encode_line(event: Event, seq: int) -> bytes:
    """``event`` as the ``seq``-th line of the run's journal, its newline included."""
    body = to_json(event)
    return b'{"seq":%d,"crc32":"%08x","event":%b}\n' % (seq, checksum(seq, body), body)


def decode_line(line: bytes) -> tuple[int, Event]:
    """The number and the event of a line without its newline.

    Raises ``DamagedError`` for what is no such line, does not match its checksum, or is no event
    of this version.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise DamagedError(f"not a line of a journal: {line[:60]!r}")
    seq, body = int(match[1]), match[3]
    if checksum(seq, body) != int(match[2], 16):
        raise DamagedError("the line is not what was written (crc32 does not match)")
    return seq, from_json(body)


def checksum(seq: int, body: bytes) -> int:
    """The CRC-32 of ``body``, begun with its number."""
    return zlib.crc32(body, seq & 0xFFFFFFFF)


def claimed_number(start: bytes) -> int | None:
    """The number that the beginning of a line claims, unchecked; ``None`` where it has none."""
    match = _HEAD.match(start)
    return int(match[1]) if match else None


class Lines:
    """The lines of a file given in blocks, without their newlines.

    When all are read, ``whole_bytes`` is how many bytes they and their newlines take, and
    ``tail_bytes`` how many follow the last newline: a line that was never finished.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.whole_bytes = 0
        self.tail_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        size_bytes, begun = 0, list[bytes]()
        for block in self._blocks:
            size_bytes += len(block)
            first, *others = block.split(b"\n")
            begun.append(first)
            if others:
                yield b"".join(begun)
                begun = [others.pop()]
                yield from others
        self.tail_bytes = sum(map(len, begun))
        self.whole_bytes = size_bytes - self.tail_bytes

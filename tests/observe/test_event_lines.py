"""Lines of events: whole or damaged, however the file is cut into blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from orchestrator.coordinator.events import Event
from orchestrator.errors import DamagedError, StorageError
from orchestrator.observe.event_lines import Lines, claimed_number, decode_line, encode_line
from orchestrator.storage import Storage
from tests.observe.long_run import told

pytestmark = pytest.mark.unit

EVENTS: list[Event] = [event for event, _ in told(31, 60)]


@given(st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"a", b"\n"))))
def test_lines_are_those_of_the_whole_file_however_it_is_cut(blocks: list[bytes]) -> None:
    data = b"".join(blocks)
    lines = Lines(blocks)
    *whole, tail = data.split(b"\n")
    assert list(lines) == whole
    assert lines.tail_bytes == len(tail)
    assert lines.whole_bytes == len(data) - len(tail)


@given(st.integers(0, len(EVENTS) - 1), st.integers(1, 2**63))
def test_a_line_gives_back_number_and_event(which: int, seq: int) -> None:
    line = encode_line(EVENTS[which], seq)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    found, event = decode_line(line[:-1])
    assert (found, repr(event)) == (seq, repr(EVENTS[which]))
    assert claimed_number(line[:40]) == seq


@given(st.integers(0, len(EVENTS) - 1), st.integers(0, 10**4), st.integers(0, 7))
def test_a_flipped_bit_never_passes(which: int, place: int, bit: int) -> None:
    line = bytearray(encode_line(EVENTS[which], 7)[:-1])
    line[place % len(line)] ^= 1 << bit
    with pytest.raises(DamagedError):
        decode_line(bytes(line))


@pytest.mark.parametrize("kind", ["local", "memory"])
@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 35])
def test_a_file_in_blocks_is_the_file(tmp_path: Path, kind: str, size: int) -> None:
    storage = (
        Storage.open(str(tmp_path))
        if kind == "local"
        else Storage.on(fs._MockFileSystem(), "folder")
    )
    data = bytes(range(size))
    storage.write_atomic("file", data)
    blocks = list(storage.read_blocks("file", 10))
    assert b"".join(blocks) == data
    assert all(0 < len(block) <= 10 for block in blocks)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    with pytest.raises(StorageError, match=r"cannot read .*/nothing: "):
        list(storage.read_blocks("nothing"))


def test_a_local_file_that_is_deleted_meanwhile_is_read_to_its_end(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    storage.write_atomic("file", b"0123456789")
    blocks = storage.read_blocks("file", 4)
    first = next(blocks)
    storage.delete("file")
    assert first + b"".join(blocks) == b"0123456789"

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import json_schema
from orchestrator.plan.quantities import (
    format_duration,
    format_size,
    parse_deadline,
    parse_duration,
    parse_size,
)
from orchestrator.plan.refusal import Refusal

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("2m", 120.0), ("1h30m", 5400.0), ("1h 30m", 5400.0), ("1.5s", 1.5), (3, 3.0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("32GiB", 2**35), ("500MB", 500_000_000), ("1.5kB", 1500), (7, 7), (7.0, 7)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "what", "works"),
    [
        ("2min", "min is not a unit of time; units are us, ms, s, m, h, d", "2m"),
        ("10 secs", "secs is not a unit", "10s"),
        ("3 Hours", "Hours is not a unit", "3h"),
        ("5µs", "µs is not a unit", "5us"),
        ("50 bananas", "bananas is not a unit of time", "50ms, 2m or 1h30m"),
        ("50", "has no unit", ""),
        ("soon", "is not a duration", "50ms, 2m or 1h30m"),
        ("", "is not a duration", "50ms, 2m or 1h30m"),
        ("1m, 2s", "is not a duration", "50ms, 2m or 1h30m"),
        (True, "expected a duration", ""),
        (-1, "not negative", ""),
        (float("inf"), "finite", ""),
        ([2], "not a list", ""),
    ],
)
def test_refused_durations(text: object, what: str, works: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_duration(text)
    assert what in caught.value.what
    assert caught.value.works == works


@pytest.mark.parametrize(
    ("text", "what", "works"),
    [
        ("32gb", "gb is not a unit of size", "32GiB or 32GB"),
        ("32G", "G is not a unit of size", "32GiB or 32GB"),
        ("1k", "k is not a unit", "1KiB or 1kB"),
        ("5 lb", "lb is not a unit", "32GiB or 500MB"),
        ("1GiB2MiB", "one number and one unit", ""),
        ("0.3B", "not a whole number of bytes", ""),
        (0.5, "not a whole number of bytes", ""),
        (False, "expected a size", ""),
    ],
)
def test_refused_sizes(text: object, what: str, works: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_size(text)
    assert what in caught.value.what
    assert caught.value.works == works


def test_a_deadline_leaves_some_time() -> None:
    assert parse_deadline("1ms") == 0.001
    with pytest.raises(Refusal, match="no time at all"):
        parse_deadline("0s")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.05, "50ms"), (120.0, "2m"), (90.0, "90s"), (0.0, "0.0s"), (1e-7, None)]
)
def test_the_shortest_spelling(seconds: float, text: str | None) -> None:
    written = format_duration(seconds)
    assert text is None or written == text
    assert parse_duration(written) == seconds


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_every_duration_parses_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0))
def test_every_size_parses_back(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.text(alphabet="0123456789.smhdukKMGiB µ", max_size=8))
def test_the_schema_accepts_the_strings_that_the_parser_accepts(text: str) -> None:
    definitions = _SCHEMA["$defs"]
    duration = definitions["Gang"]["properties"]["timeout"]["anyOf"][1]["pattern"]
    size = definitions["Resources"]["properties"]["memory"]["anyOf"][1]["pattern"]
    assert _accepts(parse_duration, text) == bool(re.search(duration, text))
    if _accepts(parse_size, text):
        assert re.search(size, text)


def _accepts(parse: object, text: str) -> bool:
    try:
        parse(text)  # type: ignore[operator]
    except Refusal:
        return False
    return True


_SCHEMA = json_schema()

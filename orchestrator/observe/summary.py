"""How is a run told in a few lines, on a terminal?

Pure text from ``ReportFacts``: no colour, no bars. The whole page is in ``report``.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from orchestrator.coordinator.state import StoreRecord
from orchestrator.errors import EXIT_CODES
from orchestrator.observe.curve import sparkline
from orchestrator.observe.facts import ForecastFacts, ReportFacts
from orchestrator.observe.timeline import Stretch
from orchestrator.observe.wording import (
    counted,
    format_bytes,
    format_seconds,
    printable,
    shortened,
)

_SHOWN_PLACES = ("run", "report")
"""The report names the others."""
_LONGEST_REQUEST = 72
_MOST_ANSWER_LINES = 12
_SHORTEST_SECONDS = 0.05
_NARROWEST = 40


def verdict(facts: ReportFacts) -> str:
    """How the run ended, with its exit code, in one sentence."""
    outcome = facts.state.outcome
    if outcome is None:
        return f"not ended, {facts.state.phase}"
    meaning = EXIT_CODES.get(outcome.exit_code, "failed")
    return f"{meaning} (exit code {outcome.exit_code}): {outcome.message}"


def render_summary(facts: ReportFacts, width: int | None = None) -> str:
    """The run in a few lines of plain text, for a terminal of ``width`` columns.

    First what came of it, then where it lies, then what one may want to do next; commands are
    never broken. Without a width no line is. Without the user's traceback, which belongs on
    standard error and there only once.
    """
    said = f"{facts.title}: {verdict(facts)}".split("\n")
    head = "\n".join(_wrapped(line, "", "  ", width) for line in said)
    places = [(what, place) for what, place in facts.places.items() if what in _SHOWN_PLACES]
    blocks = [_outcome_rows(facts), places, list(facts.commands.items())]
    names = [name for block in blocks for name, _ in block]
    column = max((len(name) for name in names), default=0) + 4
    widths = (width, width, None)
    told = [_rows(rows, column, each) for rows, each in zip(blocks, widths, strict=True) if rows]
    return "\n\n".join([head, *told]) + "\n"


def _outcome_rows(facts: ReportFacts) -> list[tuple[str, str]]:
    state, store = facts.state, facts.state.store
    rows = []
    if facts.stretches:
        rows.append(("time", _time_line(facts.stretches)))
    if store:
        rows.append(("data", _store_line(store)))
    if facts.losses:
        curve = sparkline([loss for _, loss in facts.losses], 24)
        first, last = facts.losses[0], facts.losses[-1]
        rows.append(("loss", f"{first[1]:.4f} {curve} {last[1]:.4f} at step {last[0]:,}"))
    rows += _forecast_rows(facts.forecast)
    if facts.num_skipped:
        rows.append(("not finite", skipped_text(facts)))
    for loss in facts.group_losses:
        rows.append(("workers lost", f"in attempt {loss.attempt} ({loss.cause}): {loss.message}"))
    if state.promoted:
        rows.append(("promoted", f"step {state.promoted.step}: {state.promotion_reason}"))
    if facts.example and facts.example.error:
        rows.append(("request", f"not answered: {facts.example.error}"))
    elif facts.example:
        request = json.dumps(facts.example.request, ensure_ascii=False)
        rows.append(("request", shortened(printable(request), _LONGEST_REQUEST)))
        rows.append(("answer", answer_text(facts.example.answer)))
    return rows


_TOLD_LINES = ("step", "communication, exposed", "throughput")


def _forecast_rows(forecast: ForecastFacts | None) -> list[tuple[str, str]]:
    if forecast is None:
        return []
    rows = []
    if forecast.missing:
        rows.append(("predicted", forecast.missing.replace("no prediction", "nothing", 1)))
    else:
        told = [
            f"{name} {predicted}, was {measured} ({error})"
            for name, predicted, measured, error in forecast.rows
            if name in _TOLD_LINES
        ]
        rows.append(("predicted", "; ".join(told)))
    if forecast.limited:
        rows.append(("limited", forecast.limited))
    if forecast.would_help:
        rows.append(("would help", forecast.would_help))
    return rows


def skipped_text(facts: ReportFacts) -> str:
    """``4 steps skipped, 1 rollback``."""
    text = f"{counted(facts.num_skipped, 'step')} skipped"
    return f"{text}, {counted(facts.num_rollbacks, 'rollback')}" if facts.num_rollbacks else text


def answer_text(answer: Any) -> str:
    """An answer as a person reads it: text of several lines as such, the rest as JSON."""
    if isinstance(answer, str) and "\n" in answer:
        return _block(answer)
    if not isinstance(answer, dict):
        return _json(answer)
    texts = {
        name: value for name, value in answer.items() if isinstance(value, str) and "\n" in value
    }
    if not texts:
        return _json(answer)
    rest = {name: value for name, value in answer.items() if name not in texts}
    told = [f"{name}:\n{_block(value)}" for name, value in texts.items()]
    return "\n".join([*told, _json(rest)] if rest else told)


def _json(value: Any) -> str:
    return shortened(printable(json.dumps(value, ensure_ascii=False)))


def _block(text: str) -> str:
    lines = text.strip("\n").split("\n")
    shown = [f"| {printable(line)}".rstrip() for line in lines[:_MOST_ANSWER_LINES]]
    further = len(lines) - len(shown)
    return "\n".join([*shown, f"… {counted(further, 'line')} more"] if further else shown)


def _store_line(store: StoreRecord) -> str:
    text = f"{store.num_samples:,} samples, {format_bytes(store.size_bytes)}"
    text += ", reused" if store.reused else ""
    if not store.num_bad_files:
        return text
    shown = ", ".join(bad.path for bad in store.bad_files[:3])
    dots = ", …" if store.num_bad_files > 3 else ""
    return f"{text}; {counted(store.num_bad_files, 'file')} could not be read: {shown}{dots}"


def _time_line(stretches: Sequence[Stretch]) -> str:
    by_phase: dict[str, float] = {}
    for each in stretches:
        by_phase[each.phase] = by_phase.get(each.phase, 0.0) + each.seconds
    parts = [
        f"{phase} {format_seconds(seconds)}"
        for phase, seconds in by_phase.items()
        if seconds >= _SHORTEST_SECONDS
    ]
    total = format_seconds(sum(by_phase.values()))
    return f"{total}: {', '.join(parts)}" if parts else total


def _rows(rows: Sequence[tuple[str, str]], column: int, width: int | None) -> str:
    return "\n".join(line for name, text in rows for line in _row(name, text, column, width))


def _row(name: str, text: str, column: int, width: int | None) -> list[str]:
    """A name, and beside it its text, each line of which is wrapped by itself."""
    first, indent = f"  {name}".ljust(column), " " * column
    lines = text.split("\n")
    return [
        _wrapped(line, first if number == 0 else indent, indent, width)
        for number, line in enumerate(lines)
    ]


def _wrapped(text: str, first: str, indent: str, width: int | None) -> str:
    if width is None or len(first) + len(text) <= width or text.startswith("| "):
        return f"{first}{text}".rstrip()
    return textwrap.fill(
        text,
        max(width, _NARROWEST),
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )

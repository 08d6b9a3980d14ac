"""How is a run told in a few lines, on a terminal?

Pure text from ``ReportFacts``: no colour, no bars. The whole page is in ``report``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from orchestrator.coordinator.state import StoreRecord
from orchestrator.errors import EXIT_CODES
from orchestrator.observe.curve import sparkline
from orchestrator.observe.facts import ReportFacts
from orchestrator.observe.timeline import Stretch
from orchestrator.observe.wording import counted, format_bytes, format_seconds, shortened


def verdict(facts: ReportFacts) -> str:
    """How the run ended, with its exit code, in one sentence."""
    outcome = facts.state.outcome
    if outcome is None:
        return f"not ended, {facts.state.phase}"
    meaning = EXIT_CODES.get(outcome.exit_code, "failed")
    return f"{meaning} (exit code {outcome.exit_code}): {outcome.message}"


def render_summary(facts: ReportFacts) -> str:
    """The run in a few lines of plain text, for a terminal.

    Without the user's traceback, which belongs on standard error and there only once.
    """
    lines = [f"{facts.title}: {verdict(facts)}"]
    lines += _aligned(_summary_rows(facts))
    return "\n".join(lines) + "\n"


def _summary_rows(facts: ReportFacts) -> list[tuple[str, str]]:
    state, store = facts.state, facts.state.store
    rows = []
    if facts.stretches:
        rows.append(("time", _time_line(facts.stretches)))
    if store:
        rows.append(("data", _store_line(store)))
    if facts.losses:
        curve = sparkline([loss for _, loss in facts.losses], 24)
        rows.append(("loss", f"{facts.losses[0][1]:.4f} {curve} {facts.losses[-1][1]:.4f}"))
    for loss in facts.group_losses:
        rows.append(("workers lost", f"in attempt {loss.attempt} ({loss.cause}): {loss.message}"))
    if state.promoted:
        rows.append(("promoted", f"step {state.promoted.step}: {state.promotion_reason}"))
    if facts.example and not facts.example.error:
        rows.append(("request", json.dumps(facts.example.request, ensure_ascii=False)))
        rows.append(("answer", shortened(json.dumps(facts.example.answer, ensure_ascii=False))))
    return [*rows, *facts.places.items(), *facts.commands.items()]


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
    parts = [f"{phase} {format_seconds(seconds)}" for phase, seconds in by_phase.items()]
    return f"{format_seconds(sum(by_phase.values()))} ({', '.join(parts)})"


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(what) for what, _ in rows), default=0)
    return [f"  {what.ljust(width)}  {value}" for what, value in rows]

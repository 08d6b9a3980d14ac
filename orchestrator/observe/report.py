"""How is a run told to somebody who was not there? As one Markdown page.

Pure text from ``ReportFacts``; reads nothing and decides nothing. The few lines for a
terminal are in ``summary``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from orchestrator.coordinator.state import StoreRecord
from orchestrator.observe.curve import sparkline, spread
from orchestrator.observe.facts import Commit, ForecastFacts, ReportFacts
from orchestrator.observe.spent import goodput_line, time_rows
from orchestrator.observe.summary import render_summary, skipped_text, verdict
from orchestrator.observe.timeline import Stretch
from orchestrator.observe.wording import (
    capital,
    counted,
    format_bytes,
    format_seconds,
    markdown_table,
)

__all__ = ["render_report", "render_summary"]

_CURVE_ROWS = 10
_SHOWN_BAD_FILES = 20

_PHASE_WORDS = {
    "reserving": "reserving the gang",
    "sharding": "sharding the data",
    "training": "training",
    "stopping": "stopping, with a last checkpoint",
    "deploying": "bringing up the app",
    "serving": "serving",
    "ending": "giving everything back",
}


def render_report(facts: ReportFacts) -> str:
    """The run as a Markdown page."""
    sections = [
        _heading(facts),
        _section("How it went", _phases(facts)),
        _section("Predicted and measured", _forecast(facts.forecast)),
        _section("Data", _data(facts.state.store)),
        _section("Loss", _loss(facts)),
        _section("Checkpoints", _checkpoints(facts)),
        _section("Example", _example(facts)),
        _section("Where everything lies", _pairs(facts.places)),
        _section("What next", _pairs(facts.commands)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _heading(facts: ReportFacts) -> str:
    state = facts.state
    when = datetime.fromtimestamp(state.opened_at_seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    steps = f"{state.committed_step} of {state.steps} steps committed"
    lines = [
        f"# {facts.title}",
        f"**{capital(verdict(facts))}**",
        f"{steps}, in {counted(state.attempt, 'attempt')}, the last opened {when}.",
    ]
    if facts.about:
        lines.append("; ".join(f"{what}: `{value}`" for what, value in facts.about.items()) + ".")
    if state.outcome and state.outcome.user_traceback:
        lines.append(f"```\n{state.outcome.user_traceback.rstrip()}\n```")
    return "\n\n".join(lines)


def _phases(facts: ReportFacts) -> str:
    rows = [
        (str(each.attempt), _phase_words(each), format_seconds(each.seconds))
        for each in facts.stretches
    ]
    if not rows:
        return ""
    total = format_seconds(sum(each.seconds for each in facts.stretches))
    sum_row = ("", "**in all**", f"**{total}**")
    table = markdown_table(("attempt", "phase", "took"), [*rows, sum_row])
    return "\n\n".join(filter(None, [table, _spent(facts), *_restart_lines(facts)]))


def _forecast(forecast: ForecastFacts | None) -> str:
    if forecast is None:
        return ""
    head = ("of a step, if not said otherwise", "predicted", "measured", "error")
    parts = [markdown_table(head, forecast.rows)] if forecast.rows else []
    if forecast.missing:
        parts.append(f"{capital(forecast.missing)}.")
    if forecast.limited:
        parts.append(f"What limited it: {forecast.limited}.")
    if forecast.would_help:
        parts.append(f"What would help most, by prediction: {forecast.would_help}.")
    return "\n\n".join(parts)


def _spent(facts: ReportFacts) -> str:
    """The ledger: parts that sum to the whole."""
    ledger, policy = facts.state.ledger, facts.state.policy
    rows = [
        (name, format_seconds(seconds), f"{share:.1%}")
        for name, seconds, share in time_rows(ledger)
    ]
    if not rows:
        return ""
    sum_row = ("**in all**", f"**{format_seconds(ledger.wall_seconds)}**", "")
    table = markdown_table(("where the time went", "took", "share"), [*rows, sum_row])
    line = goodput_line(ledger, policy.price_per_hour if policy else None)
    return f"{table}\n\n{capital(line)}."


def _restart_lines(facts: ReportFacts) -> list[str]:
    lines = []
    if facts.group_losses:
        losses = (
            f"- in attempt {each.attempt} ({each.cause}): {each.message}"
            for each in facts.group_losses
        )
        lines.append("The worker group was lost:\n\n" + "\n".join(losses))
    if facts.num_steps_lost:
        lines.append(
            f"{counted(facts.num_steps_lost, 'step')} had been taken after the last checkpoint "
            "when workers were lost or state was rolled back, and were taken again."
        )
    if facts.num_skipped:
        lines.append(f"Loss or gradient norm were no finite numbers: {skipped_text(facts)}.")
    lines += [f"Torn tail found: {tail}." for tail in facts.torn]
    lines += [f"Journal: {remark}." for remark in facts.remarks]
    if facts.num_events_removed:
        lines.append(
            f"The first {facts.num_events_removed:,} events of the run are no longer kept: "
            "what is listed here begins after them."
        )
    return lines


def _data(store: StoreRecord | None) -> str:
    if store is None:
        return ""
    origin = "found complete from before" if store.reused else "built in this run"
    text = (
        f"{store.num_samples:,} samples in {counted(store.num_shards, 'shard')}, "
        f"{format_bytes(store.size_bytes)}, {origin}: `{store.folder}`"
    )
    if not store.num_bad_files:
        return text
    shown = store.bad_files[:_SHOWN_BAD_FILES]
    listed = "\n".join(f"- `{bad.path}`: {bad.reason}" for bad in shown)
    further = store.num_bad_files - len(shown)
    more = f"\n- and {further} more" if further > 0 else ""
    which = f"{counted(store.num_bad_files, 'file')} could not be read, and left out"
    return f"{text}\n\n{which}:\n\n{listed}{more}"


def _loss(facts: ReportFacts) -> str:
    if not facts.losses:
        return ""
    rows = [(str(step), f"{loss:.4f}") for step, loss in spread(facts.losses, _CURVE_ROWS)]
    curve = sparkline([loss for _, loss in facts.losses])
    first, last = facts.losses[0], facts.losses[-1]
    parts = [
        f"`{curve}`  {first[1]:.4f} at step {first[0]} → {last[1]:.4f} at step {last[0]}",
        markdown_table(("step", "loss"), rows),
    ]
    return "\n\n".join([*parts, *_speed_lines(facts)])


def _speed_lines(facts: ReportFacts) -> list[str]:
    if facts.samples_per_second is None:
        return []
    waited = ""
    if facts.data_share is not None:
        waited = f"; {facts.data_share:.1%} of a step was spent waiting for samples"
    return [f"{facts.samples_per_second:,.1f} samples per second{waited}."]


def _checkpoints(facts: ReportFacts) -> str:
    if not facts.commits:
        return ""
    names = sorted({name for commit in facts.commits for name in commit.record.metrics})
    rows = [_checkpoint_row(commit, names) for commit in facts.commits]
    table = markdown_table(("step", "attempt", *names, "size", "folder", ""), rows)
    reason = facts.state.promotion_reason
    return f"{table}\n\nPromotion: {reason}." if reason else table


def _checkpoint_row(commit: Commit, names: Sequence[str]) -> tuple[str, ...]:
    record = commit.record
    figures = [f"{record.metrics[name]:.4g}" if name in record.metrics else "–" for name in names]
    place = f"`{record.folder}`"
    size = format_bytes(record.size_bytes)
    return (str(record.step), str(record.attempt), *figures, size, place, commit.fate)


def _example(facts: ReportFacts) -> str:
    example = facts.example
    if example is None:
        return ""
    if example.error:
        return f"The example request was not answered: {example.error}"
    body = json.dumps(example.request, ensure_ascii=False)
    command = (
        f"curl -s {facts.request_url} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
    answer = json.dumps(example.answer, ensure_ascii=False, indent=2)
    source = f", by `{example.checkpoint}`" if example.checkpoint else ""
    again = facts.commands.get("serve again")
    down = f"\n\nThe app is down by now; `{again}` brings it up." if again else ""
    closing = "" if facts.state.app == "left" else down
    return (
        f"```sh\n{command}\n```\n\nanswered in {example.seconds * 1000:.0f} ms{source}:\n\n"
        f"```json\n{answer}\n```{closing}"
    )


def _phase_words(stretch: Stretch) -> str:
    words = _PHASE_WORDS.get(stretch.phase, stretch.phase)
    return f"{words} (recovering: {stretch.recovering})" if stretch.recovering else words


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _pairs(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"- {what}: `{value}`" for what, value in pairs.items())

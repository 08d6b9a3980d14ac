"""The design as a page that a person reads: six stages, each with its arithmetic.

The verdict comes first, what was assumed comes last. No line is longer than ``WIDTH``, apart from
names that cannot be broken.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from orchestrator.planner.design.answers import Answer
from orchestrator.planner.design.back_edge import BUSIEST
from orchestrator.planner.design.ceilings import Demand
from orchestrator.planner.design.defaults import Default
from orchestrator.planner.design.design import Design, Round
from orchestrator.planner.design.machine import FILL
from orchestrator.planner.design.pressures import BY_HAND_PER_MONTH, Pressure
from orchestrator.planner.design.radar import bar
from orchestrator.planner.design.sizing import Pool
from orchestrator.planner.design.tax_words import tax_lines
from orchestrator.planner.design.verdict import verdict
from orchestrator.planner.design.wording import count, counted, figure
from orchestrator.planner.design.work import parties_apart
from orchestrator.planner.design.workload import Workload

WIDTH = 100
_STAGE, _NAME = 12, 14
_CONSTANTS = (
    f"memory and disk are filled to {FILL:g}; people mend {figure(BY_HAND_PER_MONTH)} failure a "
    f"month by hand; others are at most {BUSIEST:g} busy while replicas are down"
)
_INDENT = " " * _STAGE


def worksheet(found: Design, defaults: Sequence[Default]) -> str:
    """The whole page."""
    title = found.workload.title or found.workload.name
    blocks = [
        [title[:1].upper() + title[1:], *_wrapped(verdict(found), "")],
        *_rounds(found),
        list(_machines(found)),
        list(_unmet(found)),
        list(_assumed(defaults)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _rounds(found: Design) -> Iterator[list[str]]:
    many = len(found.rounds) > 1
    for number, walk in enumerate(found.rounds, 1):
        lines = [f"Round {number}"] if many else []
        if number == 1:
            yield [*lines, *_stage(1, "CEILING", _ceiling(found, walk))]
            yield list(_stage(2, "AXES", _axes(walk)))
            yield list(_answers(found, walk))
        else:
            lines += _stage(1, "CEILING", _again(found.rounds[number - 2]))
            lines += _stage(2, "AXES", _changed_axes(found.rounds[number - 2], walk))
            lines += _stage(0, "", _same_answers(found.rounds[number - 2], walk))
            yield lines
        yield list(_stage(6, "TAXES", _taxes(found, walk)))


def _stage(number: int, name: str, lines: Iterator[str]) -> Iterator[str]:
    head = f"{number} {name}" if number else ""
    for line in lines:
        yield f"{head:<{_STAGE}}{line}" if head else f"{_INDENT}{line}"
        head = ""


def _ceiling(found: Design, walk: Round) -> Iterator[str]:
    binding = walk.binding
    if binding is None:
        yield "none: one machine is enough"
    else:
        others = sorted({d.ceiling for d in walk.demands if d.binds} - {binding.ceiling})
        also = f"; the {' and '.join(others)} too" if others else ""
        unit = found.workload.machine.unit if binding.ceiling == "model" else "machine"
        yield f"{binding.ceiling}: {binding.name} {figure(binding.ratio)}× one {unit}{also}"
    for demand in walk.demands:
        yield from _demand(demand)
    if not walk.demands:
        yield "nothing is asked for that a machine could run out of"


def _demand(demand: Demand) -> Iterator[str]:
    ratio = figure(demand.ratio) if demand.binds else f"{demand.ratio:.2f}"
    name = f"{demand.name:<{_NAME}} {ratio if demand.ratio >= 0.005 else '< 0.01':>6}×  "
    yield from _hanging(name, demand.arithmetic)


def _axes(walk: Round) -> Iterator[str]:
    spread = [each.axis for each in walk.distributed]
    yield f"distribute {_listed(spread)}" if spread else "distribute nothing"
    for each in walk.pressures:
        yield from _axis(each)


def _axis(each: Pressure) -> Iterator[str]:
    head = f"{each.axis:<{_NAME - 2}} {each.pressure:.2f} {bar(each.pressure, 10)}  "
    text = f"{each.how}: {each.why}" if each.how else f"not: {each.why}"
    yield from _hanging(head, text)


def _answers(found: Design, walk: Round) -> Iterator[str]:
    if found.one_machine:
        yield from _stage(3, "TOPOLOGY", iter(["moot: there is one machine"]))
    else:
        yield from _stage(3, "TOPOLOGY", _answer(walk.topology))
    yield from _stage(4, "MODE", _answer(walk.mode))
    yield from _stage(5, "METRIC", _metric(walk.metric))


def _answer(answer: Answer) -> Iterator[str]:
    yield from _hanging("", f"{answer.choice}: {answer.why}")


def _metric(answer: Answer) -> Iterator[str]:
    yield from _answer(answer)
    if answer.constraints:
        yield from _hanging("constraints: ", "; ".join(answer.constraints))


def _taxes(found: Design, walk: Round) -> Iterator[str]:
    lines = tax_lines(found.workload, walk)
    for name, text in lines:
        yield from _hanging(f"{name:<{_NAME}} ", text)
    if walk.turn is not None:
        yield from _hanging(f"{'back edge':<{_NAME}} ", f"taken, back to 1: {walk.turn.ceiling}")
    elif lines:
        done = "not taken" + (" again" if len(found.rounds) > 1 else "")
        settled = "no tax is the ceiling" if not walk.unmet else "no remedy is left"
        yield f"{'back edge':<{_NAME}} {done}: {settled}"
    else:
        yield "none: nothing crosses machines; a failure costs the work since the last save"


def _again(before: Round) -> Iterator[str]:
    if before.turn is not None:
        yield "the tax of the round before"


def _changed_axes(before: Round, walk: Round) -> Iterator[str]:
    if before.turn is not None:
        yield from _hanging("", before.turn.remedy)
    for old, new in zip(before.pressures, walk.pressures, strict=True):
        if (old.how, old.pressure) != (new.how, new.pressure):
            yield from _axis(new)


def _same_answers(before: Round, walk: Round) -> Iterator[str]:
    old = (before.topology.choice, before.mode.choice, before.metric.choice)
    new = (walk.topology.choice, walk.mode.choice, walk.metric.choice)
    yield "stages 3 to 5 stay as they are" if old == new else f"now {', '.join(new)}"


def _machines(found: Design) -> Iterator[str]:
    sizing, workload = found.final.sizing, found.workload
    rows = []
    if sizing.training is not None:
        rows.append(("training", _product(sizing.training, workload)))
    if sizing.serving is not None:
        index = sizing.index_machines
        text = _product(sizing.serving, workload)
        if index > 1:
            text = f"{sizing.serving.replicas} copies × {index} shards"
            text += f" = {sizing.serving_machines} machines"
        rows.append(("serving", text))
    if sizing.data_machines > 1 and not sizing.index_machines and parties_apart(workload) == 1:
        rows.append(("data", counted(sizing.data_machines, "machine")))
    if sizing.agents:
        rows.append(("agents", counted(sizing.agents, "machine")))
    total = counted(sizing.num_machines, "machine")
    if found.cost_per_month is not None:
        total += f", {count(round(found.cost_per_month))} a month"
    head = f"{'MACHINES':<{_STAGE}}"
    for name, text in [*rows, ("in all", total)]:
        yield f"{head}{name:<{_NAME}} {text}"
        head = _INDENT


def _product(pool: Pool, workload: Workload) -> str:
    unit = workload.machine.unit
    machines = counted(pool.num_machines, "machine")
    if unit == "machine" and pool.split == 1:
        return counted(pool.replicas, "replica") + f" on {machines}"
    product = f"{pool.replicas:,} × {pool.split:,} = {pool.num_devices:,} {unit}s"
    return f"{product} on {machines}" if unit == "device" else product


def _unmet(found: Design) -> Iterator[str]:
    head = f"{'UNMET':<{_STAGE}}"
    for text in found.unmet:
        for line in _hanging("", text):
            yield f"{head}{line}"
            head = _INDENT


def _assumed(defaults: Sequence[Default]) -> Iterator[str]:
    head = f"{'DEFAULTS':<{_STAGE}}"
    for section, values in groupby(defaults, key=lambda each: each.section):
        said = ", ".join(f"{each.name} {each.value}" for each in values)
        for line in _hanging(f"{section:<{_NAME}} ", said):
            yield f"{head}{line}"
            head = _INDENT
    for line in _hanging(f"{'constants':<{_NAME}} ", _CONSTANTS):
        yield f"{head}{line}"
        head = _INDENT


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _hanging(head: str, text: str) -> Iterator[str]:
    """``text`` beside ``head``, wrapped to what the stage's name leaves of the page."""
    yield from textwrap.wrap(
        text,
        WIDTH - _STAGE,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

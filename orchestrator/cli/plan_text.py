"""How is a plan told to a person, before anything starts?

The resolved plan first, then what it comes to, each number with where it comes from, and last
what needs attention: the end of a long text is what a terminal shows.
"""

from __future__ import annotations

import textwrap
from typing import Any

from orchestrator.plan.counts import Span
from orchestrator.plan.data import PythonSource
from orchestrator.plan.dump import dump_plan
from orchestrator.plan.inference import Inference
from orchestrator.plan.plan import Plan
from orchestrator.plan.quantities import format_duration

WIDTH = 100
_NAME_WIDTH = 14
_MOST_SIZES = 4
_MOST_RANKS = 16


def plan_text(plan: Plan, view: dict[str, Any]) -> str:
    """The whole text; no line of our own wording is longer than ``WIDTH``."""
    blocks = [
        dump_plan(plan).rstrip(),
        _rows(_what_it_comes_to(plan, view)),
        _written(view["writes"]),
        *[_warning(text) for text in view["warnings"]],
        _closing(view),
    ]
    return "\n\n".join(block for block in blocks if block)


def _what_it_comes_to(plan: Plan, view: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("run", f"{plan.name} in {plan.storage}: the same name and storage resume the same run"),
        ("data", _data(plan)),
        ("training", _training(plan, view)),
        *_sizes(plan, view["sizes"]),
        ("checkpoints", _checkpoints(view["checkpoints"])),
        ("inference", _inference(plan, plan.inference)),
        *_prediction(view["prediction"]),
    ]


def _prediction(prediction: dict[str, Any]) -> list[tuple[str, str]]:
    if prediction["no_prediction"]:
        return [("prediction", prediction["no_prediction"].replace("no prediction", "none", 1))]
    rows = []
    for size in prediction["sizes"]:
        rows.append(("prediction", f"{_counted(size['workers'], 'worker')}: {size['text'][0]}"))
        rows += [("", line) for line in size["text"][1:]]
    return rows


def _data(plan: Plan) -> str:
    data = plan.data
    source = data.source
    what = f"the Ray Dataset of {source.target}" if isinstance(source, PythonSource) else ""
    if not isinstance(source, PythonSource):
        what = f"{source.kind} files {source.glob} in {source.path}"
    held = (
        f"; {100 * data.holdout:.3g}% of the samples are held out of training"
        if data.holdout
        else ""
    )
    shards = f"at most {_counted(data.shards, 'shard')}"
    return f"{what}, cut into {shards}, {_counted(data.tasks, 'task')} at a time{held}"


def _training(plan: Plan, view: dict[str, Any]) -> str:
    training = plan.training
    return (
        f"{training.steps:,} steps × {training.global_batch:,} samples = "
        f"{view['num_samples_trained']:,} samples, by {training.optimizer.kind} with "
        f"lr {training.optimizer.lr:g}, in {training.precision}"
    )


def _sizes(plan: Plan, sizes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    shown = sizes if len(sizes) <= _MOST_SIZES else [*sizes[: _MOST_SIZES - 1], sizes[-1]]
    rows = []
    for size in shown:
        if len(sizes) > _MOST_SIZES and size is sizes[-1]:
            rows.append(("", f"… and {len(sizes) - _MOST_SIZES} more numbers of workers …"))
        rows += _size(plan, size)
    return rows


def _size(plan: Plan, size: dict[str, Any]) -> list[tuple[str, str]]:
    name = _counted(size["workers"], "worker")
    return [
        (name, f"mesh {_mesh(size['mesh'])}"),
        *[("", line) for line in _ranks(size)],
        ("", _batch(plan, size)),
        *[("", line) for line in _pipeline(size["pipeline"])],
        ("", f"reserves {_bundles(plan, size)}"),
    ]


def _batch(plan: Plan, size: dict[str, Any]) -> str:
    workers, ranks = size["workers"], size["batch_degree"]
    sharing = "" if ranks == workers else f" (each shared by {workers // ranks} workers)"
    noun = "micro-batch" if size["pipeline"] else "pass"
    passes = _counted(size["accumulation"], noun, f"{noun}es")
    return (
        f"batch {plan.training.global_batch} = {ranks} × {size['per_worker']} samples"
        f"{sharing}, in {passes} of {size['micro_batch']}"
    )


def _pipeline(pipeline: dict[str, Any] | None) -> list[str]:
    if pipeline is None:
        return []
    return [
        f"pipeline of {_counted(pipeline['stages'], 'stage')}, {pipeline['schedule']}: its workers "
        f"wait {100 * pipeline['idle_share']:.0f}% of the time for it to fill and to drain"
    ]


def _mesh(degrees: dict[str, int]) -> str:
    split = {name: degree for name, degree in degrees.items() if degree > 1}
    expert = split.pop("expert", None)
    text = " × ".join(f"{name} {degree}" for name, degree in split.items()) or "of one"
    # Not a factor: experts lie on ranks that are there already.
    return text if expert is None else f"{text}, with experts over {expert} of its ranks"


def _ranks(size: dict[str, Any]) -> list[str]:
    """Which rank stands where, if the mesh has more than one dimension to stand in."""
    split = [name for name, degree in size["mesh"].items() if degree > 1 and name != "expert"]
    if len(split) < 2 or size["ranks"] is None or len(size["ranks"]) > _MOST_RANKS:
        return []
    places = [
        f"{each['rank']} at ({','.join(str(each['coordinate'][name]) for name in split)})"
        for each in size["ranks"]
    ]
    return [f"ranks by ({', '.join(split)}): {'; '.join(places)}"]


def _bundles(plan: Plan, size: dict[str, Any]) -> str:
    bundles = " + ".join(bundle["text"] for bundle in size["bundles"])
    users = ["data tasks", "workers", *(["replicas"] if plan.inference else [])]
    turns = f"{', '.join(users[:-1])} and {users[-1]} take turns in them"
    timeout = format_duration(plan.coordination.gang.timeout)
    return f"{bundles}, all or none, within {timeout}; {turns}"


def _checkpoints(checkpoints: dict[str, Any]) -> str:
    best = checkpoints["keep_best"]
    kept = "the best" if best == 1 else f"the {best} best"
    rest = f"the newest {checkpoints['keep']} and {kept} are kept"
    evaluated = checkpoints["evaluated_samples"]
    if evaluated:
        rest = f"each with an evaluation on at most {evaluated:,} held-out samples; {rest}"
    return f"{_when(checkpoints)}; {rest}"


def _when(checkpoints: dict[str, Any]) -> str:
    interval, count = checkpoints["interval_steps"], checkpoints["count"]
    if interval is None:
        mtbf = format_duration(checkpoints["mtbf_seconds"])
        return (
            "as often as costs least, by what one is measured to take and how often something "
            f"fails (once in {mtbf} until the run knows better), and after the last step"
        )
    every = f"every {interval:,} steps and after the last" if count > 1 else "after the last step"
    return f"{count:,}: {every}"


def _inference(plan: Plan, inference: Inference | None) -> str:
    if inference is None:
        return "none: nothing is promoted or served"
    promote, gate = inference.promote, inference.promote.when
    text = f"the checkpoint with the {_best(promote.mode)} {promote.metric}"
    if gate is not None:
        bounds = [("below", gate.below), ("above", gate.above)]
        said = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
        text += f", if its {gate.metric} is {said}" if said else ""
    address = f"http://{inference.host}:{inference.port}/{plan.name}"
    asked = "; the example request is sent to it" if inference.example is not None else ""
    return f"{text}, is served by {_span(inference.replicas)} at {address}{asked}"


def _best(mode: str) -> str:
    return "highest" if mode == "max" else "lowest"


def _span(span: Span) -> str:
    return f"{span.min} to {span.max} replicas" if span.elastic else _counted(span.min, "replica")


def _written(writes: dict[str, str]) -> str:
    width = max(len(place) for place in writes)
    lines = [f"  {place:<{width}}  {what}" for place, what in writes.items()]
    return "\n".join(["written by a run:", *lines])


def _warning(text: str) -> str:
    return textwrap.fill(
        f"warning: {text}",
        WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _closing(view: dict[str, Any]) -> str:
    return f"Nothing was started or written. sha256 {view['hash'][:12]}"


def _rows(rows: list[tuple[str, str]]) -> str:
    return "\n".join(_row(name, text) for name, text in rows)


def _row(name: str, text: str) -> str:
    """A name and its text, wrapped beside it; addresses and paths are never cut."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"{name:<{_NAME_WIDTH - 1}} ",
        subsequent_indent=" " * _NAME_WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _counted(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"

"""``axis render``: the plan as manifests for Kubernetes, or as a script for Slurm."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from orchestrator.cli.plan_command import check_mesh, load_checked
from orchestrator.errors import PlanError, Problem
from orchestrator.plan.load import LoadedPlan
from orchestrator.plan.wording import choice
from orchestrator.render.kinds import KINDS
from orchestrator.render.kubernetes import Rendered, render
from orchestrator.render.overlays import tree
from orchestrator.render.profile import BUILT_IN, load_profile
from orchestrator.render.sizing import Kind

TARGETS = ("kuberay", "slurm")


@dataclass(frozen=True)
class RenderOptions:
    """What the command line says beyond the plan."""

    target: str
    kind: str
    profiles: tuple[str, ...]
    image: str | None
    output: str | None
    as_json: bool


def render_plan(path: str, overrides: list[str], options: RenderOptions) -> None:
    """Print or write what the target takes. Raises ``PlanError`` for what it cannot hold."""
    _check_word("--target", options.target, TARGETS)
    loaded = load_checked(path, overrides)
    warnings = check_mesh(loaded)
    try:
        files, said = _files(loaded, path, overrides, options)
    except PlanError as error:
        problems = [loaded.locate(problem) for problem in error.problems]
        raise PlanError(problems, loaded.source) from error
    _tell(files, [*warnings, *said], options)


def _files(
    loaded: LoadedPlan, path: str, overrides: Sequence[str], options: RenderOptions
) -> tuple[dict[str, str], list[str]]:
    """The files by their names, one alone for standard output; and warnings."""
    command = _command(path, overrides, options)
    if options.target == "slurm":
        from orchestrator.render.slurm import load_slurm_profile, script

        profile = load_slurm_profile(_own_texts(options.profiles))
        text = script(loaded.plan, profile, path, tuple(overrides), command)
        return {f"{loaded.plan.name}.sbatch": text}, []
    _check_word("--kind", options.kind, tuple(KINDS))
    base = _rendered(loaded, options, (), command)
    said = list(base.warnings)
    if options.output is None:
        return {f"{loaded.plan.name}.yaml": base.stream()}, said
    others: dict[str, Rendered | PlanError] = {}
    for name in BUILT_IN:
        if name in options.profiles:
            continue
        try:
            others[name] = _rendered(loaded, options, (name,), command)
        except PlanError as error:
            others[name] = error
            why = "; ".join(problem.sentence() for problem in error.problems)
            said.append(f"no overlay {name}: {why}")
    return tree(base, others), said


def _rendered(
    loaded: LoadedPlan, options: RenderOptions, further: Sequence[str], command: str
) -> Rendered:
    kind: Kind = "job"
    for known in ("job", "service", "cluster"):
        if options.kind == known:
            kind = known
    names = (*options.profiles, *further)
    profile = load_profile(names, _own_texts(names))
    if options.image:
        profile = profile.model_copy(update={"image": options.image})
    return render(loaded.plan, profile, kind, command)


def _own_texts(names: Sequence[str]) -> Mapping[str, str]:
    """The profiles that are files, by their names; a path has a slash or ends in .yaml."""
    found = {}
    for name in names:
        if "/" not in name and not name.endswith((".yaml", ".yml")):
            continue
        try:
            found[name] = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problem = Problem("--profile", f"{name} cannot be read: {reason}")
            raise PlanError([problem], "command line") from error
    return found


def _check_word(option: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        problem = Problem(option, f"there is no {word}", works=choice(list(known)))
        raise PlanError([problem], "command line")


def _command(path: str, overrides: Sequence[str], options: RenderOptions) -> str:
    """The command that renders the same again, without where it is written."""
    words = ["axis", "render", path, *overrides, "--target", options.target]
    if options.target == "kuberay" and options.kind != "job":
        words += ["--kind", options.kind]
    for name in options.profiles:
        words += ["--profile", name]
    if options.image:
        words += ["--image", options.image]
    return shlex.join(words)


def _tell(files: Mapping[str, str], warnings: Sequence[str], options: RenderOptions) -> None:
    if options.output is not None:
        written = _write(Path(options.output), files)
    elif options.as_json:
        written = []
    else:
        typer.echo(next(iter(files.values())), nl=False)
        written = []
    if options.as_json:
        shown = {} if options.output is not None else dict(files)
        fields = {"kind": "render", "target": options.target, "files": shown, "written": written}
        typer.echo(json.dumps({**fields, "warnings": list(warnings)}))
        return
    for text in warnings:
        typer.echo(f"warning: {text}", err=True)
    if written:
        typer.echo(
            "\n".join([f"wrote {len(written)} files to {options.output}:", *_listed(written)])
        )
        typer.echo(_next(options))


def _listed(written: Sequence[str]) -> list[str]:
    return [f"  {path}" for path in written]


def _next(options: RenderOptions) -> str:
    if options.target == "slurm":
        return f"submit it: sbatch {options.output}/*.sbatch"
    return f"apply it: kubectl apply -k {options.output}/base, or one of {options.output}/overlays/"


def _write(folder: Path, files: Mapping[str, str]) -> list[str]:
    written = []
    for name, text in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            what = f"{path} cannot be written: {error.strerror or error}"
            raise PlanError([Problem("--output", what)], "command line") from error
        written.append(str(path))
    return written

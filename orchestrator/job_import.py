"""Turns ``module:Class`` in a plan into the user's Job.

Modules are found from the working directory first, without installation. Whatever the
user's own code raises is kept as a traceback that begins in the user's code.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.errors import JobError, PlanError, Problem
from orchestrator.job import Job
from orchestrator.plan.load import LoadedPlan
from orchestrator.plan.plan import Plan
from orchestrator.plan.split_checks import check_split, needs_split, tells_loss_in_parts
from orchestrator.secret import concealer, resolve_all
from orchestrator.split import Split


def add_working_directory(directory: str | Path = ".") -> str:
    """Make modules of ``directory`` importable, ahead of everything else; returns its path."""
    path = str(Path(directory).resolve())
    if path not in sys.path:
        sys.path.insert(0, path)
    return path


def concealer_of(plan: Plan) -> Callable[[str], str]:
    """A function that puts the plan's references back in the place of the secrets that they stand
    for on this machine, in what user code says: prints, logs, raises or answers."""
    return concealer(plan.model_dump(mode="json"))


def load_job(plan: Plan) -> Job:
    """Import and construct the plan's Job.

    Raises ``JobError`` when the module or class is missing, the class is not a Job, an
    option is not one the constructor takes, or the user's code raises, and ``SecretMissing``.
    """
    found = import_target(plan.job, "job")
    if not (isinstance(found, type) and issubclass(found, Job)):
        raise JobError(Problem("job", f"{plan.job} is not a class derived from orchestrator.Job"))
    _check_options(found, plan.options)
    options = resolve_all(plan.options)
    try:
        return found(**options)
    except Exception as error:
        conceal = concealer_of(plan)
        raise JobError(
            Problem("options", conceal(f"{found.__name__} refused its options: {error}")),
            user_traceback=conceal(user_traceback(error)),
        ) from None


def load_job_for_mesh(loaded: LoadedPlan) -> Job:
    """``load_job``, for a plan that is to be carried out; problems have their place in the file.

    Raises ``PlanError`` besides, for a model that cannot be cut as the plan's mesh asks, and
    ``JobError`` when the Job's ``split`` raises or returns something else than a ``Split``.
    """
    try:
        job = load_job(loaded.plan)
        problems = _mesh_problems(loaded.plan, job)
    except JobError as error:
        problem = loaded.locate(error.problems[0])
        raise JobError(problem, error.user_traceback, loaded.source) from error
    if problems:
        raise PlanError([loaded.locate(problem) for problem in problems], loaded.source)
    return job


def _mesh_problems(plan: Plan, job: Job) -> tuple[Problem, ...]:
    if not needs_split(plan):
        return ()
    return check_split(plan, _split_of(plan, job), in_parts=tells_loss_in_parts(type(job)))


def _split_of(plan: Plan, job: Job) -> Split | None:
    try:
        split = job.split()
    except Exception as error:
        conceal = concealer_of(plan)
        said = conceal(f"{type(error).__name__}: {error}")
        raise JobError(
            Problem("job", f"{plan.job}.split() raised {said}"),
            user_traceback=conceal(user_traceback(error)),
        ) from None
    if split is None or isinstance(split, Split):
        return split
    what = f"{plan.job}.split() returned {type(split).__name__}"
    raise JobError(Problem("job", what, works="an orchestrator.Split, or None"))


def import_target(target: str, where: str) -> Any:
    """The attribute that ``module:attribute`` names; ``where`` is the plan field that says so."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise _broken(target, where, error) from error
        raise JobError(
            Problem(
                where,
                f"no module named {error.name!r} in the working directory {Path.cwd()}",
                works=f"run from the folder that holds {module_name.replace('.', '/')}.py",
            )
        ) from error
    except Exception as error:
        raise _broken(target, where, error) from error
    if not hasattr(module, attribute):
        raise JobError(
            Problem(where, f"{module_name} has no {attribute!r}", works=_near(module, attribute))
        )
    return getattr(module, attribute)


def user_traceback(error: BaseException) -> str:
    """The traceback without the frames of this project and of Python's import system."""
    frames = traceback.extract_tb(error.__traceback__)
    own = str(Path(__file__).resolve().parent)
    kept = [
        frame
        for frame in frames
        if not frame.filename.startswith((own, "<frozen importlib"))
        and "importlib/__init__.py" not in frame.filename
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(kept)]
    return "".join([*lines, *traceback.format_exception_only(error)])


def _broken(target: str, where: str, error: Exception) -> JobError:
    problem = Problem(where, f"importing {target} raised {type(error).__name__}: {error}")
    return JobError(problem, user_traceback=user_traceback(error))


def _near(module: Any, attribute: str) -> str:
    classes = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Job) and value is not Job
    ]
    near = difflib.get_close_matches(attribute, dir(module), n=2)
    names = classes or near
    return ", ".join(f"{module.__name__}:{name}" for name in names)


def _check_options(job_class: type[Job], options: dict[str, Any]) -> None:
    parameters = inspect.signature(job_class).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    unknown = [name for name in options if name not in parameters]
    if not unknown:
        return
    near = [n for name in unknown for n in difflib.get_close_matches(name, parameters, n=1)]
    known = ", ".join(parameters) or "none"
    raise JobError(
        Problem(
            f"options.{unknown[0]}",
            f"{job_class.__name__} takes no option {', '.join(map(repr, unknown))}",
            arithmetic=f"it takes: {known}",
            works=", ".join(near),
        )
    )

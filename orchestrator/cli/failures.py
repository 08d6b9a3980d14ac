"""How is an error told? One clear message, the documented exit code, no traceback."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import typer

from orchestrator.errors import EXIT_CODES, AxisError, JobError, PlanError

_DEFECT = "this is a defect of axis-orchestrator; --debug shows the traceback"


@contextmanager
def reported(as_json: bool, debug: bool) -> Iterator[None]:
    """Turn whatever is raised inside the block into a message and an exit code.

    With ``as_json`` the message is one JSON object on standard output. With ``debug`` the
    traceback comes before it. A user's own traceback is always shown.
    """
    try:
        yield
    except AxisError as error:
        if debug:
            traceback.print_exc()
        _tell(error_fields(error), error_text(error), as_json)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        fields = _fields("KeyboardInterrupt", 130, "interrupted by Ctrl-C")
        _tell(fields, "interrupted by Ctrl-C", as_json)
        raise typer.Exit(130) from None
    except (BrokenPipeError, typer.Exit, typer.Abort):
        raise  # who read our output is gone: the command line ends quietly
    except Exception as error:
        if debug:
            traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        fields = _fields(type(error).__name__, 1, f"{message}; {_DEFECT}")
        _tell(fields, f"error: {message}\n  {_DEFECT}", as_json)
        raise typer.Exit(1) from error


def error_text(error: AxisError) -> str:
    """The message for a person, the user's own traceback first."""
    text = f"error: {error}"
    if isinstance(error, JobError) and error.user_traceback:
        return f"{error.user_traceback.rstrip()}\n{text}"
    return text


def error_fields(error: AxisError) -> dict[str, Any]:
    """The error for a program."""
    fields = _fields(type(error).__name__, error.exit_code, str(error))
    if isinstance(error, PlanError):
        fields["problems"] = [asdict(problem) for problem in error.problems]
    if isinstance(error, JobError):
        fields["user_traceback"] = error.user_traceback
    return fields


def exit_code_table() -> str:
    """The exit codes as a paragraph of help, one a line."""
    lines = [f"  {code:>3}  {what}" for code, what in EXIT_CODES.items()]
    # Without the mark, the lines would be filled into one paragraph.
    return "\n".join(["\b", "Exit codes:", *lines])


def _fields(name: str, exit_code: int, message: str) -> dict[str, Any]:
    return {"kind": "error", "error": name, "exit_code": exit_code, "message": message}


def _tell(fields: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(fields))
    else:
        sys.stdout.flush()
        typer.echo(text, err=True)

"""How is an error told? One clear message, the documented exit code, no traceback."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import typer

from orchestrator.errors import EXIT_CODES, AxisError, JobError, PlanError


@contextmanager
def reported(as_json: bool, debug: bool) -> Iterator[None]:
    """Turn an ``AxisError`` inside the block into a message and its exit code.

    With ``debug`` the traceback comes first. A user's own traceback is always shown.
    """
    try:
        yield
    except AxisError as error:
        if debug:
            traceback.print_exc()
        if as_json:
            typer.echo(json.dumps(error_fields(error)))
        else:
            typer.echo(error_text(error), err=True)
        raise typer.Exit(error.exit_code) from error
    except (KeyboardInterrupt, BrokenPipeError):
        raise typer.Exit(130) from None
    except typer.Exit:
        raise
    except Exception as error:
        if debug:
            raise
        typer.echo(
            f"error: {type(error).__name__}: {error}\n"
            "This is a defect of axis-orchestrator; --debug shows the traceback.",
            err=True,
        )
        raise typer.Exit(1) from error


def error_text(error: AxisError) -> str:
    """The message for a person, the user's own traceback first."""
    text = f"error: {error}"
    if isinstance(error, JobError) and error.user_traceback:
        return f"{error.user_traceback}\n{text}"
    return text


def error_fields(error: AxisError) -> dict[str, Any]:
    """The error for a program."""
    fields: dict[str, Any] = {
        "kind": "error",
        "error": type(error).__name__,
        "exit_code": error.exit_code,
        "message": str(error),
    }
    if isinstance(error, PlanError):
        fields["problems"] = [asdict(problem) for problem in error.problems]
    if isinstance(error, JobError):
        fields["user_traceback"] = error.user_traceback
    return fields


def exit_code_table() -> str:
    """The exit codes as one line of help."""
    return "Exit codes: " + ", ".join(f"{code} {what}" for code, what in EXIT_CODES.items()) + "."

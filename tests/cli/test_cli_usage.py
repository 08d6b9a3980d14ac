"""The command line itself: help, versions, and what is no command at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import __version__
from orchestrator.errors import EXIT_CODES
from tests.cli.conftest import Project

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "plan",
    "run",
    "calibrate",
    "study",
    "status",
    "ls",
    "logs",
    "stop",
    "schema",
    "version",
)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("bogus",), "No such command 'bogus'"),
        (("stauts", "x"), "Did you mean 'status'?"),
        (("plan",), "Missing argument 'PLAN'"),
        (("run",), "Missing argument 'PLAN'"),
        (("status",), "Missing argument 'RUN'"),
        (("plan", "plan.yaml", "--bogus"), "No such option: --bogus"),
        (("--bogus",), "No such option: --bogus"),
        (("logs", "x", "--attempt", "one"), "Invalid value for '--attempt'"),
        (("logs", "x", "--attempt", "0"), "Invalid value for '--attempt'"),
        (("run", "plan.yaml", "--num-cpus", "0"), "Invalid value for '--num-cpus'"),
        (("ls", "too", "many"), "unexpected extra argument"),
    ],
)
def test_what_is_no_command(project: Project, arguments: tuple[str, ...], part: str) -> None:
    told = project(*arguments)
    assert told.code == 2
    assert part in told.err
    assert told.err.startswith("Usage: axis")
    assert len(told.err.splitlines()) <= 5
    assert told.out == ""


def test_axis_alone_prints_help_with_exit_codes(project: Project) -> None:
    told = project()
    assert (told.code, told.err) == (0, "")
    assert told.out == project("--help").out
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}\n" in told.out


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_is_plain_text_of_whole_sentences(project: Project, command: tuple[str, ...]) -> None:
    told = project(*command, "--help")
    assert told.code == 0
    assert not set(told.out) & set("╭│╰─━\x1b")
    assert "..." not in told.out.replace("]...", "").replace("ARGS...", "")
    assert "``" not in told.out
    assert max(map(len, told.out.splitlines())) <= 80


def test_versions(project: Project) -> None:
    text = project("version").out
    assert text.splitlines()[0] == f"axis-orchestrator {__version__}"
    assert project("--version").out == text
    assert project("version", "--json").json()["axis-orchestrator"] == __version__


def test_the_schema_is_json(project: Project) -> None:
    plain, as_json = project("schema"), project("schema", "--json")
    assert plain.json()["title"] == "Axis plan"
    assert plain.out == as_json.out


def test_a_reader_that_goes_away_is_no_error() -> None:
    """``axis schema | head -1``"""
    command = f"{sys.executable} -m orchestrator.cli schema | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


def test_a_terminal_without_our_characters_is_no_error() -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "plan", "configs/digits.yaml"]
    environment = {"PYTHONIOENCODING": "iso8859-5", "PATH": "/usr/bin"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment)
    assert done.returncode == 0, done
    assert b"300 steps ? 64 samples" in done.stdout


def test_every_command_takes_json(project: Project) -> None:
    for name in COMMANDS:
        assert "--json" in project(name, "--help").out
    for arguments in (("plan", "plan.yaml"), ("ls",), ("version",), ("schema",)):
        assert json.loads(project(*arguments, "--json").out) is not None

"""A small project to run ``axis`` in, within the test's own process."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from typer.testing import CliRunner

from orchestrator.cli.app import app

# A loaded machine is no failure of the code under test.
settings.register_profile("axis", deadline=None)
settings.load_profile("axis")

PLAN = """\
version: 1
name: little
job: JOB:Tiny
data:
  source: {kind: jsonl, path: corpus}
  shards: 2
training:
  workers: 2
  global_batch: 8
  steps: 4
inference:
  port: 8000
  example: {x: 1}
"""

JOB = """\
from orchestrator import Job


class Tiny(Job):
    def __init__(self, size: int = 3) -> None:
        self.size = size

    def samples(self, row):
        return iter(())
"""


@dataclass(frozen=True)
class Told:
    """What a command came to."""

    code: int
    out: str
    err: str
    seconds: float

    def json(self) -> Any:
        """Standard output as the one JSON value it must be."""
        return json.loads(self.out)


class Project:
    """A working directory with a plan, a Job and a corpus; commands are run inside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.job = f"tiny_{uuid.uuid4().hex[:8]}"
        self.write("corpus/one.jsonl", '{"x": 1}\n')
        self.write(f"{self.job}.py", JOB)
        self.write("plan.yaml", PLAN.replace("JOB", self.job))

    def write(self, name: str, text: str | bytes) -> Path:
        """Put a file into the project."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return path

    def edit(self, old: str, new: str) -> None:
        """Change the plan file."""
        path = self.root / "plan.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def __call__(self, *arguments: str) -> Told:
        """Run ``axis`` with these arguments."""
        began = time.monotonic()
        result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        return Told(result.exit_code, result.stdout, result.stderr, time.monotonic() - began)

    def files(self) -> dict[str, bytes | None]:
        """Everything that lies in the project; leases and compiled modules aside."""
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.root.rglob("*"))
            if "__pycache__" not in path.parts and path.name != "lease.json"
        }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project; environment, search path and modules are as before afterwards."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with mock.patch.dict(os.environ, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}):
        os.environ.pop("RAY_ADDRESS", None)
        made = Project(root)
        yield made
    for name in [name for name in sys.modules if name.startswith("tiny_")]:
        del sys.modules[name]

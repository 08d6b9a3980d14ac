"""What only a real run can tell: refusals on the way, and output without a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.axis_command import Axis

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

JOB = """\
from orchestrator import Job


class Blank(Job):
    def samples(self, row):
        return iter(())
"""

PLAN = """\
version: 1
name: blank
job: blank_job:Blank
data:
  source: {kind: jsonl, path: corpus}
  resources: {cpu: 0.25}
training:
  workers: 1
  resources: {cpu: 0.25}
"""


def test_a_corpus_without_samples_is_refused_by_name(axis: Axis, tmp_path: Path) -> None:
    """Rows there are, but the Job makes nothing of them: exit code 2, and no control codes."""
    project = tmp_path / "project"
    (project / "corpus").mkdir(parents=True)
    (project / "corpus" / "one.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    (project / "blank_job.py").write_text(JOB)
    (project / "plan.yaml").write_text(PLAN)
    axis.cwd = project
    axis.environment |= {"FORCE_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    refused = axis("run", "plan.yaml", f"storage={axis.storage}")
    assert refused.code == 2, refused
    assert "\x1b" not in refused.out + refused.err
    assert "━" not in refused.err
    assert "empty corpus: the Job made no samples" in refused.out
    assert "0 bad, 1 good with 2 rows" in refused.out.splitlines()[0]
    assert "Traceback" not in refused.out + refused.err
    said = list(dict.fromkeys(line.split(":")[0] for line in refused.err.splitlines()))
    assert said == ["start Ray", "reserve", "mesh", "shard", "release"], refused

    again = axis("run", "plan.yaml", f"storage={axis.storage}", "--json")
    assert again.code == 2, again
    assert again.err == ""
    end = json.loads(again.out.splitlines()[-1])
    assert (end["kind"], end["exit_code"]) == ("end", 2)
    assert "empty corpus" in end["message"]

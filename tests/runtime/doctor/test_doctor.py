"""What measurements mean, and what the command says and ends with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.runtime.doctor.examine import findings_in
from orchestrator.runtime.doctor.facts import (
    MachineFacts,
    StorageFacts,
    TokenFacts,
    measure,
    measure_storage,
    measure_token,
)
from orchestrator.runtime.doctor.findings import (
    Finding,
    judge_alike,
    judge_clock,
    judge_machine,
    judge_storage,
    judge_token,
    judge_versions,
    tally,
)

pytestmark = pytest.mark.unit

WELL = MachineFacts(
    host="one", python="3.11.7", ray="2.60.0", torch="2.13.0+cpu", axis="0.1.0",
    shm_bytes=8 * 2**30, disk_path="/tmp", disk_free_bytes=100 * 2**30, open_files=1_048_576,
    num_devices=0, num_devices_of_ray=0, said_at_seconds=0.0, free_port=1,
)  # fmt: skip


def _levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_a_machine_that_is_well_has_nothing_to_mend() -> None:
    found = [*judge_versions(WELL), *judge_machine(WELL), *judge_alike(WELL, WELL, "node x")]
    assert set(_levels(found)) == {"ok"}
    assert all(not finding.fix for finding in found)


@pytest.mark.parametrize(
    ("changed", "what", "level"),
    [
        ({"python": "3.10.1"}, "python", "fail"),
        ({"ray": "2.40.0"}, "ray", "fail"),
        ({"ray": "2.62.0"}, "ray", "fail"),
        ({"torch": ""}, "torch", "fail"),
        ({"shm_bytes": 64 * 2**20}, "shared memory", "warn"),
        ({"disk_free_bytes": 5 * 2**30}, "disk", "warn"),
        ({"disk_free_bytes": 2**20}, "disk", "fail"),
        ({"open_files": 10_000}, "open files", "warn"),
        ({"open_files": 1024}, "open files", "fail"),
        ({"num_devices": 8}, "GPUs", "warn"),
        ({"num_devices_of_ray": 8}, "GPUs", "warn"),
    ],
)
def test_what_is_ill_is_named_with_what_mends_it(
    changed: dict[str, object], what: str, level: str
) -> None:
    facts = replace(WELL, **changed)  # type: ignore[arg-type]
    ill = [f for f in (*judge_versions(facts), *judge_machine(facts)) if f.level != "ok"]
    assert [(finding.what, finding.level) for finding in ill] == [(what, level)]
    assert ill[0].fix


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({"python": "3.12.1"}, "fail"),
        ({"python": "3.11.9"}, None),
        ({"ray": "2.60.1"}, "fail"),
        ({"axis": "0.0.9"}, "fail"),
        ({"torch": "2.12.0"}, "warn"),
    ],
)
def test_machines_that_cannot_work_together_are_told(
    changed: dict[str, object], level: str | None
) -> None:
    found = judge_alike(WELL, replace(WELL, **changed), "node x")  # type: ignore[arg-type]
    assert _levels(found) == ([level] if level else [])


@given(
    asked=st.floats(0, 1e9), took=st.floats(0, 20), skew=st.floats(-1e5, 1e5), at=st.floats(0, 1)
)
def test_a_clock_is_blamed_only_where_it_is_proved(
    asked: float, took: float, skew: float, at: float
) -> None:
    """Whatever the way there and back took, a node is never said to be off by more than it is."""
    answered = asked + took
    finding = judge_clock(asked, asked + at * took + skew, answered, "node x")
    if finding.level != "ok":
        assert abs(skew) > 0.99
    if abs(skew) > took + 31:
        assert finding.level == "fail"
    if finding.level == "ok":
        assert abs(skew) <= took + 1.01


def test_storage_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    facts = measure_storage(str(tmp_path))
    assert judge_storage(facts).level == "ok"
    assert list(tmp_path.iterdir()) == []
    assert measure_storage(str(tmp_path / "new")).trouble == ""
    assert list(tmp_path.iterdir()) == []
    assert judge_storage(StorageFacts("x", write_seconds=3.0)).level == "warn"
    (tmp_path / "file").touch()
    broken = judge_storage(measure_storage(str(tmp_path / "file" / "runs")))
    assert broken.level == "fail"
    assert broken.fix


def test_a_token_that_others_can_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("x" * 32)
    environment = {"RAY_AUTH_TOKEN_PATH": str(path)}
    path.chmod(0o600)
    assert judge_token(measure_token(environment)).level == "ok"
    path.chmod(0o644)
    told = judge_token(measure_token(environment))
    assert (told.level, told.fix) == ("warn", f"chmod 600 {path}")
    assert judge_token(TokenFacts("disabled")).level == "warn"
    lost = judge_token(measure_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}))
    assert lost.level == "fail"


def test_this_machine_is_measured() -> None:
    facts = measure(None)
    assert facts.python
    assert facts.ray
    assert facts.disk_free_bytes > 0
    assert facts.open_files > 0


def test_findings_survive_being_printed_by_a_job() -> None:
    found = [Finding("ok", "ray", "2.60.0"), Finding("fail", "disk", "none", "free some")]
    lines = ["Running entrypoint for job x", *(json.dumps(f.to_dict()) for f in found), "{}", "[1]"]
    assert findings_in("\n".join(lines)) == found
    assert tally(found) == {"ok": 1, "warn": 0, "fail": 1}

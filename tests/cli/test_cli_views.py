"""``axis status``, ``ls``, ``logs`` and ``stop`` on what runs left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.observe.lease import RunLease, stop_requested
from orchestrator.observe.metrics_log import MetricsLog
from orchestrator.storage import Storage
from tests.cli.conftest import Project
from tests.observe.past_run import PastRun, whole_run

pytestmark = pytest.mark.unit

DRIVER = "logs/attempt-0001/driver.log"


@pytest.fixture
def storage(project: Project) -> Storage:
    """The storage of a project in which ``little`` has run, and another one is half-way."""
    base = Storage.open(str(project.root / "runs"))
    whole_run(base, "little")
    half = PastRun(base, "half")
    half.open()
    half.to_training()
    half.steps(1, 60)
    half.commit(50, 5.02)
    project.write(f"runs/little/{DRIVER}", "reserve: 0.1 s\nträin: …\n")
    project.write("runs/little/logs/attempt-0002/worker-0.log", "step 1\nunfinished")
    project.write("runs/little/logs/attempt-0002/worker-1.log", b"bad \xff byte\n")
    return base


@pytest.mark.parametrize(
    "given",
    ["little", "runs/little", "./runs/little/", "{root}/runs/little", "plan.yaml"],
)
def test_a_run_is_found_by_name_folder_or_plan(
    project: Project, storage: Storage, given: str
) -> None:
    name = given.format(root=project.root)
    told = project("status", name)
    assert told.code == 0, told
    assert told.out.startswith("little: done\n")
    assert project("status", name, "--json").json()["uri"] == f"{project.root}/runs/little"


def test_a_run_is_found_from_its_own_folder(
    project: Project, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root / "runs")
    assert project("status", "little").out.startswith("little: done")
    monkeypatch.chdir(project.root / "runs" / "little")
    assert project("status", ".").out.startswith("little: done")


def test_a_storage_on_the_command_line_goes_before_the_plan_s(
    project: Project, storage: Storage
) -> None:
    whole_run(Storage.open("elsewhere"), "other")
    assert project("status", "other", "--storage", "elsewhere").code == 0
    told = project("status", "plan.yaml", "--storage", "elsewhere")
    assert told.code == 1
    assert "there is no run little" in told.err


def test_status_tells_what_matters(project: Project, storage: Storage) -> None:
    text = project("status", "little").out
    for part in ("200 of 200, 200 committed", "val_loss 3.2100", "served step 200", "1 restart"):
        assert part in text, text
    lost = project("status", "half").out
    assert lost.startswith("half: lost\n")
    assert "60 of 200, 50 committed in 1 checkpoint\n" in lost
    assert "the same `axis run` resumes it" in lost


def test_runs_are_listed(project: Project, storage: Storage) -> None:
    lines = project("ls").out.splitlines()
    assert lines[0].split() == ["RUN", "STATUS", "STEP", "ATTEMPT", "LOSS", "BEST", "UPDATED"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["half", "lost", "60/200"],
        ["little", "done", "200/200"],
    ]
    assert [run["name"] for run in project("ls", "--json").json()] == ["half", "little"]


@pytest.mark.parametrize("command", ["status", "logs", "stop"])
@pytest.mark.parametrize(
    ("name", "code", "parts"),
    [
        ("nope", 1, ("there is no run nope", "runs there: half, little")),
        ("runs/nope", 1, ("runs/nope is not the folder of a run", "axis ls")),
        ("/nowhere/at/all", 1, ("/nowhere/at/all is not the folder of a run",)),
        (".", 1, ("project is not the folder of a run",)),
        ("", 1, ("project is not the folder of a run",)),
        ("..", 1, ("is not the folder of a run",)),
        ("nope.yaml", 2, ("nope.yaml", "there is no such file", "plan.yaml")),
        ("s3x://bucket/run", 1, ("s3x",)),
    ],
)
def test_an_unknown_run(
    project: Project,
    storage: Storage,
    command: str,
    name: str,
    code: int,
    parts: tuple[str, ...],
) -> None:
    before = project.files()
    told = project(command, name)
    assert told.code == code, told
    assert told.err.startswith("error: ")
    assert all(part in told.err for part in parts), told
    error = project(command, name, "--json").json()
    assert (error["kind"], error["exit_code"]) == ("error", code)
    assert project.files() == before


@pytest.mark.parametrize("command", ["status", "logs", "stop"])
def test_no_storage(project: Project, command: str) -> None:
    told = project(command, "little", "--storage", "/nowhere")
    assert told.code == 1
    assert "there is no run little in /nowhere; runs there: none" in told.err


def test_a_listing_of_nothing(project: Project) -> None:
    assert project("ls").out == (
        f"no runs: there is no folder {project.root}/runs; axis run PLAN begins one\n"
    )
    assert project("ls", "--json").json() == []
    (project.root / "runs").mkdir()
    assert project("ls").out.startswith("no runs in ")


def damage(project: Project) -> None:
    path = project.root / "runs/little/journal/attempt-0001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b"a", b"b", 1), *lines[2:]]))


def test_a_damaged_journal(project: Project, storage: Storage) -> None:
    damage(project)
    told = project("status", "little")
    assert told.code == 0
    assert told.out.startswith("little: damaged\n")
    assert "journal/attempt-0001.jsonl:2: the line is not what was written" in told.out
    view = project("status", "little", "--json").json()
    assert (view["status"], view["resumable"]) == ("damaged", False)
    assert [run["status"] for run in project("ls", "--json").json()] == ["lost", "damaged"]
    assert "damaged" in project("ls").out
    assert "träin" in project("logs", "little", "--attempt", "1").out
    assert project("stop", "little").out == "little: nothing to stop, it is damaged\n"


def test_a_loss_that_is_not_a_number_is_null_in_json(project: Project, storage: Storage) -> None:
    with MetricsLog(storage.child("half"), 1) as log:
        log.append({"kind": "step", "step": 61, "loss": float("nan")})
    told = project("status", "half", "--json")
    assert "NaN" not in told.out
    assert told.json()["last_loss"] is None


def test_logs_are_those_of_the_last_attempt_unless_asked(
    project: Project, storage: Storage
) -> None:
    told = project("logs", "little")
    assert told.out == "worker-0: step 1\nworker-1: bad \ufffd byte\n"
    assert project("logs", "little", "--worker", "0").out == "worker-0: step 1\n"
    assert project("logs", "little", "--attempt", "1").out.splitlines() == [
        "driver: reserve: 0.1 s",
        "driver: träin: …",
    ]
    line = json.loads(project("logs", "little", "--worker", "0", "--json").out)
    assert line == {
        "run": "little", "attempt": 2, "axis": "training", "rank": 0, "writer": "worker-0",
        "line": "step 1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("half",), "half: no logs yet"),
        (("little", "--attempt", "7"), "no logs in attempt 7; there are logs of attempt 1, 2"),
        (("little", "--worker", "9"), "no logs of worker 9 in attempt 2"),
    ],
)
def test_logs_that_are_not_there(
    project: Project, storage: Storage, arguments: tuple[str, ...], text: str
) -> None:
    told = project("logs", *arguments)
    assert (told.code, told.out) == (0, "")
    assert text in told.err


def test_nothing_to_stop(project: Project, storage: Storage) -> None:
    before = project.files()
    assert project("stop", "little").out == "little: nothing to stop, it is done\n"
    assert project("stop", "half", "--json").json()["status"] == "lost"
    assert project.files() == before


@pytest.mark.parametrize("timeout", ["3 parsecs", "0s", "soon", "-1s"])
def test_a_timeout_that_is_none(project: Project, storage: Storage, timeout: str) -> None:
    told = project("stop", "little", "--timeout", timeout)
    assert told.code == 2
    assert "--timeout" in told.err


def test_a_stop_that_is_not_heeded_says_so_in_time(project: Project, storage: Storage) -> None:
    run = storage.child("half")
    with RunLease.acquire(run, "half"):
        told = project("stop", "half", "--timeout", "700ms")
        assert told.code == 1
        assert "half was asked to stop, but is still training after 0.7 s" in told.err
        assert told.seconds < 5
        assert stop_requested(run) == "axis stop"
        assert project("status", "half").out.startswith("half: running (training)\n")


def test_a_run_is_held_by_somebody(project: Project, storage: Storage) -> None:
    """Refused at once, naming who, and with nothing touched."""
    with RunLease.acquire(storage.child("little"), "little"):
        before = project.files()
        told = project("run", "plan.yaml")
        assert told.code == 3, told
        assert "the run little is held by pid" in told.err
        assert project("run", "plan.yaml", "--fresh").code == 3
        assert project.files() == before


def test_paths_with_spaces_can_be_copied_from_the_commands(tmp_path: Path) -> None:
    from orchestrator.observe.facts import gather_facts

    base = Storage.open(str(tmp_path / "my runs"))
    whole_run(base, "little")
    facts = gather_facts(base, "little", command="axis run 'my plan.yaml'")
    assert facts.commands["look at it"] == f"axis status '{tmp_path}/my runs/little'"

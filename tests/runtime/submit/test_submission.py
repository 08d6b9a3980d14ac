"""Names, commands and outcomes of submissions; which address and token count; refusals."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from orchestrator.errors import InfeasibleError
from orchestrator.runtime.submit.address import DEFAULT_URL, choose_address, find_token
from orchestrator.runtime.submit.reach import NEWER_THAN_KNOWN_RAY, OLDEST_RAY, reach
from orchestrator.runtime.submit.submission import (
    Job,
    entrypoint,
    environment_of,
    next_attempt,
    outcome_of,
    said_exit_code,
    submission_id,
)
from tests.axis_command import ROOT

pytestmark = pytest.mark.unit

TOKEN = "a-token-of-this-test"


def _job(**fields: Any) -> Job:
    known: dict[str, Any] = {
        "submission_id": "axis-digits-0001", "run": "digits", "status": "FAILED",
        "exit_code": None, "message": "", "metadata": {}, "started_at_seconds": 1.0,
        "ended_at_seconds": None,
    }  # fmt: skip
    return Job(**{**known, **fields})


def test_an_id_says_run_and_attempt() -> None:
    assert submission_id("gpt-stdlib", 2) == "axis-gpt-stdlib-0002"
    jobs = [_job(submission_id="axis-digits-0003"), _job(submission_id="raysubmit_x")]
    assert next_attempt(jobs, 1) == 4
    assert next_attempt(jobs, 7) == 8
    assert next_attempt([], 0) == 1


def test_the_command_survives_a_shell() -> None:
    import shlex

    words = ["my plans/a.yaml", ["options={a: 'b c'}", "x=$HOME"], ["--fresh"]]
    text = entrypoint(*words)  # type: ignore[arg-type]
    assert shlex.split(text) == ["axis", "run", words[0], *words[1], *words[2]]


def test_a_driver_has_time_for_its_last_checkpoint() -> None:
    assert int(environment_of(600.0, "http://x")["RAY_JOB_STOP_WAIT_TIME_S"]) >= 630


@pytest.mark.parametrize(
    ("job", "log", "code"),
    [
        (_job(status="SUCCEEDED", exit_code=0), "", 0),
        (_job(exit_code=7), "", 7),
        (_job(exit_code=127), "sh: axis: not found", 3),
        (_job(exit_code=-9), "", 1),
        (_job(exit_code=77), "", 1),
        (_job(status="STOPPED"), "digits: interrupted (exit code 6): sigterm\n\n  run  x\n", 6),
        (_job(status="STOPPED"), "digits: done (exit code 0): trained\n", 0),
        (_job(status="STOPPED"), "other: failed (exit code 1): no\n", 6),
        (_job(message="runtime env failed\nlong"), "", 1),
    ],
)
def test_the_runs_own_exit_code_counts(job: Job, log: str, code: int) -> None:
    assert outcome_of(job, log).exit_code == code


def test_the_summary_still_says_it_where_it_is_looked_for() -> None:
    """``said_exit_code`` reads what ``render_summary`` writes."""
    import tempfile

    from orchestrator.observe.facts import gather_facts
    from orchestrator.observe.summary import render_summary
    from orchestrator.storage import Storage
    from tests.observe.past_run import whole_run

    with tempfile.TemporaryDirectory() as folder:
        base = Storage.open(folder)
        whole_run(base, "little")
        text = render_summary(gather_facts(base, "little", command="axis run x"))
    assert said_exit_code("little", text) == 0


def test_the_order_of_addresses_is_that_of_ray() -> None:
    everything = {"RAY_API_SERVER_ADDRESS": "http://b:1/", "RAY_ADDRESS": "http://c:1"}
    assert choose_address("http://a:1", everything).text == "http://a:1"
    assert choose_address(None, everything).text == "http://b:1"
    assert choose_address(None, {"RAY_ADDRESS": "http://c:1"}).said_by == "RAY_ADDRESS"
    assert choose_address(None, {}).text == DEFAULT_URL


def test_the_token_is_the_one_that_ray_would_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_token({}) is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-home\n")
    named = tmp_path / "named"
    named.write_text("of-path")
    order = [
        ({}, "of-home"),
        ({"RAY_AUTH_TOKEN_PATH": str(named)}, "of-path"),
        ({"RAY_AUTH_TOKEN_PATH": str(named), "RAY_AUTH_TOKEN": "of-env"}, "of-env"),
    ]
    for environment, value in order:
        token = find_token(environment)
        assert token is not None
        assert token.value == value
        assert value not in repr(token)
    assert find_token({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "x"}) is None
    with pytest.raises(InfeasibleError, match="cannot be read"):
        find_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")})


class _Api(BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does; ``server.version`` is Ray's, ``server.seen`` the headers."""

    def do_GET(self) -> None:
        shown = self.headers.get("Authorization")
        self.server.seen.append(shown)  # type: ignore[attr-defined]
        status = 401 if shown is None else 200 if shown == f"Bearer {TOKEN}" else 403
        self.send_response(status)
        self.end_headers()
        if status == 200:
            version = self.server.version  # type: ignore[attr-defined]
            self.wfile.write(json.dumps({"ray_version": version}).encode())

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setenv("HOME", str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    server.version, server.seen = "2.60.0", []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield server
    server.shutdown()
    server.server_close()


def test_who_has_the_token_is_let_in(api: Any) -> None:
    found = reach(api.url, {"RAY_AUTH_TOKEN": TOKEN})
    assert (found.url, found.ray_version) == (api.url, "2.60.0")
    assert TOKEN not in repr(found)


def test_the_token_of_home_is_shown_only_to_who_asks_for_one(api: Any, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
    assert reach(api.url, {}).token is not None
    assert api.seen == [None, f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RAY_AUTH_TOKEN": "wrong-one"}, "token in RAY_AUTH_TOKEN is not this cluster's"),
        ({}, "there is none here"),
        ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE=disabled keeps one"),
    ],
)
def test_who_has_none_is_told_within_three_seconds(
    api: Any, environment: dict[str, str], said: str
) -> None:
    began = time.monotonic()
    with pytest.raises(InfeasibleError, match=re.escape(said)) as refused:
        reach(api.url, environment)
    assert time.monotonic() - began < 3
    assert "wrong-one" not in str(refused.value)


@pytest.mark.parametrize("version", ["2.9.3", "3.0.0", "2.62.0"])
def test_another_ray_is_refused(api: Any, version: str) -> None:
    api.version = version
    with pytest.raises(InfeasibleError, match=f"runs Ray {version}"):
        reach(api.url, {"RAY_AUTH_TOKEN": TOKEN})


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:{port}", "no Jobs API"),
        ("127.0.0.1:{port}", "no Jobs API"),
        ("http://nobody.invalid:8265", "no Jobs API"),
        ("http://[half", "no Jobs API"),
        ("ray://127.0.0.1:10001", "not the address of a Jobs API"),
        ("head", "not the address of a Jobs API"),
    ],
)
def test_where_nobody_answers_is_told_within_three_seconds(
    address: str, said: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    began = time.monotonic()
    with pytest.raises(InfeasibleError, match=said):
        reach(address.format(port=free_port), {})
    assert time.monotonic() - began < 3


def test_the_versions_are_those_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'"ray\[[^\]]*\]([^"]+)"', text)
    assert found
    assert SpecifierSet(found[1]) == SpecifierSet(f">={OLDEST_RAY},<{NEWER_THAN_KNOWN_RAY}")


def test_ray_still_has_what_is_wrapped() -> None:
    """``_do_request`` is where a deadline can be put into all requests of Ray's client."""
    import inspect

    from ray.dashboard.modules.dashboard_sdk import SubmissionClient

    from orchestrator.runtime.internals.jobs import PACKAGE_LIMIT_BYTES

    source = inspect.getsource(SubmissionClient._do_request)
    assert "requests.request(" in source
    assert "**kwargs" in source
    for method in ("get_job_info", "submit_job", "stop_job", "list_jobs", "get_job_logs"):
        from ray.job_submission import JobSubmissionClient

        assert "self._do_request(" in inspect.getsource(getattr(JobSubmissionClient, method))
    from ray.dashboard import http_server_head

    assert "client_max_size=ray_constants.DASHBOARD_CLIENT_MAX_SIZE" in inspect.getsource(
        http_server_head
    )
    assert PACKAGE_LIMIT_BYTES == 100 * 2**20, "docs/submit.md says so"

"""What a person reads after a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator import events as ev
from orchestrator.observe.curve import sparkline, spread
from orchestrator.observe.facts import GroupLoss, ReportFacts, gather_facts
from orchestrator.observe.metrics_log import MetricsLog
from orchestrator.observe.report import render_report, render_summary
from orchestrator.observe.timeline import history
from orchestrator.observe.wording import format_bytes, format_seconds
from orchestrator.storage import Storage
from tests.observe.past_run import PastRun, whole_run

pytestmark = pytest.mark.unit


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "runs"))


def facts_of(storage: Storage, name: str = "gpt") -> ReportFacts:
    return gather_facts(
        storage,
        name,
        command="axis run configs/gpt-stdlib.yaml",
        request_url="http://127.0.0.1:8000/gpt/",
        about={"job": "jobs.gpt:GPT"},
    )


def test_steps_without_finite_figures_are_told(storage: Storage) -> None:
    assert "not finite" not in render_summary(facts_of_run(storage))
    with MetricsLog(storage.child("gpt"), 2) as log:
        log.append({"kind": "skipped", "step": 120, "text": "skipped step 120"})
        log.append({"kind": "skipped", "step": 121, "text": "skipped step 121"})
        log.append({"kind": "rolled-back", "step": 100, "text": "rolled back"})
    facts = facts_of(storage)
    assert (facts.num_skipped, facts.num_rollbacks) == (2, 1)
    assert "not finite 2 steps skipped, 1 rollback" in " ".join(render_summary(facts).split())
    assert "no finite numbers: 2 steps skipped, 1 rollback." in render_report(facts)


def facts_of_run(storage: Storage) -> ReportFacts:
    whole_run(storage)
    return facts_of(storage)


def test_the_facts_of_a_run_that_lost_a_worker(storage: Storage) -> None:
    whole_run(storage)
    facts = facts_of(storage)
    assert [(each.attempt, each.phase, each.recovering) for each in facts.stretches] == [
        (1, "reserving", None),
        (1, "sharding", None),
        (1, "training", None),
        (2, "reserving", "worker"),
        (2, "training", "worker"),
        (2, "training", None),
        (2, "deploying", None),
        (2, "serving", None),
        (2, "ending", None),
    ]
    assert [step for step, _ in facts.losses] == list(range(1, 201))
    assert facts.num_steps_lost == 30
    assert facts.samples_per_second == pytest.approx(32 / 0.25)
    assert facts.data_share == pytest.approx(0.004)
    assert [(each.record.step, each.fate) for each in facts.commits] == [
        (50, "deleted"),
        (100, "deleted"),
        (150, "kept"),
        (200, "promoted"),
    ]
    assert facts.group_losses == (GroupLoss(1, "worker", "rank 1 was killed by signal 9"),)
    assert facts.about == {"job": "jobs.gpt:GPT", "workers": "2"}


def test_the_stretches_cover_each_attempt_without_gap_or_overlap(storage: Storage) -> None:
    run = whole_run(storage)
    past = history(run.journal.replay())
    for before, after in zip(past.stretches, past.stretches[1:], strict=False):
        assert before.stop_seconds == after.start_seconds
    assert sum(each.seconds for each in past.stretches) == pytest.approx(
        past.events[-1].at_seconds - past.events[0].at_seconds
    )


def test_time_in_which_nobody_carried_the_run_out_is_in_no_stretch(storage: Storage) -> None:
    run = PastRun(storage, "gpt")
    run.open()
    run.to_training()
    run.clock += 86_400.0
    run.open()
    run.to_training()
    past = history(run.journal.replay())
    assert sum(each.seconds for each in past.stretches) < 60


def test_the_page_tells_everything_a_newcomer_asks(storage: Storage) -> None:
    run = whole_run(storage)
    run.storage.write_atomic("plan.yaml", b"name: gpt")
    page = render_report(facts_of(storage))
    for text in (
        "# gpt\n",
        "**Done (exit code 0): trained, served step 200 at http://127.0.0.1:8000/gpt",
        "200 of 200 steps committed, in 2 attempts",
        "| 1 | sharding the data | 12 s |",
        "| 2 | reserving the gang (recovering: worker) | 1.0 s |",
        "job: `jobs.gpt:GPT`; workers: `2`.",
        "The worker group was lost:\n\n- in attempt 1 (worker): rank 1 was killed by signal 9",
        "The app is down by now; `axis run configs/gpt-stdlib.yaml --keep-serving` brings it up.",
        "30 steps had been taken after the last checkpoint",
        "72,345 samples in 8 shards, 18.7 MB, built in this run: `/data/runs/stores/5f2c`",
        "2 files could not be read, and left out:\n\n- `lib/bad.py`: not utf-8 at byte 17",
        "128.0 samples per second; 0.4% of a step was spent waiting for samples.",
        "| 200 | 2 | 3.21 | 5MiB | `checkpoints/step-00000200-attempt-0002` | promoted |",
        "Promotion: val_loss 3.21 is below 6.0 at step 200; best of 4 checkpoints by val_loss.",
        "answered in 187 ms, by `checkpoints/step-00000200-attempt-0002`",
        f"- plan as resolved: `{run.storage.uri}/plan.yaml`",
        "- serve again: `axis run configs/gpt-stdlib.yaml --keep-serving`",
        "- start anew: `axis run configs/gpt-stdlib.yaml --fresh`",
    ):
        assert text in page
    command = next(line for line in page.splitlines() if line.startswith("curl "))
    assert shlex.split(command)[-1] == '{"prompt": "def it\'s", "max_tokens": 16}'
    for table in page.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_summary_is_plain_text_without_colour(storage: Storage) -> None:
    whole_run(storage)
    text = render_summary(facts_of(storage))
    assert text.startswith("gpt: done (exit code 0): trained, served step 200")
    assert "\x1b" not in text
    assert "\t" not in text
    for part in ("lib/bad.py", "(worker): rank 1 was", "def it(self):", "--fresh", "6.0440"):
        assert part in text


def test_a_failed_run_shows_the_user_s_traceback_and_how_to_resume(storage: Storage) -> None:
    run = PastRun(storage, "gpt")
    run.open()
    run.to_training()
    run.tell(
        ev.TrainingFailed,
        cause="user",
        message="ZeroDivisionError: division by zero",
        user_traceback='Traceback:\n  File "jobs/gpt.py", line 3',
    )
    run.tell(ev.TornDown)
    facts = facts_of(storage)
    for text in (render_report(facts), render_summary(facts)):
        assert "the Job's own code raised: ZeroDivisionError: division by zero" in text
        assert "resume" in text
    assert render_report(facts).count('File "jobs/gpt.py", line 3') == 1
    assert "jobs/gpt.py" not in render_summary(facts)
    assert "Failed (exit code 1)" in render_report(facts)


def test_a_run_that_never_got_anywhere_still_has_a_page(storage: Storage) -> None:
    run = PastRun(storage, "gpt")
    run.open()
    run.tell(ev.GangTimedOut, message="needs 4 × {CPU: 1}")
    run.tell(ev.TornDown)
    page = render_report(facts_of(storage))
    assert "Placement timed out (exit code 4): needs 4 × {CPU: 1}" in page
    assert "## Loss" not in page
    assert "## Checkpoints" not in page


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ([], ""),
        ([1.0], "▁"),
        ([3.0, 2.0, 1.0], "█▅▁"),
        ([1.0, float("nan"), 2.0], "▁×█"),
        ([float("nan")], "×"),
    ],
)
def test_a_curve_at_a_glance(values: list[float], curve: str) -> None:
    assert sparkline(values) == curve


@given(st.lists(st.floats(allow_nan=True, width=32), max_size=300), st.integers(1, 60))
def test_a_curve_never_exceeds_its_width(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(len(values), width)


@given(st.integers(1, 300), st.integers(2, 20))
def test_a_table_spread_over_a_run_has_its_first_and_last_row(count: int, rows: int) -> None:
    points = [(step, 0.0) for step in range(count)]
    found = spread(points, rows)
    assert (found[0], found[-1]) == (points[0], points[-1])
    assert found == sorted(set(found))
    assert len(found) == min(count, rows)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (42.4, "42 s"), (185.0, "3 min 05 s"), (7800.0, "2 h 10 min")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (512, "512B"), (2**21, "2MiB"), (18_730_112, "18.7 MB"), (1_234, "1234B")],
)
def test_sizes_in_words(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


def test_prediction_and_measurement_are_told_side_by_side(storage: Storage) -> None:
    from dataclasses import replace

    from orchestrator.observe.facts import ForecastFacts

    rows = (("step", "160 ms", "180 ms", "-11.1%"), ("waiting for samples", "0 s", "–", "–"))
    facts = facts_of_run(storage)
    assert "Predicted and measured" not in render_report(facts)
    told = replace(
        facts,
        forecast=ForecastFacts(rows, "compute-bound: 90% of the time is computing", "more workers"),
    )
    report, summary = render_report(told), render_summary(told)
    assert "| step | 160 ms | 180 ms | -11.1% |" in report
    assert "What limited it: compute-bound: 90% of the time is computing." in report
    assert "What would help most, by prediction: more workers." in report
    assert "step 160 ms, was 180 ms (-11.1%)" in summary
    assert "would help" in summary
    missing = replace(facts, forecast=ForecastFacts(missing="no prediction: not described"))
    assert "No prediction: not described." in render_report(missing)
    assert "nothing: not described" in render_summary(missing)

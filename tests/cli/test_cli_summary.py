"""The few lines at the end of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.observe.facts import Example, ReportFacts, gather_facts
from orchestrator.observe.summary import answer_text, render_summary
from orchestrator.observe.wording import format_bytes, printable
from orchestrator.storage import Storage
from tests.observe.past_run import PastRun, whole_run

pytestmark = pytest.mark.unit

COMPLETION = "\n\ndef it(self):\n    return\t1\n"


@pytest.fixture
def facts(tmp_path: Path) -> ReportFacts:
    storage = Storage.open(str(tmp_path / "runs"))
    whole_run(storage, "little")
    return gather_facts(
        storage,
        "little",
        command="axis run plan.yaml",
        places={"report": f"{tmp_path}/runs/little/report.md"},
    )


def with_answer(facts: ReportFacts, answer: Any) -> ReportFacts:
    request = {"prompt": "import os\n\ndef ", "max_tokens": 64}
    return dataclasses.replace(facts, example=Example(request, answer))


def test_outcome_then_places_then_commands(facts: ReportFacts) -> None:
    head, outcome, places, commands = render_summary(facts).rstrip().split("\n\n")
    assert head.startswith("little: done (exit code 0): trained, served step 200")
    assert names(outcome) == [
        "time", "data", "loss", "workers", "promoted", "request", "answer",
    ]  # fmt: skip
    assert names(places) == ["run", "report"]
    assert [line.partition("  axis ")[2] for line in commands.splitlines()][:2] == [
        "run plan.yaml --keep-serving",
        "run plan.yaml training.steps=400",
    ]
    assert "0.0 s" not in outcome


def names(block: str) -> list[str]:
    return [line.split()[0] for line in block.splitlines()]


def test_a_failed_run_says_how_to_resume_and_where_its_logs_are(tmp_path: Path) -> None:
    from orchestrator.coordinator import events as ev

    storage = Storage.open(str(tmp_path))
    run = PastRun(storage, "little")
    run.open()
    run.to_training()
    run.tell(ev.TrainingFailed, cause="user", message="ValueError: no", user_traceback="…")
    run.tell(ev.TornDown)
    facts = gather_facts(storage, "little", command="axis run plan.yaml seed=1")
    text = render_summary(facts)
    assert "resume         axis run plan.yaml seed=1\n" in text
    assert f"axis logs {tmp_path}/little\n" in text
    assert "serve again" not in text


def test_a_completion_is_shown_as_text(facts: ReportFacts) -> None:
    answer = {"completion": COMPLETION, "num_tokens": 12, "finish": "stop"}
    text = render_summary(with_answer(facts, answer), 80)
    assert (
        "  answer         completion:\n"
        "                 | def it(self):\n"
        "                 |     return\\t1\n"
        '                 {"num_tokens": 12, "finish": "stop"}\n'
    ) in text
    assert '  request        {"prompt": "import os\\n\\ndef ", "max_tokens": 64}\n' in text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"digit": 0}, '{"digit": 0}'),
        ([1, 2], "[1, 2]"),
        ("one line", '"one line"'),
        ("two\nlines", "| two\n| lines"),
        ({"a": "x\ny"}, "a:\n| x\n| y"),
        (None, "null"),
        ({"a": "\x1b[31mred\x07"}, '{"a": "\\u001b[31mred\\u0007"}'),
        ({"a": "\x9b31m\nb\x7f"}, "a:\n| \\x9b31m\n| b\\x7f"),
    ],
)
def test_answers_as_a_person_reads_them(answer: Any, text: str) -> None:
    assert answer_text(answer) == text


def test_a_long_completion_is_cut() -> None:
    text = answer_text("\n".join(str(number) for number in range(100)))
    assert text.splitlines()[-1] == "… 88 lines more"
    assert len(text.splitlines()) == 13


answers = st.recursive(
    st.one_of(st.none(), st.integers(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(answers)
def test_no_answer_can_move_the_cursor(answer: Any) -> None:
    text = answer_text(answer)
    assert all(line.isprintable() for line in text.split("\n"))


@given(st.text())
def test_printable_text_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_are_wrapped_to_the_terminal_but_commands_are_not(
    facts: ReportFacts, width: int
) -> None:
    *told, commands = render_summary(facts, width).rstrip().split("\n\n")
    lines = [line for block in told for line in block.splitlines()]
    long = [line for line in lines if len(line) > width]
    assert all("/" in line for line in long), long  # a path is never cut
    assert "\n  look at it" in commands
    assert all(line.startswith("  ") and "axis" in line for line in commands.splitlines())


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (476_700, "476.7 kB"),
        (999, "999B"),
        (5 * 2**20, "5MiB"),
        (10**10, "10.0 GB"),
        (9999, "9999B"),
    ],
)
def test_sizes_a_person_can_read(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text

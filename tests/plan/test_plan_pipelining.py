"""Which numbers of micro-batches do schedules take?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.pipelining import (
    Schedule,
    microbatch_problem,
    nearest_microbatches,
    num_stages,
)

pytestmark = pytest.mark.unit

SCHEDULES: st.SearchStrategy[Schedule] = st.sampled_from(["gpipe", "1f1b", "interleaved-1f1b"])


def test_each_refusal_shows_its_arithmetic() -> None:
    assert microbatch_problem("1f1b", 4, 2, 3) == (
        "1f1b needs at least as many micro-batches as stages, but there are 3 for 4 stages"
    )
    assert microbatch_problem("interleaved-1f1b", 4, 2, 11) == (
        "interleaved-1f1b on 4 ranks with 2 stages each takes micro-batches in 11 // 4 = 2 equal "
        "rounds, but 11 = 2·5 + 1"
    )
    assert microbatch_problem("gpipe", 4, 2, 0) == (
        "a pipeline needs at least one micro-batch, not 0"
    )
    with pytest.raises(ValueError, match="degrees are at least 1"):
        microbatch_problem("1f1b", 0, 2, 3)


def test_what_is_taken() -> None:
    assert microbatch_problem("gpipe", 4, 2, 1) is None
    assert microbatch_problem("1f1b", 4, 2, 4) is None
    assert microbatch_problem("1f1b", 1, 2, 1) is None
    assert [n for n in range(1, 13) if not microbatch_problem("interleaved-1f1b", 4, 2, n)] == [
        *range(1, 9),
        10,
        12,
    ]


def test_stages_are_ranks_times_those_of_each() -> None:
    assert num_stages("1f1b", 4, 3) == 4
    assert num_stages("interleaved-1f1b", 4, 3) == 12


def test_the_nearest_numbers_that_work() -> None:
    assert nearest_microbatches("1f1b", 4, 2, 2) == (4,)
    assert nearest_microbatches("interleaved-1f1b", 4, 2, 11) == (10, 12)
    assert nearest_microbatches("interleaved-1f1b", 4, 2, 12) == (12,)


@given(SCHEDULES, st.integers(1, 8), st.integers(1, 3), st.integers(-1, 60))
def test_nearest_numbers_are_taken_and_none_between_them_is(
    schedule: Schedule, pipeline: int, virtual: int, wanted: int
) -> None:
    near = nearest_microbatches(schedule, pipeline, virtual, wanted)
    problems = {n: microbatch_problem(schedule, pipeline, virtual, n) for n in range(-1, 200)}
    assert all(problems[n] is None for n in near)
    legal = [n for n, problem in problems.items() if problem is None]
    if wanted in legal:
        assert near == (wanted,)
    else:
        below = [n for n in legal if n < wanted][-1:]
        assert near == (*below, min(n for n in legal if n > wanted))

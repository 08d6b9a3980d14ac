"""Who is slow is named soon, once and alone; who only varies is not."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.coordinator.slow_links import Links, RoundTrip, forget, hear
from orchestrator.coordinator.stragglers import Lookout, Slow, Work, look, watch
from orchestrator.plan.mesh import Mesh

pytestmark = pytest.mark.unit

Seconds = Callable[[int, int], float]
"""Own work of a rank in a step."""


def step_of(step: int, own: Sequence[float], data: Sequence[float] = ()) -> list[Work]:
    """All ranks wait for the slowest one, and a tenth longer."""
    waited = data or [0.0] * len(own)
    length = 1.1 * max(a + b for a, b in zip(own, waited, strict=True))
    return [Work(step, rank, length, busy, waited[rank]) for rank, busy in enumerate(own)]


def alone(num_ranks: int) -> Lookout:
    """Each rank on a node of its own."""
    return watch([f"n{rank}" for rank in range(num_ranks)], Mesh(replicate=num_ranks))


def play(
    lookout: Lookout, own: Seconds, steps: range, start_seconds: float = 0.0
) -> tuple[Lookout, list[tuple[int, Slow]]]:
    """Who was named after which step; a step a second."""
    named = []
    for step in steps:
        works = step_of(step, [own(step, rank) for rank in range(len(lookout.nodes))])
        lookout, found = look(lookout, works, start_seconds + step)
        named.extend((step, slow) for slow in found)
    return lookout, named


@given(
    st.integers(2, 6).flatmap(
        lambda ranks: st.lists(
            st.lists(st.floats(0.8, 1.2), min_size=ranks, max_size=ranks), max_size=12
        )
    ),
    st.floats(0.001, 10),
    st.integers(1, 6),
)
def test_work_that_varies_by_a_fifth_names_nobody(
    steps: list[list[float]], scale: float, per_node: int
) -> None:
    """Whatever way it varies, and however the ranks lie on nodes."""
    if not steps:
        return
    ranks = len(steps[0])
    lookout = watch([f"n{rank // per_node}" for rank in range(ranks)], Mesh(replicate=ranks))
    for number, own in enumerate(steps):
        lookout, named = look(lookout, step_of(number, [scale * each for each in own]), 0.0)
        assert named == ()


@given(st.integers(2, 8), st.data(), st.integers(0, 2**32), st.floats(0.1, 5))
def test_twice_as_slow_is_named_after_three_steps(
    ranks: int, data: st.DataObject, seed: int, scale: float
) -> None:
    slow, since = data.draw(st.integers(0, ranks - 1)), data.draw(st.integers(1, 10))
    drawn = random.Random(seed)

    def own(step: int, rank: int) -> float:
        factor = 2.0 if rank == slow and step >= since else 1.0
        return scale * factor * drawn.uniform(0.95, 1.05)

    _, named = play(alone(ranks), own, range(1, since + 12))
    ((step, who),) = named
    assert step == since + 2
    assert (who.rank, who.node) == (slow, f"n{slow}")
    assert 1.7 < who.ratio < 2.3
    assert who.text.startswith(f"worker {slow} on node n{slow} is slow: ")
    assert f"over steps {step - 2} to {step}" in who.text


@given(st.integers(2, 5), st.integers(0, 2**32))
def test_it_does_not_matter_in_which_order_workers_report(ranks: int, seed: int) -> None:
    """Each rank's records come in order, those of different ranks anyhow, in batches."""
    drawn, lookout = random.Random(seed), alone(ranks)

    def own(step: int, rank: int) -> float:
        return 0.5 * (2.0 if rank == 1 and step >= 4 else 1.0)

    queues = [
        iter([step_of(step, [own(step, each) for each in range(ranks)])[rank]
              for step in range(1, 12)])
        for rank in range(ranks)
    ]  # fmt: skip
    named: list[Slow] = []
    while queues:
        queue = drawn.choice(queues)
        batch = list(islice(queue, drawn.randint(1, 4)))
        if not batch:
            queues.remove(queue)
        lookout, found = look(lookout, batch, 0.0)
        named.extend(found)
    (who,) = named
    assert who.rank == 1
    assert "over steps 4 to 6" in who.text
    assert lookout.open_steps == {}


def test_a_node_is_named_instead_of_its_ranks() -> None:
    lookout = watch(["a", "a", "b", "b"], Mesh(replicate=4))
    _, named = play(lookout, lambda step, rank: 0.4 if rank < 2 else 0.84 + 0.04 * rank, range(9))
    ((step, who),) = named
    assert step == 2
    assert (who.rank, who.node) == (None, "b")
    assert who.ratio == pytest.approx(2.3)
    assert who.text == (
        "node b is slow: all of its 2 workers take 2.3 times as long as those elsewhere, or "
        "longer; worker 2 0.92 s of own work a step, over steps 0 to 2"
    )


def test_a_node_that_holds_most_of_the_ranks_is_named_too() -> None:
    lookout = watch(["a", "b", "b", "b"], Mesh(shard=4))
    _, named = play(lookout, lambda step, rank: 0.3 if rank == 0 else 0.6, range(9))
    assert [(step, who.rank, who.node) for step, who in named] == [(2, None, "b")]


def test_one_rank_of_a_node_is_not_the_node() -> None:
    lookout = watch(["a", "a", "b", "b"], Mesh(replicate=4))
    _, named = play(lookout, lambda step, rank: 0.8 if rank == 3 else 0.4, range(9))
    assert [(who.rank, who.node) for _, who in named] == [(3, "b")]
    assert named[0][1].text == (
        "worker 3 on node b is slow: 0.8 s of own work a step, 2.0 times the others', over steps "
        "0 to 2"
    )


def test_of_two_ranks_the_slower_one_is_meant() -> None:
    _, named = play(alone(2), lambda step, rank: 0.2 if rank else 0.1, range(5))
    assert [who.rank for _, who in named] == [1]


def test_who_is_slow_is_named_once_until_it_recovers() -> None:
    def own(step: int, rank: int) -> float:
        return 0.5 if rank == 0 and (step < 20 or step >= 30) else 0.2

    _, named = play(alone(3), own, range(50))
    assert [step for step, _ in named] == [2, 32]


def test_who_stays_slow_is_named_again_after_five_minutes() -> None:
    _, named = play(alone(3), lambda step, rank: 0.5 if rank == 0 else 0.2, range(400))
    assert [step for step, _ in named] == [2, 302]


def test_a_rank_that_wavers_around_the_line_is_not_named_over_and_over() -> None:
    def own(step: int, rank: int) -> float:
        return (0.36 if step % 8 < 4 else 0.28) if rank == 0 else 0.2

    _, named = play(alone(3), own, range(60))
    assert [step for step, _ in named] == [2]


def test_one_bad_step_is_nothing() -> None:
    _, named = play(alone(2), lambda s, rank: 9.0 if rank and s % 3 == 0 else 0.2, range(30))
    assert named == []


def test_what_is_a_small_part_of_the_step_is_not_worth_a_word() -> None:
    lookout = alone(2)
    for step in range(9):
        works = [Work(step, rank, 1.0, 0.02 * (1 + rank)) for rank in range(2)]
        lookout, named = look(lookout, works, 0.0)
        assert named == ()


def test_short_steps_are_taken_together() -> None:
    """A hiccup of 30 ms in steps of 5 ms says nothing; twice the work for 0.3 s does."""
    _, named = play(alone(2), lambda s, rank: 0.03 if rank and s % 30 == 0 else 0.005, range(300))
    assert named == []
    _, named = play(alone(2), lambda s, rank: 0.01 if rank and s >= 100 else 0.005, range(300))
    ((step, who),) = named
    assert who.rank == 1
    assert (step - 100) * 0.011 < 4 * 0.1


def _guessed_step(step: int, asleep: Sequence[float], chance: random.Random) -> list[Work]:
    """Each rank sleeps over its own work, then waits for the others; looks 5 ms apart tell."""
    length, works = 0.04, []
    for rank, seconds in enumerate(asleep):
        found = sum(chance.random() * length < seconds for _ in range(round(length / 0.005)))
        works.append(Work(step, rank, length, 0.005 * found, 0.0, 0.005 * found))
    return works


@pytest.mark.parametrize("seed", range(5))
def test_what_is_guessed_from_looks_is_judged_by_many_of_them(seed: int) -> None:
    """Steps of 40 ms, half of them asleep over own work: by three short stretches one of the two
    would be named for nothing within seconds."""
    chance, lookout, named = random.Random(seed), alone(2), list[tuple[int, Slow]]()
    for step in range(10_000):
        asleep = [0.02, 0.02] if step < 5_000 else [0.0175, 0.035]
        lookout, found = look(lookout, _guessed_step(step, asleep, chance), 0.04 * step)
        named.extend((step, slow) for slow in found)
    (first, slow), *_ = named
    assert 5_000 <= first < 5_050, "two seconds after it became slow"
    assert slow.rank == 1


def test_where_nobody_can_tell_nobody_is_named() -> None:
    lookout = alone(2)
    for step in range(9):
        works = [Work(step, 0, 1.0, None), Work(step, 1, 1.0, 0.9)]
        lookout, named = look(lookout, works, 0.0)
        assert named == ()
    assert lookout.open_steps == {}


def test_what_was_lost_on_its_way_does_not_block_later_steps() -> None:
    lookout, named = alone(2), []
    for step in range(1000):
        works = step_of(step, [0.2, 0.5])
        lookout, found = look(lookout, works[:1] if step < 900 else works, 0.0)
        named += [(step, who.rank) for who in found]
        assert len(lookout.open_steps) <= 64
    assert named == [(902, 1)]
    assert lookout.open_steps == {}


def test_steps_that_are_done_again_after_a_rollback_count_anew() -> None:
    lookout, _ = play(alone(2), lambda step, rank: 0.2, range(10))
    _, named = play(lookout, lambda step, rank: 0.4 if rank else 0.2, range(4, 12))
    assert [step for step, _ in named] == [6]


def test_waiting_for_samples_is_own_work_and_is_told_apart() -> None:
    lookout, named = alone(2), []
    for step in range(3):
        lookout, found = look(lookout, step_of(step, [0.2, 0.2], [0.0, 0.3]), 0.0)
        named += found
    (who,) = named
    assert who.rank == 1
    assert who.text.endswith("; 0.3 s of it go by waiting for samples")


STAGES = Mesh(pipeline=2, replicate=2)


def test_stages_of_a_pipeline_may_have_different_work() -> None:
    """Ranks 0 and 1 are the first stage; rank 3 is slow for a rank of the second."""
    lookout = watch(["a", "b", "c", "d"], STAGES)
    lookout, named = play(lookout, lambda step, rank: 0.2 if rank < 2 else 0.6, range(30))
    assert named == []
    _, named = play(
        lookout, lambda step, rank: 0.2 if rank < 2 else (1.2 if rank == 3 else 0.6),
        range(30, 40),
    )  # fmt: skip
    assert [(step, who.rank) for step, who in named] == [(32, 3)]


@given(st.integers(0, 2**32))
def test_a_stage_that_no_other_rank_has_is_compared_with_its_past(seed: int) -> None:
    drawn = random.Random(seed)

    def own(step: int, rank: int) -> float:
        usual = 0.6 if rank else 0.2
        return usual * drawn.uniform(0.9, 1.1) * (2.0 if rank == 1 and step >= 20 else 1.0)

    _, named = play(watch(["a", "b"], Mesh(pipeline=2)), own, range(60))
    ((step, who),) = named
    assert who.rank == 1
    assert 22 <= step <= 24
    assert "times what it used to take" in who.text


def test_where_all_stages_take_longer_nobody_is_to_blame() -> None:
    lookout = watch(["a", "b"], Mesh(pipeline=2))
    _, named = play(lookout, lambda s, rank: (0.6 if rank else 0.2) * (1 + (s > 20)), range(40))
    assert named == []


SIZE = 131_072


def trips(seconds: dict[str, float]) -> list[RoundTrip]:
    return [RoundTrip(node, each, SIZE) for node, each in seconds.items()]


def test_a_slow_link_is_named_with_its_rate() -> None:
    links, named = Links(), []
    for round_ in range(40):
        found = {"a": 0.0004, "b": 0.0013, "c": 0.1049 + 0.01 * (round_ % 2), "d": 0.0013}
        links, slow = hear(links, trips(found), float(round_))
        named += [(round_, each) for each in slow]
    ((round_, who),) = named
    assert round_ == 2
    assert (who.rank, who.node) == (None, "c")
    assert who.text == (
        "the link to node c is slow: 131,072 bytes took 105 ms there and back, 10 Mbit/s; to the "
        "other nodes 1.3 ms"
    )
    assert who.ratio == pytest.approx(0.1049 / 0.0013)


@given(st.lists(st.lists(st.floats(0.01, 0.049), min_size=3, max_size=3), max_size=12))
def test_links_that_differ_by_less_than_five_times_are_alike(rounds: list[list[float]]) -> None:
    links = Links()
    for each in rounds:
        links, named = hear(links, trips(dict(zip("abc", each, strict=True))), 0.0)
        assert named == ()


@given(st.floats(1e-6, 0.0199), st.floats(1e-6, 0.0199))
def test_what_takes_less_than_20_ms_is_fast_enough(one: float, other: float) -> None:
    links = Links()
    for _ in range(5):
        links, named = hear(links, trips({"a": one, "b": other}), 0.0)
        assert named == ()


def test_one_late_round_trip_is_nothing_and_a_link_that_recovers_is_told_anew() -> None:
    links, named = Links(), []
    for round_ in range(60):
        slow = round_ in (5, 6) or 10 <= round_ < 20 or 40 <= round_ < 50
        links, found = hear(links, trips({"a": 0.001, "b": 0.5 if slow else 0.001}), float(round_))
        named += [round_ for _ in found]
    assert named == [12, 42]


def test_a_single_node_has_nobody_to_be_compared_with() -> None:
    links = Links()
    for _ in range(5):
        links, named = hear(links, trips({"a": 3.0}), 0.0)
        assert named == ()
    assert forget(links, "a") == Links()

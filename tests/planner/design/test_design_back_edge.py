"""The back edge: every remedy, and what is said where none is left."""

from __future__ import annotations

import pytest

from tests.planner.design.shipped import designed, designed_from

pytestmark = pytest.mark.unit

SMALL_STEPS = """\
name: small-steps
machine:
  devices: 8
  device_memory: 80GB
  flops: 100TFLOP/s
  network: {bandwidth: 25GB/s, latency: 50us}
model: {parameters: 10M}
training: {samples: 8B, batch: 4096, deadline: 40m, overlap: 0}
failure: {checkpoint: 10s}
"""


def test_many_small_steps_take_another_collective() -> None:
    """A ring pays a latency for each worker; a tree pays the logarithm."""
    found = designed_from(SMALL_STEPS, "training.deadline=2m")
    first = found.rounds[0]
    assert first.turn is not None
    assert first.turn.choice.collective == "tree"
    ring, tree = first.taxes.training, found.rounds[1].taxes.training
    assert ring is not None
    assert tree is not None
    assert tree.step.exposed_seconds < ring.step.exposed_seconds


def test_where_the_tax_exceeds_the_work_fewer_workers_are_taken() -> None:
    found = designed_from(
        SMALL_STEPS, "model.parameters=1B", "machine.flops=4PFLOP/s", "training.deadline=10m",
        "machine.network={bandwidth: 1GB/s, latency: 1us}",
    )  # fmt: skip
    counts = [w.sizing.training.replicas for w in found.rounds if w.sizing.training]
    first = found.rounds[0].taxes.training
    assert first is not None
    assert first.step.ratio > 1.0
    assert counts[-1] < counts[0]
    assert any(walk.turn and "fewer workers" in walk.turn.remedy for walk in found.rounds)
    # Fewer workers are later than was asked for: said, with a way out.
    assert not found.feasible
    assert "works: a faster network" in found.unmet[0]


def test_a_tax_that_misses_the_deadline_is_worked_off_by_more_workers() -> None:
    # 4.8e17 · 1000 FLOP on 8 · 100 TFLOP/s are 600 s; 50 % of tax come on top.
    found = designed("foundation-pretraining", "training.overlap=0", "training.deadline=21d")
    first, second = found.rounds[0], found.rounds[-1]
    assert first.turn is not None
    assert "with its taxes training takes" in first.turn.ceiling
    assert first.sizing.training is not None
    assert second.sizing.training is not None
    assert second.sizing.training.replicas > first.sizing.training.replicas
    assert second.taxes.training is not None
    assert second.taxes.training.finish_seconds <= 21 * 86_400
    assert found.feasible


def test_a_shuffle_that_does_not_fit_the_window_takes_more_machines() -> None:
    found = designed("crawl-40tb", "data.process.shuffle=8", "data.process.window=5h")
    first, second = found.rounds
    assert first.taxes.data is not None
    assert second.taxes.data is not None
    assert first.taxes.data.finish_seconds > 5 * 3600 >= second.taxes.data.finish_seconds
    assert second.sizing.data_machines > first.sizing.data_machines


def test_look_ups_become_local_where_their_data_fits() -> None:
    found = designed(
        "fraud-scoring", "serving.latency=4.2ms", "serving.lookups=9", "data.size=20GB",
        "data.growth_per_day=0",
    )  # fmt: skip
    assert [walk.choice.lookups for walk in found.rounds] == ["in turn", "at once", "local"]
    assert found.feasible


def test_a_budget_below_the_computing_cannot_be_kept() -> None:
    found = designed("fraud-scoring", "serving.latency=4.2ms", "serving.lookups=9")
    assert not found.feasible
    assert "computing takes 4 ms" in found.unmet[0]
    assert "works: a larger budget" in found.unmet[0]


def test_a_token_that_no_machine_can_make_in_time() -> None:
    found = designed("code-assistant", "serving.tokens.each=1ms")
    assert not found.feasible
    assert "each token takes" in found.unmet[0]


def test_a_deadline_that_no_number_of_replicas_meets() -> None:
    found = designed("foundation-pretraining", "training.deadline=1h")
    assert not found.feasible
    assert "were asked for" in found.unmet[0]


def test_a_channel_too_narrow_for_one_peer() -> None:
    found = designed("drone-swarm", "agents.channel.bandwidth=100kb/s")
    assert not found.feasible
    assert "more channels" in found.unmet[0]


def test_a_budget_of_money_that_is_not_enough() -> None:
    found = designed("crawl-40tb", "budget_per_month=1000")
    assert found.final.metric.choice == "cost"
    assert "cost 28,800 a month, 1,000 were planned" in found.unmet[0]


def test_hospitals_with_more_than_a_machine_each_are_a_hybrid() -> None:
    found = designed("hospital-consortium", "training.deadline=12h", "training.epochs=60")
    assert found.final.topology.choice == "hybrid"
    assert found.final.sizing.training is not None
    assert found.final.sizing.training.replicas % 12 == 0

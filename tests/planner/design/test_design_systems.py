"""The nine systems that the field discusses: their published numbers and their verdicts."""

from __future__ import annotations

import pytest

from orchestrator.planner.design import verdict
from orchestrator.planner.design.design import Round
from tests.planner.design.shipped import NAMES, designed

pytestmark = pytest.mark.unit


def spread(walk: Round) -> list[str]:
    return [each.axis for each in walk.distributed]


def pressures(walk: Round) -> dict[str, float]:
    return {each.axis: each.pressure for each in walk.pressures}


@pytest.mark.parametrize(
    ("name", "ceiling", "first_axis", "topology", "mode", "metric"),
    [
        ("fraud-scoring", "throughput", "inference", "centralized", "interactive", "latency"),
        ("crawl-40tb", "data", "data", "centralized", "batch", "throughput"),
        ("code-assistant", "throughput", "inference", "centralized", "interactive", "latency"),
        ("hospital-consortium", "data", "data", "decentralized", "batch", "reliability"),
        ("web-retrieval", "data", "data", "centralized", "interactive", "latency"),
        ("planetary-recommender", "throughput", "inference", "hybrid", "online", "latency"),
        ("foundation-pretraining", "throughput", "training", "centralized", "batch", "throughput"),
        ("drone-swarm", "agents", "coordination", "decentralized", "streaming", "reliability"),
        ("delivery-times", "throughput", "inference", "centralized", "interactive", "latency"),
    ],
)
def test_the_six_answers(
    name: str, ceiling: str, first_axis: str, topology: str, mode: str, metric: str
) -> None:
    found = designed(name)
    walk = found.final
    assert found.feasible
    assert walk.binding is not None
    answers = (walk.binding.ceiling, spread(walk)[0], walk.topology.choice, walk.mode.choice)
    assert (*answers, walk.metric.choice) == (ceiling, first_axis, topology, mode, metric)


def test_every_shipped_system_is_among_them() -> None:
    assert len(NAMES) == 9


def test_fraud_scoring_replicates_inference_and_keeps_the_model_whole() -> None:
    found = designed("fraud-scoring")
    walk = found.final
    rounded = {axis: round(value, 2) for axis, value in pressures(walk).items()}
    # The published pressures, but for coordination (0.55), which here is failures a month.
    assert rounded["data"] == 0.30
    assert rounded["training"] == 0.40
    assert rounded["model"] == 0.10
    assert rounded["inference"] == 0.95
    assert spread(walk) == ["inference", "coordination"]
    tax = walk.taxes.serving
    assert tax is not None
    assert tax.communication_seconds == pytest.approx(2.4e-3)
    assert tax.left_seconds == pytest.approx(17.6e-3)
    assert tax.fan_out_limit == 50
    assert len(found.rounds) == 1
    said = verdict(found)
    assert "Replicate inference 18 times" in said
    assert "keep the model whole" in said
    assert "do not distribute training" in said


def test_at_fifty_look_ups_the_budget_is_gone_and_the_design_goes_round_again() -> None:
    just = designed("fraud-scoring", "serving.lookups=40")  # 16 ms, and 4 ms are needed
    assert len(just.rounds) == 1
    found = designed("fraud-scoring", "serving.lookups=50")
    first, second = found.rounds
    assert first.turn is not None
    assert first.taxes.serving is not None
    assert first.taxes.serving.left_seconds == pytest.approx(0.0, abs=1e-12)
    assert "leave 0 s of 20 ms" in first.turn.ceiling
    assert "at once" in first.turn.remedy
    assert second.taxes.serving is not None
    assert second.taxes.serving.communication_seconds == pytest.approx(0.4e-3)
    assert found.feasible


def test_a_crawl_is_sharded_by_its_disk_and_nothing_else_is() -> None:
    found = designed("crawl-40tb")
    walk = found.final
    assert walk.binding is not None
    assert (walk.binding.name, walk.binding.ratio) == ("disk", 25.0)  # 40 TB / (0.8 · 2 TB)
    assert walk.sizing.num_machines == 25
    assert spread(walk) == ["data", "coordination"]
    assert found.cost_per_month == pytest.approx(25 * 1.6 * 24 * 30)


def test_a_70b_model_is_split_by_memory_and_replicated_by_requests() -> None:
    walk = designed("code-assistant").final
    ratios = {each.name: each.ratio for each in walk.demands}
    assert ratios["served weights"] == pytest.approx(140 / 64)
    assert walk.sizing.serving is not None
    assert walk.sizing.serving.split == 4
    tax = walk.taxes.serving
    assert tax is not None
    assert tax.replica is not None
    # 2 · 70e9 · 1500 FLOP on 4 devices of 400 TFLOP/s.
    assert tax.replica.prompt_seconds == pytest.approx(0.13125)
    # (4 · 64 GB - 140 GB) / (1700 tokens · 327,680 B) = 208 requests.
    assert tax.replica.batch == 208
    assert "training" not in spread(walk)


def test_hospitals_keep_their_records_and_exchange_less_often() -> None:
    found = designed("hospital-consortium")
    first, second = found.rounds
    assert first.turn is not None
    step = first.taxes.training
    assert step is not None
    # 2 · 11/12 · 400 MB / 12.5 MB/s + 22 · 20 ms, against 768 · 150 GFLOP / (12 · 40 TFLOP/s).
    assert step.step.replicas_seconds == pytest.approx(22 / 12 * 32 + 0.44)
    assert step.step.compute_seconds == pytest.approx(0.24)
    assert second.choice.collective == "local-update"
    later = second.taxes.training
    assert later is not None
    assert later.step.ratio <= 0.1
    assert later.finish_seconds < 7 * 86_400
    assert second.sizing.num_machines == 12
    assert "leave the records" in verdict(found).lower()


def test_retrieval_shards_memory_and_adds_a_copy_for_lost_machines() -> None:
    found = designed("web-retrieval")
    first, second = found.rounds
    assert first.sizing.index_machines == 14
    assert first.turn is not None
    assert "busy at the peak" in first.turn.ceiling
    assert first.sizing.serving is not None
    assert second.sizing.serving is not None
    assert second.sizing.serving.replicas == first.sizing.serving.replicas + 1
    tax = second.taxes.serving
    assert tax is not None
    assert tax.shards_waited_for == 14
    assert 100 * tax.shard_percentile == pytest.approx(99.928, abs=1e-3)


def test_a_recommender_splits_its_tables_and_survives_a_site() -> None:
    walk = designed("planetary-recommender").final
    assert walk.sizing.training is not None
    assert walk.sizing.training.split == 64  # 4 TB over 64 GB
    assert walk.sizing.serving is not None
    assert walk.sizing.serving.replicas % 5 == 0
    # Four of five sites carry the peak.
    left = walk.sizing.serving.replicas * 4 / 5 * walk.sizing.serving.split / 8 * 4000
    assert left * 0.7 >= 2e6


def test_pretraining_takes_512_devices_and_serving_160() -> None:
    found = designed("foundation-pretraining")
    sizing = found.final.sizing
    assert sizing.training is not None
    assert sizing.serving is not None
    training, serving = sizing.training, sizing.serving
    assert (training.replicas, training.split, training.num_devices) == (64, 8, 512)
    assert (serving.replicas, serving.split, serving.num_devices) == (40, 4, 160)
    assert sizing.num_machines == 64 + 20
    tax = found.final.taxes.training
    assert tax is not None
    assert tax.finish_seconds < 22 * 86_400
    assert tax.honest_replicas >= 64
    # Compute: 6 · 30e9 · 4,194,304 FLOP over 512 · 400 TFLOP/s.
    assert tax.step.compute_seconds == pytest.approx(
        6 * 30e9 * 4_194_304 / (512 * 400e12), rel=1e-5
    )
    # Gradients: a ring over 64 of 7.5 GB, eight rings through one machine's 400 GB/s.
    assert tax.step.replicas_seconds == pytest.approx(2 * 63 / 64 * 7.5e9 / 50e9 + 126e-5)


def test_a_swarm_talks_to_its_neighbours_only() -> None:
    found = designed("drone-swarm")
    first, second = found.rounds
    assert first.taxes.agents is not None
    assert first.taxes.agents.bytes_per_second == 60 * 59 * 10 * 120
    assert first.taxes.agents.channel_share == pytest.approx(4.248)
    assert second.taxes.agents is not None
    assert second.taxes.agents.peers == 13
    assert second.taxes.agents.channel_share == pytest.approx(0.936)
    assert "intelligence" in spread(second)
    assert "model" not in spread(second)


def test_a_delivery_predictor_fits_a_laptop() -> None:
    found = designed("delivery-times")
    assert spread(found.final) == ["inference"]
    assert "do not distribute training" in verdict(found)
    assert "keep the model whole" in verdict(found)
    assert found.final.sizing.serving is not None
    assert found.final.sizing.serving.replicas == 6
    quiet = designed("delivery-times", "serving.requests_per_second=1000")
    assert quiet.one_machine
    assert quiet.final.sizing.num_machines == 1
    assert verdict(quiet).startswith("One machine")

"""Predictions of a plan: from its own fields, refused with a reason, answered for neighbours."""

from __future__ import annotations

import pytest

from orchestrator.planner.cost.estimate import estimate, parse_specs
from orchestrator.planner.cost.hardware_files import find_device
from orchestrator.planner.forecast.asked import (
    HEAD_CORES,
    WORKER_CORES,
    as_shared,
    crowding,
    nodes_needed,
    spec_values,
)
from orchestrator.planner.forecast.changes import best_change, neighbours
from orchestrator.planner.forecast.parts import Parts
from orchestrator.planner.forecast.predict import (
    NoPrediction,
    Prediction,
    evaluation_seconds,
    interval_steps,
    predict,
)
from orchestrator.planner.forecast.telling import answers_view, prediction_rows, prediction_view
from orchestrator.transformer import Transformer
from tests.planner.forecast.plans import MODEL, device_of_two_cores, plan_of

pytestmark = pytest.mark.unit

DEVICE = device_of_two_cores()


def found(*overrides: str, workers: int = 2, device=DEVICE) -> Prediction:
    made = predict(plan_of(*overrides), MODEL, workers, device)
    assert isinstance(made, Prediction), made
    return made


def test_a_step_is_what_the_estimate_says():
    made = found()
    time = made.estimate.time
    parts = made.totals.parts
    assert parts.step == pytest.approx(time.total)
    assert parts.compute == pytest.approx(time.compute + time.optimizer)
    assert parts.by_dimension == {"dp": time.communication["dp"].exposed}
    assert made.totals.tokens_per_second == pytest.approx(32 * 128 / time.total)
    # On a processor nothing hides: its cores carry transfers, too.
    assert time.communication["dp"].exposed == time.communication["dp"].total > 0


def test_the_specification_that_is_kept_can_be_asked_again():
    plan = plan_of()
    spec = spec_values(plan, MODEL, 2, as_shared(plan, 2, DEVICE))
    spec["training"]["overlap"] = False
    assert estimate(parse_specs(spec)[0]).time.total == pytest.approx(found().estimate.time.total)


@pytest.mark.parametrize(
    ("overrides", "workers", "mesh", "training"),
    [
        ((), 2, {"dp": 2}, {"sharding": "none", "micro_batch": 16}),
        (("model.shard=2",), 2, {"fsdp": 2, "dp": 1}, {"sharding": "full"}),
        (("model.tensor=2",), 2, {"tp": 2, "dp": 1}, {"sequence_parallel": True}),
        (("model.pipeline=2",), 2, {"pp": 2}, {"schedule": "1f1b"}),
        (("model.context=2",), 2, {"cp": 2}, {"sharding": "full"}),
        (("training.precision=bf16",), 2, {}, {"precision": "bf16"}),
        (("model.activation_checkpoint=full",), 2, {}, {"recompute": "full"}),
    ],
)
def test_a_plan_asks_what_it_says(overrides, workers, mesh, training):
    spec = spec_values(plan_of(*overrides), MODEL, workers, DEVICE)
    assert mesh.items() <= spec["mesh"].items()
    assert training.items() <= spec["training"].items()
    assert isinstance(predict(plan_of(*overrides), MODEL, workers, DEVICE), Prediction)


def test_interleaved_schedules_keep_their_stages():
    plan = plan_of("model.pipeline=2", "model.pipeline_schedule=interleaved-1f1b",
                   "training.micro_batch=4")  # fmt: skip
    spec = spec_values(plan, MODEL, 2, DEVICE)
    assert (spec["training"]["schedule"], spec["training"]["virtual_stages"]) == ("interleaved", 2)


def test_without_a_machine_or_a_model_there_is_no_prediction_and_a_way_to_one():
    for model, device, words in (
        (MODEL, None, ("not described", "axis calibrate")),
        (None, DEVICE, ("does not say how large", "Transformer(")),
    ):
        made = predict(plan_of(), model, 2, device)
        assert isinstance(made, NoPrediction)
        assert made.sentence.startswith("no prediction: ")
        for word in words:
            assert word in made.sentence


def test_workers_without_gpus_are_not_predicted_on_one():
    gpu = find_device("A100-80GB-SXM")
    made = predict(plan_of(), MODEL, 2, gpu)
    assert isinstance(made, NoPrediction)
    assert "training.resources.gpu=1" in made.sentence
    made = predict(plan_of("training.resources.gpu=1"), MODEL, 2, DEVICE)
    assert isinstance(made, NoPrediction)
    made = predict(plan_of("training.resources.gpu=1"), MODEL, 2, gpu)
    assert isinstance(made, Prediction)
    # An accelerator hides what it can, and computes this little model in next to no time.
    assert made.totals.parts.step < found().totals.parts.step
    assert made.crowding == 1.0
    half = predict(plan_of("training.resources.gpu=0.5"), MODEL, 2, gpu)
    assert isinstance(half, Prediction)
    assert half.totals.parts.compute > made.totals.parts.compute


def test_what_the_cost_model_refuses_is_told_not_raised():
    odd = Transformer(layers=3, hidden=100, heads=3, vocab=10, seq_len=7)
    made = predict(plan_of("model.pipeline=2"), odd, 2, DEVICE)
    assert isinstance(made, Prediction | NoPrediction)
    assert isinstance(predict(plan_of("model.tensor=2"), MODEL, 3, DEVICE), NoPrediction)


def test_workers_fill_nodes_by_what_they_reserve():
    half = plan_of("training.resources.cpu=0.5")
    assert [nodes_needed(half, count, DEVICE) for count in (1, 4, 5, 8)] == [1, 1, 2, 2]
    assert [crowding(half, count, DEVICE) for count in (1, 2, 4)] == [1.0, 1.0, 2.0]
    assert crowding(plan_of("training.threads=2"), 2, DEVICE) == 2.0
    gpu = find_device("A100-80GB-SXM")
    assert nodes_needed(plan_of("training.resources.gpu=1"), 9, gpu) == 2


def test_workers_that_fill_a_node_share_it_with_those_who_serve_them():
    """As many cores as Ray's processes and the workers' other threads take are missing; a core that
    is idle anyway is not."""
    assert as_shared(plan_of(), 1, DEVICE) is DEVICE
    left = DEVICE.per_node - HEAD_CORES - 2 * WORKER_CORES
    filled = as_shared(plan_of(), 2, DEVICE)
    assert filled.peak("fp32") == pytest.approx(DEVICE.peak("fp32") * left / 2)
    host = DEVICE.host_seconds_per_operation
    assert filled.host_seconds_per_operation == pytest.approx(host * 2 / left)


def test_four_workers_on_two_cores_are_no_faster_than_two():
    two = found("training.resources.cpu=0.5")
    four = found("training.resources.cpu=0.5", "training.workers=4", workers=4)
    assert four.totals.parts.step >= two.totals.parts.step
    assert four.crowding == 2.0
    text = neighbours(plan_of("training.resources.cpu=0.5"), MODEL, two, DEVICE).more
    assert "2 threads would share a core" in text


def test_two_threads_on_two_idle_cores_are_worth_a_word():
    plan = plan_of("training.workers=1")
    one = found("training.workers=1", workers=1)
    change = best_change(plan, MODEL, one, DEVICE, one.totals.parts)
    assert change is not None
    assert change.what in ("training.threads=2", "training.workers=2")
    assert change.gain > 0.3


def test_neighbours_are_predicted_not_guessed():
    plan, two = plan_of(), found()
    near = neighbours(plan, MODEL, two, DEVICE)
    one = found("training.workers=1", workers=1)
    assert f"{one.totals.parts.step / two.totals.parts.step:.2f} times as long" in near.fewer
    assert "such nodes" in near.more  # three workers of a core each do not fit two cores
    alone = neighbours(plan_of("training.workers=1"), MODEL, one, DEVICE)
    assert "no smaller number" in alone.fewer


def test_too_few_workers_that_cannot_hold_it_say_so():
    small = DEVICE.model_copy(update={"memory_bytes": 150_000_000})
    two = predict(plan_of(), MODEL, 2, small)
    assert isinstance(two, Prediction)
    assert "cannot hold it" in neighbours(plan_of(), MODEL, two, small).fewer


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (Parts(1.0, 0.0, 0.0, 9.0, 0.0), "training.prefetch=8"),
        (Parts(0.1, 0.0, 0.0, 0.0, 9.0), "training.workers=4"),
        (Parts(1.0, 0.0, 9.0, 0.0, 0.0), "equally fast"),
    ],
)
def test_what_was_measured_decides_what_would_help(parts, words):
    change = best_change(plan_of(), MODEL, found(), DEVICE, parts)
    assert change is not None
    assert words in change.sentence
    assert 0.4 < change.gain <= 0.9


def test_checkpoints_and_evaluations_cost_what_they_do():
    plan, case = plan_of(), found().estimate.case
    assert interval_steps(plan, 0.1, 1.0) == 50
    assert interval_steps(plan_of("coordination.checkpoint.every=60"), 0.1, 1.0) == 50
    daly = interval_steps(plan_of("coordination.checkpoint.every=auto"), 10.0, 1.0)
    assert daly == pytest.approx(41.6, abs=0.5)  # √(2 · 86400 s · 1 s) − 1 s, in steps of 10 s
    assert evaluation_seconds(plan_of("data.holdout=0"), case) == 0.0
    many = plan_of("training.evaluate.samples=1024")
    assert evaluation_seconds(many, case) == pytest.approx(2 * evaluation_seconds(plan, case))
    share = found().totals.parts.checkpoint
    assert found("coordination.checkpoint.every=25").totals.parts.checkpoint == pytest.approx(
        2 * share
    )


def test_a_price_makes_a_cost():
    assert found().totals.cost is None
    made = found("coordination.price_per_hour=3.6")
    seconds = made.totals.training_seconds
    assert made.totals.cost == pytest.approx(2 * seconds * 1e-3)
    priced = DEVICE.model_copy(update={"price_per_hour": 3.6})
    assert found(device=priced).totals.cost == pytest.approx(2 * seconds * 1e-3)
    # Four workers on two cores are paid as two cores.
    crowded = ("training.resources.cpu=0.5", "training.workers=4")
    four = found(*crowded, workers=4, device=priced).totals
    assert four.cost == pytest.approx(2 * four.training_seconds * 1e-3)


def test_a_prediction_is_told_in_a_few_lines():
    plan, made = plan_of("coordination.price_per_hour=1"), found("coordination.price_per_hour=1")
    near = neighbours(plan, MODEL, made, DEVICE)
    lines = prediction_rows(made, near, None)
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "binds",
        "why not fewer",
        "why not more",
    ]
    assert "a step" in lines[0]
    assert "cost" in lines[0]
    view = prediction_view(made) | answers_view(near, None)
    assert view["limited_by"] == "compute-bound"
    assert view["would_help"] == ""
    assert view["fits"] is True

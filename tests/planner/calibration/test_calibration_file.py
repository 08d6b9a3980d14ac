"""A measured machine as a hardware file: what is read back, and what the planner makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.planner.calibration.hardware_file import MARK, calibrated, with_refit
from orchestrator.planner.cost.case import Case, Cluster, Degrees, Work
from orchestrator.planner.cost.device import LayerHost, Link, Refit, SplitHost
from orchestrator.planner.cost.estimate import estimate, parse_specs
from orchestrator.planner.cost.groups import LAUNCH_SECONDS, make_group
from orchestrator.planner.cost.hardware_files import parse_device
from orchestrator.planner.cost.matmul import Product, product_seconds
from orchestrator.planner.cost.shape import Shape
from orchestrator.planner.cost.spread import expected_maximum
from orchestrator.planner.cost.step import step_time
from tests.planner.calibration.timed_machines import ALPHA, BETA, HALF, LAYERS, RATE, machine

pytestmark = pytest.mark.unit


def test_the_file_holds_what_was_timed():
    found = calibrated(machine(), price_per_hour=0.05)
    device = parse_device(found.text, "hardware.yaml")
    assert device == found.device
    assert found.text.startswith(MARK)
    assert device.name == "A-Processor-R-of-2-cores-core"
    assert device.ceiling("fp32") == pytest.approx(RATE, rel=0.02)
    assert device.ceiling("bf16") == pytest.approx(4 * RATE, rel=0.03)
    assert device.streaming_rate == pytest.approx(10e9, rel=1e-3)
    assert device.collectives["all_reduce"].bandwidth == pytest.approx(1 / BETA, rel=1e-2)
    assert device.collectives["all_to_all"].latency == pytest.approx(ALPHA, rel=1e-2)
    assert device.price_per_hour == 0.05
    assert device.disk is not None
    assert device.ray is not None
    assert (device.disk.write, device.ray.actor_start) == (300e6, 0.5)
    assert device.spread == pytest.approx(1 / 11 / expected_maximum(2), rel=1e-3)
    assert max(found.errors.values()) < 0.01


def test_an_accelerator_is_told_by_its_tiles():
    timings = machine()
    gpu = replace(
        timings,
        kind="gpu",
        workers=tuple(
            replace(
                worker,
                products=tuple(
                    replace(each, precision={"fp32": "bf16", "bf16": "fp32"}[each.precision])
                    for each in worker.products
                ),
                attention=tuple(replace(each, precision="bf16") for each in worker.attention),
                processors=132,
            )
            for worker in timings.workers
        ),
    )
    device = calibrated(gpu).device
    assert (device.kind, device.processors, device.half_lengths) == ("gpu", 132, None)
    # The largest rate that was reached, in each precision: a plan may ask for either.
    best = max(p.rate for p in gpu.workers[0].products if p.precision == "bf16")
    assert device.ceiling("bf16") == pytest.approx(best, rel=1e-3)
    assert device.peak("fp32") > 0


def test_what_was_not_measured_is_named_and_shows_in_an_estimate():
    device = calibrated(machine()).device
    assert device.inter.bandwidth == device.intra.bandwidth
    assert "one node" in device.not_measured["inter"]
    values = {
        "model": {"layers": 2, "hidden": 64, "heads": 2, "vocab": 100},
        "training": {"seq_len": 16, "global_batch": 4},
        "hardware": {"device": device.model_dump()},
    }
    assert "one node" in estimate(parse_specs(values)[0]).defaults["hardware.device.inter"]
    both = calibrated(machine(num_nodes=2)).device
    assert both.not_measured == {}
    assert both.inter.bandwidth == pytest.approx(0.1 / BETA, rel=1e-2)


def test_without_any_link_a_stated_one_stands_in_and_says_so():
    alone = replace(machine(), within=(), num_workers=1, workers=machine().workers[:1], pace=())
    device = calibrated(alone).device
    assert set(device.not_measured) == {"intra", "inter", "spread"}
    assert device.spread == 0.0
    assert "stated" in device.not_measured["intra"]


def test_the_planner_asks_each_collective_as_it_was_measured():
    device = calibrated(machine()).device
    device = device.model_copy(
        update={
            "collectives": {
                **device.collectives,
                "all_gather": device.intra.model_copy(update={"bandwidth": 1e6}),
            }
        }
    )
    intra = Link(device.intra.bandwidth, device.intra.latency)
    group = make_group(Cluster(device, 2, 2, intra, intra), 2, 1)
    reduced = LAUNCH_SECONDS + 2 * ALPHA + 2e6 * 0.5 * 2 * BETA
    assert group.all_reduce(2e6) == pytest.approx(reduced, rel=1e-2)
    assert group.all_gather(2e6) > 0.9  # half of it at a megabyte a second
    # A link that somebody states instead is asked as it is stated.
    stated = make_group(Cluster(device, 2, 2, Link(1e9, 0.0), intra), 2, 1)
    assert stated.all_gather(2e6) == pytest.approx(LAUNCH_SECONDS + 1e-3)


def test_a_small_product_loses_what_was_measured():
    device = calibrated(machine()).device
    seconds = product_seconds(Product(64, 64, 64), device, "fp32", 4)
    share = 1.0
    for half in HALF:
        share *= 64 / (64 + half)
    assert seconds == pytest.approx(2 * 64**3 / RATE / share, rel=0.03)


def _case(device, degrees: Degrees) -> Case:
    link = Link(device.intra.bandwidth, device.intra.latency)
    shape = Shape(4, 128, 4, 2, 352, 259, gated_ffn=True, tied=True)
    work = Work(128, 32, 16, "fp32", overlap=False)
    return Case(shape, work, degrees, Cluster(device, degrees.size, 2, link, link))


def test_factors_scale_computing_and_communicating_alone():
    device = calibrated(machine()).device
    before = step_time(_case(device, Degrees(dp=2)))
    refit = Refit(computation=1.5, communication=3.0, num_runs=2)
    after = step_time(_case(device.model_copy(update={"refit": refit}), Degrees(dp=2)))
    assert after.compute + after.optimizer == pytest.approx(
        1.5 * (before.compute + before.optimizer)
    )
    moved = before.exposed - LAUNCH_SECONDS
    assert after.exposed == pytest.approx(3 * moved + LAUNCH_SECONDS)


def test_all_wait_for_the_slowest():
    """As long as was measured of two; longer where more wait, and nobody where there is one."""
    device = calibrated(machine()).device
    alike = device.model_copy(update={"spread": 0.0})
    waits = []
    for ranks in (1, 2, 8):
        found, even = (step_time(_case(on, Degrees(dp=ranks))) for on in (device, alike))
        busy = found.compute + found.optimizer
        assert even.straggling == 0
        assert found.total == pytest.approx(even.total + found.straggling)
        waits.append(found.straggling / busy)
    most = 1 / 11 * expected_maximum(8) / expected_maximum(2)
    assert waits == pytest.approx([0, 1 / 11, most], rel=1e-3)


def test_a_processor_launches_what_it_computes():
    device = calibrated(machine()).device
    slow = device.model_copy(update={"host_seconds_per_operation": 1e-3})
    fast = device.model_copy(update={"host_seconds_per_operation": 0.0})
    slow, fast = (step_time(_case(device, Degrees(dp=2))).compute for device in (slow, fast))
    gap = slow - fast
    assert gap == pytest.approx(26 * 1e-3 * 2 * 4)  # operations, passes, layers; one pass of 16


def test_sharing_a_core_takes_twice_as_long():
    device = calibrated(machine()).device
    alone, shared = _case(device, Degrees(dp=2)), _case(device.sharing(2.0), Degrees(dp=2))
    first, second = step_time(alone), step_time(shared)
    assert second.compute == pytest.approx(2 * first.compute)
    assert second.exposed - LAUNCH_SECONDS == pytest.approx(2 * (first.exposed - LAUNCH_SECONDS))
    assert device.sharing(0.5) is device
    assert device.joined(1) is device
    assert device.joined(2).peak("fp32") == 2 * device.peak("fp32")


@pytest.mark.parametrize(
    ("degrees", "work", "milliseconds"),
    [
        (Degrees(dp=2), {}, 0),
        (Degrees(tp=2), {}, 5),
        (Degrees(fsdp=2), {"sharding": "full"}, 2),
        (Degrees(dp=2), {"recompute": "selective"}, 4),
        (Degrees(dp=2), {"recompute": "full"}, 0.6),
        (Degrees(tp=2, dp=2), {"recompute": "full"}, 7.6),
        (Degrees(tp=2, fsdp=2), {"sharding": "full", "recompute": "selective"}, 16),
    ],
)
def test_a_layer_that_is_split_takes_the_host_longer(degrees, work, milliseconds):
    """By what was measured, in each of 4 layers, once for each micro-batch; and for those who
    share a core as often as they are."""
    device = calibrated(machine()).device
    none = device.model_copy(update={"layer_host": LayerHost()})

    def computing(on) -> float:
        case = _case(on, degrees)
        return step_time(replace(case, work=replace(case.work, **work))).compute

    count = _case(device, degrees).micro_batches
    gap = computing(device) - computing(none)
    assert gap == pytest.approx(4 * count * milliseconds * 1e-3, abs=1e-9)
    assert computing(device.sharing(3.0)) - computing(none.sharing(3.0)) == pytest.approx(3 * gap)


def test_layers_that_nobody_split_are_told():
    alone = replace(machine(), layers=tuple(each for each in LAYERS if each.split == "alone"))
    device = calibrated(alone).device
    own = LayerHost(selective=SplitHost(alone=4e-3), full=SplitHost(alone=0.6e-3))
    assert device.layer_host == own
    assert "tensor and shard not measured" in device.not_measured["layer_host"]
    device = calibrated(replace(machine(), layers=())).device
    assert device.layer_host == LayerHost()
    assert "not measured on GPUs" in device.not_measured["layer_host"]


def test_factors_are_written_into_a_file_and_nothing_else_changes():
    found = calibrated(machine(), price_per_hour=0.05)
    factors = Refit(computation=1.2, communication=0.8, num_runs=3)
    text = with_refit(found.text, factors)
    assert parse_device(text, "x") == found.device.model_copy(update={"refit": factors})
    assert text.splitlines()[0] == found.text.splitlines()[0]
    # Once more: the factors are replaced, not gathered.
    again = with_refit(text, Refit(computation=1.1, num_runs=4))
    assert parse_device(again, "x").refit == Refit(computation=1.1, num_runs=4)
    with pytest.raises(ValueError, match="wrote"):
        with_refit("name: mine\n", factors)

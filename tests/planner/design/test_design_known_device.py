"""A machine whose accelerator is known, and tokens that travel to their experts."""

from __future__ import annotations

import pytest

from orchestrator.errors import PlanError
from orchestrator.planner.cost.hardware_files import find_device
from orchestrator.planner.design import parse_workload
from tests.planner.design.shipped import designed

pytestmark = pytest.mark.unit

TEXT = """
name: known
machine: {device: H100-80GB-SXM, memory: 2TiB, disk: 30TB, disk_rate: 5GB/s, flops: 400TFLOP/s}
data: {size: 8TB}
model: {parameters: 30B, layers: 60}
training: {samples: 2T, batch: 4_194_304, deadline: 22d}
"""


def test_a_known_accelerator_fills_what_is_not_written():
    loaded = parse_workload(TEXT)
    machine, device = loaded.workload.machine, find_device("H100-80GB-SXM")
    assert machine.devices == device.per_node == 8
    assert machine.device_memory == device.memory_bytes
    assert machine.device_bandwidth == device.memory_bandwidth
    # What large exchanges reach, as the cost model counts: 0.82 of 450 GB/s.
    assert machine.device_link.bandwidth == pytest.approx(0.82 * 450e9)
    assert machine.network.bandwidth == pytest.approx(0.8 * 400e9)
    told = {each.where: each.meaning for each in loaded.defaults}
    for field in ("devices", "device_memory", "device_link", "network"):
        assert told[f"machine.{field}"] == "of H100-80GB-SXM"


def test_what_is_written_stays():
    loaded = parse_workload(TEXT, ["machine.devices=4", "machine.network.latency=1ms",
                                   "machine.network.bandwidth=1GB/s"])  # fmt: skip
    machine = loaded.workload.machine
    assert (machine.devices, machine.network.bandwidth, machine.network.latency) == (4, 1e9, 1e-3)
    assert "machine.network" not in {each.where for each in loaded.defaults}


@pytest.mark.parametrize(
    ("name", "words"),
    [("H101", "H100-80GB-SXM"), ("cpu", "machine.cores and machine.memory instead")],
)
def test_another_name_is_refused_with_what_works(name, words):
    with pytest.raises(PlanError) as refused:
        parse_workload(TEXT, [f"machine.device={name}"])
    (problem,) = refused.value.problems
    assert problem.where == "machine.device"
    assert words in problem.works


def test_tokens_travel_to_their_experts():
    before = designed("foundation-pretraining").final.taxes.training
    after = designed("foundation-pretraining", "model.expert_bytes_per_sample=1MB")
    after = after.final.taxes.training
    assert before is not None
    assert after is not None
    pool = before.step.pool
    own = 4_194_304 / pool.num_devices * 1e6
    # All to all within a replica of 8, at 450 GB/s and 3 µs a step.
    added = own * (pool.split - 1) / pool.split / 450e9 + (pool.split - 1) * 3e-6
    assert after.step.split_seconds - before.step.split_seconds == pytest.approx(added)

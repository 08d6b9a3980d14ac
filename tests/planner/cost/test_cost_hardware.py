"""Hardware files: each loads, states its sources, and stays within physical limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.accuracy.published import absent, folder, rows
from orchestrator.errors import PlanError
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.wording import fold
from orchestrator.planner.cost.hardware_files import find_device, known_devices, parse_device
from orchestrator.planner.cost.quantities import parse_bandwidth

pytestmark = pytest.mark.unit

FILES = sorted((Path(__file__).parents[3] / "configs" / "hardware").glob("*.yaml"))
NAMES = [path.stem for path in FILES]


def test_the_files_of_the_repository_are_those_of_the_package():
    assert sorted(known_devices()) == NAMES
    asked = {"V100", "A100", "H100", "H200", "B200", "GB200", "CPU"}
    assert asked <= {name.split("-")[0] for name in NAMES}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_states_its_sources(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("peak_flops", "matmul_ceiling", "memory", "flash", "intra", "inter")):
            above = lines[number - 1]
            assert above.startswith("#"), f"{path.name}: {line} has no source above it"


@pytest.mark.parametrize("name", NAMES)
def test_rates_stay_within_physical_limits(name):
    device = find_device(name)
    for precision in ("fp32", "fp16", "bf16", "fp8"):
        assert 0 < device.ceiling(precision) <= device.peak(precision)
    assert device.intra.bandwidth < device.memory_bandwidth
    assert device.flash.backward <= device.flash.forward


def test_names_and_aliases_are_not_shared():
    spellings = [fold(n) for d in known_devices().values() for n in (d.name, *d.aliases)]
    assert len(spellings) == len(set(spellings))


def test_measured_ceilings():
    # 87 % of peak on A100, 80 % on H100 (MAMF).
    for name, share in (("A100-80GB-SXM", 0.869), ("H100-80GB-SXM", 0.803)):
        device = find_device(name)
        assert device.ceiling("bf16") / device.peak("bf16") == pytest.approx(share, abs=1e-3)


def test_a_ceiling_measured_in_bf16_holds_in_fp16():
    for name in ("A100-80GB-SXM", "H100-80GB-SXM", "B200"):
        device = find_device(name)
        assert device.ceiling("fp16") == device.ceiling("bf16")
    # fp32 has units of its own, and nothing was measured on them.
    assert find_device("A100-80GB-SXM").ceiling("fp32") == 0.8 * 19.5e12


def test_a_precision_that_a_device_lacks_runs_as_the_next_wider():
    v100, cpu = find_device("V100-32GB"), find_device("cpu")
    assert v100.peak("bf16") == v100.peak("fp16") == v100.peak("fp8") == 125e12
    assert cpu.peak("bf16") == cpu.peak("fp32")


@pytest.mark.parametrize("column", ["gpu"])
def test_every_device_of_the_published_tables_is_known(column):
    if folder() is None:
        pytest.skip(absent())
    tables = ("training_runs.csv", "training_runs_single_node_factorial.csv", "memory_runs.csv")
    named = {row[column] for table in tables for row in rows(table)} - {""}
    for name in named:
        assert find_device(name).kind == "gpu"


def test_what_is_no_hardware_file_is_refused():
    with pytest.raises(PlanError, match="peak_flops"):
        parse_device("name: x\n", "x.yaml")
    with pytest.raises(PlanError, match="YAML"):
        parse_device("a: [", "x.yaml")


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [("300GB/s", 300e9), ("1600Gbps", 200e9), ("200 Gb/s", 25e9), ("1GiB/s", 2**30), (5e9, 5e9)],
)
def test_bandwidths(text, bytes_per_second):
    assert parse_bandwidth(text) == bytes_per_second


@pytest.mark.parametrize("text", ["300", "GB/s", "0Gbps", float("nan"), True, None, 300])
def test_what_is_no_bandwidth(text):
    with pytest.raises(Refusal):
        parse_bandwidth(text)

"""What a workload may not say, and how it is said back: named, with the line and a way out."""

from __future__ import annotations

import pytest

from orchestrator.errors import PlanError
from orchestrator.planner.design import parse_workload
from tests.planner.design.shipped import designed_from, loaded

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "where", "parts"),
    [
        ("", "workload file", ("is empty",)),
        ("- a", "workload file", ("is not a workload",)),
        ("name: [", "workload file", ("is not YAML",)),
        ("title: x", "name", ("is missing", "Lower-case")),
        ("name: x\nservng: {}", "servng", ("no such key", "works: serving")),
        ("name: x\nlookups: 6", "lookups", ("works: serving.lookups",)),
        ("name: x\nmachine: {network: {bandwidth: 0, latency: 1ms}}",
         "machine.network.bandwidth", ("must be more than 0",)),
        ("name: x\nmachine: {network: {bandwidth: 25GB, latency: 1ms}}",
         "machine.network.bandwidth", ("25GB/s",)),
        ("name: x\nmachine: {flops: 400TFLOPS}", "machine.flops", ("400TFLOP/s",)),
        ("name: x\nmodel: {parameters: 7Z}", "model.parameters", ("Z is not a letter", "70B")),
        ("name: x\nmodel: {parameters: 0}", "model.parameters", ("more than 0",)),
        ("name: x\nmodel: {parameters: 7B, active_parameters: 9B}", "model.active_parameters",
         ("larger than the whole", "9,000,000,000 > parameters 7,000,000,000")),
        ("name: x\nfreshness: instant", "freshness", ("batch, streaming, online or interactive",)),
        ("name: x\nserving: {requests_per_second: 5}", "serving.compute", ("4ms",)),
        ("name: x\nserving: {requests_per_second: 5, compute: 1ms, lookups: 2, latency: 1s}",
         "serving.lookup_latency", ("0.4ms",)),
        ("name: x\nserving: {requests_per_second: 5, latency: 2 parsecs}", "serving.latency",
         ("parsecs",)),
        ("name: x\nmachine: {devices: 8}", "machine.device_memory", ("is missing",)),
        ("name: x\nmachine: {device_memory: 80GB}", "machine.devices", ("is 0, but",)),
        ("name: x\ntraining: {samples: 1M, deadline: 1d}", "model", ("is missing",)),
        ("name: x\nmodel: {parameters: 1M}\ntraining: {samples: 1M, deadline: 1d}",
         "machine.flops", ("400TFLOP/s", "training.measured")),
        ("name: x\nmodel: {parameters: 1M}\n"
         "training: {samples: 10, batch: 20, deadline: 1d, measured: 1h}",
         "training.batch", ("20 > samples 10",)),
        ("name: x\nagents: {population: 5, peers: 5, decisions_per_second: 1, compute: 1ms}",
         "agents.peers", ("at most 4",)),
        ("name: x\nfailure: {survive: site}", "failure.survive", ("failure.sites=2",)),
        ("name: x\nfreshness: online", "freshness", ("never learns", "streaming")),
        ("name: x\nfreshness: interactive", "freshness", ("nobody asks",)),
        ("name: x\nobjective: latency", "objective", ("latency of what?",)),
        ("name: x\nobjective: cost", "machine.price_per_hour", ("is missing",)),
        ("name: x\nbudget_per_month: 100", "machine.price_per_hour", ("is missing",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, where: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(PlanError) as caught:
        parse_workload(text, source="w.yaml")
    named = {problem.where: problem.render() for problem in caught.value.problems}
    assert where in named
    for part in parts:
        assert part in named[where]
    assert caught.value.exit_code == 2


def test_everything_is_reported_at_once_with_its_line() -> None:
    text = "name: X\nmodel: {parameters: 7Z}\nserving: {request_per_second: 5}\n"
    with pytest.raises(PlanError) as caught:
        parse_workload(text, source="w.yaml")
    found = [(problem.where, problem.line) for problem in caught.value.problems]
    assert found == [
        ("name", 1), ("model.parameters", 2), ("serving.request_per_second", 3),
    ]  # fmt: skip


def test_tokens_contradict_a_fixed_time_of_computing() -> None:
    with pytest.raises(PlanError, match=r"contradicts serving\.tokens"):
        loaded("code-assistant", "serving.compute=1ms")


def test_records_that_stay_need_a_way_for_updates() -> None:
    with pytest.raises(PlanError, match="updates travel between them"):
        loaded("hospital-consortium", "trust.link=null")


def test_one_machine_is_an_answer_but_not_to_no_question() -> None:
    found = designed_from("name: little\ndata: {size: 1GB}")
    assert found.one_machine
    assert found.feasible
    with pytest.raises(PlanError, match="nothing in it that could be distributed") as refused:
        parse_workload("name: nothing\nmachine: {cores: 8}", source="w.yaml")
    assert refused.value.exit_code == 2


def test_overrides_come_last() -> None:
    workload = loaded("fraud-scoring", "serving.lookups=7", "machine.cores=8").workload
    assert workload.serving is not None
    assert (workload.serving.lookups, workload.machine.cores) == (7, 8)


def test_every_default_that_is_read_is_listed_and_no_other() -> None:
    listed = {each.where: each.value for each in loaded("fraud-scoring").defaults}
    assert listed["serving.utilization"] == "0.7"
    assert listed["failure.repair"] == "1d"
    assert listed["coordinator_rate"] == "100,000"
    assert listed["failure.rate"] == "3.79 (2.34 to 15.6) per 1000 node-days"
    assert "machine.cores" not in listed  # written in the file
    assert "machine.device_link.bandwidth" not in listed  # there are no accelerators
    assert all(each.meaning for each in loaded("fraud-scoring").defaults)

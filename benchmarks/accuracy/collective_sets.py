"""How is a published collective asked of the planner?"""

from __future__ import annotations

from benchmarks.accuracy.published import Row, count, number, rows
from benchmarks.accuracy.scores import Pair
from orchestrator.planner.cost.case import Cluster
from orchestrator.planner.cost.device import Link
from orchestrator.planner.cost.groups import Group, make_group
from orchestrator.planner.cost.hardware_files import find_device

TABLE = "collectives.csv"
LARGE = 1 << 20
"""Bytes from which a collective is asked: below, the launch decides, which loops hide."""


def one_node_pairs() -> list[Pair]:
    """All-reduce on 2 to 8 devices of a node (vTrain, nccl-tests). V100 on fewer than 8 devices
    is left out: its rings have fewer links, which the planner does not know."""
    found = []
    for row in rows(TABLE, "vtrain_nccl_allreduce"):
        if row["gpu"] == "V100" and count(row, "ranks") < 8:
            continue
        found.append(_pair(row, _group(row, None)))
    return found


def two_node_pairs() -> list[Pair]:
    """All-reduce on two nodes of AWS over EFA (nccl-tests), from 1 MiB.

    The link is asked as it is: 4 or 32 NICs of 100 Gb/s, and the latency that the smallest
    message shows, less what the planner takes for the launch and the steps within a node.
    """
    listed = rows(TABLE, "aws_nccl_tests")
    links = {name: _efa(name, bandwidth, listed) for name, bandwidth in _EFA.items()}
    return [
        _pair(row, _group(row, links[row["gpu"]]))
        for row in listed
        if count(row, "size_bytes") >= LARGE
    ]


_EFA = {"A100-80GB": 50e9, "H100-80GB": 400e9}
"""Bytes per second of a node in one direction: p4de and p5."""


def _efa(name: str, bandwidth: float, listed: list[Row]) -> Link:
    smallest = min(
        (row for row in listed if row["gpu"] == name), key=lambda row: count(row, "size_bytes")
    )
    group = _group(smallest, Link(bandwidth, 0.0))
    rest = number(smallest, "time_us") * 1e-6 - group.all_reduce(0.0)
    return Link(bandwidth, max(0.0, rest / 2))


def peak_pairs() -> list[Pair]:
    """Bus bandwidth of large all-reduces on 8 devices, ring (NVIDIA)."""
    names = {"NVLink2": "V100-32GB-SXM", "NVLink3 NVSwitch": "A100-80GB-SXM"}
    names |= {"NVLink4, ring": "H100-80GB-SXM", "NVLink5, ring": "B200"}
    found = []
    for row in rows(TABLE, "nvidia_slides"):
        if row["interconnect"] not in names or row["system"] != "single node peak":
            continue
        device = find_device(names[row["interconnect"]])
        size = 2.0**34
        group = make_group(_cluster(device.name, 8, 8, None), 8, 1)
        bus = size / group.all_reduce(size) * 2 * 7 / 8 / 1e9
        found.append(Pair(row["id"], bus, number(row, "busbw_gbps")))
    return found


def _cluster(name: str, devices: int, per_node: int, inter: Link | None) -> Cluster:
    device = find_device(name)
    intra = Link(device.intra.bandwidth, device.intra.latency)
    own = Link(device.inter.bandwidth, device.inter.latency)
    return Cluster(device, devices, per_node, intra, inter or own)


def _group(row: Row, inter: Link | None) -> Group:
    ranks = count(row, "ranks")
    return make_group(_cluster(row["gpu"], ranks, count(row, "ranks_per_node"), inter), ranks, 1)


def _pair(row: Row, group: Group) -> Pair:
    size = number(row, "size_bytes")
    return Pair(row["id"], group.all_reduce(size) * 1e6, number(row, "time_us"))

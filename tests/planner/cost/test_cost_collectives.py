"""Collectives: every formula against numbers worked out by hand, and against its lower bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner.cost import collectives as co
from orchestrator.planner.cost.case import Cluster
from orchestrator.planner.cost.device import Link
from orchestrator.planner.cost.groups import LAUNCH_SECONDS, make_group
from orchestrator.planner.cost.hardware_files import find_device

pytestmark = pytest.mark.unit

ALPHA, BETA = 10e-6, 1e-9
"""10 µs a step and 1 GB/s."""
SIZE = 8e6
"""8 MB take 8 ms over the link."""


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        # p = 8: lg p = 3, p - 1 = 7, (p - 1)/p = 0.875
        (co.broadcast_tree, 3 * (10e-6 + 8e-3)),
        (co.broadcast_ring, 10 * 10e-6 + 2 * 7e-3),
        (co.broadcast, 10 * 10e-6 + 14e-3),
        (co.reduce_tree, 3 * (10e-6 + 8e-3)),
        (co.reduce_ring, 6 * 10e-6 + 14e-3),
        (co.reduce, 6 * 10e-6 + 14e-3),
        (co.all_reduce_ring, 14 * 10e-6 + 14e-3),
        (co.all_reduce_tree, 6 * 10e-6 + 16e-3),
        (co.all_reduce, 14 * 10e-6 + 14e-3),
        (co.all_gather, 7 * 10e-6 + 7e-3),
        (co.reduce_scatter, 7 * 10e-6 + 7e-3),
        (co.all_to_all, 7 * 10e-6 + 7e-3),
    ],
)
def test_formulas_at_eight_ranks(formula, expected):
    assert formula(SIZE, 8, ALPHA, BETA) == pytest.approx(expected, rel=1e-12)
    assert formula(SIZE, 1, ALPHA, BETA) == 0.0


def test_a_tree_wins_for_short_messages_and_a_ring_for_long_ones():
    assert co.all_reduce(8.0, 64, ALPHA, BETA) == co.all_reduce_tree(8.0, 64, ALPHA, BETA)
    assert co.all_reduce(1e9, 64, ALPHA, BETA) == co.all_reduce_ring(1e9, 64, ALPHA, BETA)


def test_a_message_costs_one_step_and_its_bytes():
    assert co.point_to_point(SIZE, ALPHA, BETA) == pytest.approx(8.01e-3)


@pytest.mark.parametrize(
    ("collective", "factor"),
    [("all_reduce", 1.75), ("all_gather", 0.875), ("all_to_all", 0.875), ("broadcast", 1.0)],
)
def test_bus_bandwidth_factors_of_nccl_tests(collective, factor):
    assert co.bus_bandwidth_factor(collective, 8) == factor


def test_an_unknown_collective_has_no_factor():
    with pytest.raises(ValueError, match="gather_all"):
        co.bus_bandwidth_factor("gather_all", 8)


@given(
    size=st.floats(1.0, 1e12),
    ranks=st.integers(2, 4096),
    alpha=st.floats(0, 1e-3),
    beta=st.floats(1e-13, 1e-6),
)
def test_no_all_reduce_beats_the_bandwidth_bound(size, ranks, alpha, beta):
    bound = 2 * size * (ranks - 1) / ranks * beta
    assert co.all_reduce(size, ranks, alpha, beta) >= bound * (1 - 1e-12)


def cluster(devices: int, name: str = "A100-80GB-SXM") -> Cluster:
    device = find_device(name)
    intra = Link(device.intra.bandwidth, device.intra.latency)
    inter = Link(device.inter.bandwidth, device.inter.latency)
    return Cluster(device, devices, 8, intra, inter)


def test_one_node_reaches_the_measured_bus_bandwidth():
    size = 2.0**34
    seconds = make_group(cluster(8), 8, 1).all_reduce(size)
    # 232 GB/s on NVLink 3 and NVSwitch, 8 devices (NVIDIA).
    assert size * 1.75 / seconds == pytest.approx(232e9, rel=0.02)


def test_four_nodes_are_bound_by_the_slower_level():
    size = 2.0**34
    group = make_group(cluster(32), 32, 1)
    assert (group.local, group.nodes) == (8, 4)
    # Within: 2·7/8·n over 231 GB/s. Between: 2·3/4·n/8 over 200·0.8/8 = 20 GB/s for each rank.
    within, between = 1.75 * size / 231e9, 1.5 * size / 8 / 20e9
    steps = 14 * 2.5e-6 + 4 * 10e-6
    expected = LAUNCH_SECONDS + steps + max(within, between)
    assert group.all_reduce(size) == pytest.approx(expected, rel=1e-9)


def test_a_stride_of_a_whole_node_leaves_one_rank_in_each():
    group = make_group(cluster(64), 8, 8)
    assert (group.local, group.nodes) == (1, 8)
    size = 1e9
    # (p - 1)/p·n over an eighth of the node's links, and seven steps between nodes.
    expected = LAUNCH_SECONDS + 7 * 10e-6 + 0.875 * size / 20e9
    assert group.all_gather(size) == pytest.approx(expected)


def test_all_to_all_sends_most_of_its_bytes_out_of_the_node():
    group = make_group(cluster(32), 32, 1)
    size = 1e9
    expected = LAUNCH_SECONDS + 7 * 2.5e-6 + 2 * 10e-6 + size * 24 / 32 / 20e9
    assert group.all_to_all(size) == pytest.approx(expected)


@given(ranks=st.sampled_from([2, 4, 8, 16, 32, 64]), size=st.floats(1e3, 1e11))
def test_between_nodes_no_byte_exceeds_the_links_of_the_node(ranks, size):
    group = make_group(cluster(64), ranks, 1)
    if group.nodes > 1:
        leaving = 2 * (group.nodes - 1) / group.nodes * size
        assert group.all_reduce(size) >= leaving / 200e9

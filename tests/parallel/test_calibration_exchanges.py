"""Every collective is timed over a real process group, and all ranks agree on what it took; so is
a layer in each way in which runs split it."""

from __future__ import annotations

import pytest
from gloo_gang import Gang

from orchestrator.planner.calibration.fitting import fit_link, fit_spread, layer_host

pytestmark = pytest.mark.gloo

NAMES = ["broadcast", "all_reduce", "all_gather", "reduce_scatter", "all_to_all"]


@pytest.mark.parametrize("ranks", [2, 3])
def test_collectives_are_timed_and_fitted(gang: Gang, ranks: int) -> None:
    sizes = (3 * 4096, 3 * 2**18)
    found = gang.run("exchange_cases:timed_case", ranks, sizes)
    assert all(each == found[0] for each in found)
    told = {(each.collective, each.num_bytes): each for each in found[0]}
    assert sorted(told) == sorted((name, size) for name in NAMES for size in sizes)
    for name in NAMES:
        own = [told[name, size] for size in sizes]
        assert all(each.ranks == ranks and 1e-6 < each.seconds < 10 for each in own)
        fit = fit_link(own)
        assert fit.alpha > 0
        assert 1e5 < fit.bandwidth < 1e13


def test_every_rank_is_told_what_each_took_for_the_same_work(gang: Gang) -> None:
    found = gang.run("exchange_cases:pace_case", 3)
    assert found[0] == found[1] == found[2]
    assert [len(step) for step in found[0]] == [3] * 4
    assert all(0.002 < seconds < 2 for step in found[0] for seconds in step)
    assert 0 <= fit_spread(found[0]) < 2


def test_layers_are_timed_as_they_are_split_and_computed_again(gang: Gang) -> None:
    for found in gang.run("exchange_cases:layers_case", 2):
        told = {(each.recompute, each.split): each.seconds for each in found}
        assert len(told) == len(found) == 9
        assert all(1e-5 < each.forward_seconds < each.seconds < 1 for each in found)
        # Python around operations is no trifle: on so little it is more than the layer itself.
        for again in ("none", "selective", "full"):
            for split in ("tensor", "shard"):
                assert told[again, split] > 1.3 * told[again, "alone"]
        assert told["selective", "alone"] > 1.3 * told["none", "alone"]
        assert set(layer_host(found)) == {"none", "selective", "full"}


def test_a_worker_alone_times_what_needs_no_other(gang: Gang) -> None:
    ((*found,),) = gang.run("exchange_cases:layers_case", 1)
    assert {each.split for each in found} == {"alone"}
    assert set(layer_host(found)) == {"selective", "full"}

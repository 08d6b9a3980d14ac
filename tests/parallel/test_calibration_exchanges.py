"""Every collective is timed over a real process group, and all ranks agree on what it took."""

from __future__ import annotations

import pytest
from gloo_gang import Gang

from orchestrator.planner.calibration.fitting import fit_link

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

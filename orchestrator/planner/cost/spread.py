"""How long do ranks wait for the slowest of them, where equal work takes them unequally long?"""

from __future__ import annotations

from statistics import NormalDist

_BLOM = 0.375


def expected_maximum(ranks: int) -> float:
    """Of so many standard normal values, in standard deviations above their mean: Φ⁻¹((K − ⅜)/(K +
    ¼)), Blom 1958; 0.59 for two (exactly 0.56), 1.05 for four, 1.77 for sixteen."""
    if ranks < 2:
        return 0.0
    return NormalDist().inv_cdf((ranks - _BLOM) / (ranks + 1 - 2 * _BLOM))


def straggling_seconds(busy_seconds: float, spread: float, ranks: int) -> float:
    """What a step takes beyond ``busy_seconds``, the mean of its ranks, until the slowest is done;
    ``spread`` is their standard deviation as a share of it."""
    return busy_seconds * spread * expected_maximum(ranks)

"""How long does a collective take, by the alpha-beta model?

alpha is the seconds of one step, beta the seconds of one byte in one direction; n is the
bytes of the whole buffer, p the ranks. Computation of reductions (gamma) is left out: it hides
behind the transfer on every device here. Costs after Thakur, Rabenseifner and Gropp 2005
(MPICH) and Patarasuk and Yuan 2009. ``groups`` joins links within and between nodes.
"""

from __future__ import annotations

from math import ceil, log2


def _steps(ranks: int) -> int:
    return ceil(log2(ranks)) if ranks > 1 else 0


def broadcast_tree(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Binomial tree: lg p · (α + nβ)."""
    return _steps(ranks) * (alpha + size * beta)


def broadcast_ring(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Scatter and ring all-gather (van de Geijn): (lg p + p − 1)·α + 2n(p−1)/p·β."""
    if ranks < 2:
        return 0.0
    return (_steps(ranks) + ranks - 1) * alpha + 2 * size * (ranks - 1) / ranks * beta


def broadcast(size: float, ranks: int, alpha: float, beta: float) -> float:
    """The faster of tree and ring."""
    return min(broadcast_tree(size, ranks, alpha, beta), broadcast_ring(size, ranks, alpha, beta))


def reduce_tree(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Binomial tree: lg p · (α + nβ)."""
    return _steps(ranks) * (alpha + size * beta)


def reduce_ring(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Reduce-scatter and gather (Rabenseifner): 2 lg p·α + 2n(p−1)/p·β."""
    if ranks < 2:
        return 0.0
    return 2 * _steps(ranks) * alpha + 2 * size * (ranks - 1) / ranks * beta


def reduce(size: float, ranks: int, alpha: float, beta: float) -> float:
    """The faster of tree and reduce-scatter with gather."""
    return min(reduce_tree(size, ranks, alpha, beta), reduce_ring(size, ranks, alpha, beta))


def all_reduce_ring(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Ring: 2(p−1)·α + 2n(p−1)/p·β; no algorithm moves fewer bytes."""
    if ranks < 2:
        return 0.0
    return 2 * (ranks - 1) * alpha + 2 * size * (ranks - 1) / ranks * beta


def all_reduce_tree(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Pipelined double binary tree (NCCL): 2 lg p·α + 2n·β."""
    return 2 * _steps(ranks) * alpha + 2 * size * beta if ranks > 1 else 0.0


def all_reduce(size: float, ranks: int, alpha: float, beta: float) -> float:
    """The faster of ring and tree."""
    return min(all_reduce_ring(size, ranks, alpha, beta), all_reduce_tree(size, ranks, alpha, beta))


def all_gather(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Ring: (p−1)·α + n(p−1)/p·β, with n the gathered bytes."""
    if ranks < 2:
        return 0.0
    return (ranks - 1) * alpha + size * (ranks - 1) / ranks * beta


def reduce_scatter(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Ring: (p−1)·α + n(p−1)/p·β, with n the bytes before scattering."""
    return all_gather(size, ranks, alpha, beta)


def all_to_all(size: float, ranks: int, alpha: float, beta: float) -> float:
    """Pairwise exchange: (p−1)·α + n(p−1)/p·β, with n the bytes that one rank sends in all."""
    return all_gather(size, ranks, alpha, beta)


def point_to_point(size: float, alpha: float, beta: float) -> float:
    """One message: α + nβ."""
    return alpha + size * beta


def bus_bandwidth_factor(collective: str, ranks: int) -> float:
    """Bus bandwidth over algorithm bandwidth (nccl-tests, doc/PERFORMANCE.md)."""
    if collective == "all_reduce":
        return 2 * (ranks - 1) / ranks
    if collective in ("all_gather", "reduce_scatter", "all_to_all"):
        return (ranks - 1) / ranks
    if collective in ("broadcast", "reduce", "send_recv"):
        return 1.0
    raise ValueError(f"no bus-bandwidth factor is defined for {collective}")

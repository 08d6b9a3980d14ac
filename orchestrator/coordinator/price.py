"""What does it cost that some groups of a mesh reach across nodes?

In words, from where each rank lies. Does not know how fast any link is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.coordinator.assignment import name_ranks
from orchestrator.coordinator.seating import groups_of
from orchestrator.coordinator.topology import Tree
from orchestrator.plan.mesh import Mesh
from orchestrator.plan.wording import choice

_TENSOR_COST = (
    "what tensor ranks gather and sum in every layer crosses the network there, so each layer of "
    "each pass waits for it"
)
_PIPELINE_COST = (
    "the activations of each micro-batch cross the network between stages, forward and back"
)


@dataclass(frozen=True)
class _Reaching:
    """Groups of one kind that reach equally far; the first of them stands for all."""

    level: int
    count: int
    ranks: tuple[int, ...]
    nodes: tuple[int, ...]


def price(mesh: Mesh, by_rank: Sequence[int], names: Sequence[str], tree: Tree) -> tuple[str, ...]:
    """One sentence for each distance over which tensor groups or pipelines reach.

    ``by_rank`` is the node of each rank, ``names`` the name of each node.
    """
    if mesh.tensor * mesh.pipeline == 1:
        return ()
    groups = list(groups_of(mesh))
    rows = [g[i : i + mesh.tensor] for g in groups for i in range(0, len(g), mesh.tensor)]
    said = []
    if mesh.tensor > 1:
        for each in _reaching(rows, by_rank, tree):
            whole = f"{len(rows)} tensor groups of {mesh.tensor}"
            said.append(_sentence(each, whole, names, tree, _TENSOR_COST))
    if mesh.pipeline > 1:
        stages = [group[:: mesh.tensor] for group in groups]
        for each in _reaching(stages, by_rank, tree):
            whole = f"{len(groups)} pipelines of {mesh.pipeline} stages"
            said.append(_sentence(each, whole, names, tree, _PIPELINE_COST))
    return tuple(said)


def unmet(mesh: Mesh, by_rank: Sequence[int], tree: Tree) -> tuple[int, int]:
    """How many tensor·pipeline groups lie neither on one node nor, where labels are named, in one
    domain of the nearest label; and how many groups there are."""
    if mesh.tensor * mesh.pipeline == 1:
        return 0, mesh.size
    allowed = 1 if tree.keys else 0
    groups = list(groups_of(mesh))
    levels = (tree.level_of([by_rank[rank] for rank in group]) for group in groups)
    return sum(level > allowed for level in levels), len(groups)


def _reaching(
    groups: Sequence[Sequence[int]], by_rank: Sequence[int], tree: Tree
) -> list[_Reaching]:
    found: dict[int, _Reaching] = {}
    for group in groups:
        nodes = tuple(dict.fromkeys(by_rank[rank] for rank in group))
        level = tree.level_of(nodes)
        if level == 0:
            continue
        first = found.get(level, _Reaching(level, 0, tuple(group), nodes))
        found[level] = _Reaching(level, first.count + 1, first.ranks, first.nodes)
    return [found[level] for level in sorted(found)]


def _sentence(each: _Reaching, whole: str, names: Sequence[str], tree: Tree, cost: str) -> str:
    verb = "reaches" if each.count == 1 else "reach"
    where = choice([names[node] for node in each.nodes[:4]], "and")
    where = f"{where} …" if len(each.nodes) > 4 else where
    example = f"{name_ranks(each.ranks)} on {where}"
    example = example if each.count == 1 else f"such as {example}"
    return f"{each.count} of {whole} {verb} across {_across(each.level, tree)} ({example}): {cost}"


def _across(level: int, tree: Tree) -> str:
    inner = "node" if level == 1 else tree.keys[level - 2]
    within = f" of one {tree.keys[level - 1]}" if level <= len(tree.keys) else ""
    return f"{inner}s{within}"

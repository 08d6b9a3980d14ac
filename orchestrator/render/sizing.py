"""Which pods hold the gang of a plan, at its fewest and at its most workers?

Pure arithmetic from bundles (``coordinator.gang``) to groups of equal pods. A group's pods hold
whole tensor·pipeline groups where a node of the profile can, and offer whole CPUs, as Ray counts
them. Does not know what a manifest looks like.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.coordinator.gang import EPSILON, Gang, gang
from orchestrator.errors import PlanError, Problem
from orchestrator.plan.mesh_choice import group_size
from orchestrator.plan.plan import Plan
from orchestrator.plan.quantities import format_size
from orchestrator.plan.resources import Resources
from orchestrator.plan.selectors import Selector, format_selector
from orchestrator.plan.sizes import legal_workers, mesh_for
from orchestrator.plan.wording import choice
from orchestrator.render.profile import Profile

Kind = Literal["job", "service", "cluster"]
"""A RayJob that carries the plan out, a RayService that serves what it promoted, a RayCluster."""

AXES = ("training", "data", "inference")
OVERHEAD_BYTES = 2 * 2**30
"""What a raylet, its agents and the libraries of its processes take beside the workers."""
_COMMON = ("CPU", "memory")
_MOST_PER_POD = 64
_MOST_TOLD = 64


@dataclass(frozen=True)
class Group:
    """Equal pods that hold bundles of the gang."""

    name: str
    axes: tuple[str, ...]
    """Whose members use the pods: training, data, inference."""
    bundle: Mapping[str, float]
    """What one bundle needs, in Ray's words: the most of what its bundles need."""
    per_pod: int
    """Bundles in one pod."""
    min_pods: int
    max_pods: int
    selector: Selector
    """Labels that the plan asks of the nodes, in Ray's syntax."""
    memory_bytes: int
    """The memory limit of a pod, /dev/shm within it."""

    @property
    def cpus(self) -> int:
        """Whole CPUs that a pod offers."""
        return math.ceil(self.per_pod * self.bundle.get("CPU", 0) - EPSILON)

    @property
    def gpus(self) -> int:
        """Whole GPUs that a pod offers."""
        return math.ceil(self.per_pod * self.bundle.get("GPU", 0) - EPSILON)

    @property
    def offered(self) -> dict[str, int]:
        """What Ray is told that a pod has, besides its object store."""
        found = {"CPU": self.cpus}
        for name, amount in self.bundle.items():
            if name != "CPU":
                found[name] = math.ceil(self.per_pod * amount - EPSILON)
        return found

    @property
    def elastic(self) -> bool:
        """Whether there may be more pods than the fewest."""
        return self.max_pods > self.min_pods


@dataclass(frozen=True)
class Sized:
    """All groups of a plan, the fewest and most workers, and what is to be said about them."""

    groups: tuple[Group, ...]
    fewest: int
    most: int
    warnings: tuple[str, ...] = ()

    @property
    def elastic(self) -> bool:
        """Whether an autoscaler has anything to decide."""
        return any(group.elastic for group in self.groups)


def size(plan: Plan, profile: Profile, kind: Kind, *, uniform: bool = False) -> Sized:
    """The groups for ``kind``: all axes of the plan, or for a service its replicas alone.

    ``uniform``: one group, of bundles that are all as large as the largest. Raises ``PlanError``
    for a gang that no nodes of the profile could hold.
    """
    counts = legal_workers(plan) if kind != "service" else (0,)
    group_workers = max((group_size(mesh_for(plan, count)) for count in counts if count), default=1)
    packer = _Packer(plan, profile, group_workers)
    parts = _demand(plan, counts, kind)
    if uniform:
        packer.check_uniform(parts)
        parts = [_joined(parts, _demand(plan, counts, kind, together=True))]
    named = zip(_names(parts), parts, strict=True)
    groups = tuple(packer.group(name, part) for name, part in named)
    if packer.problems:
        raise PlanError(packer.problems, "plan")
    return Sized(groups, counts[0], counts[-1], tuple(packer.warnings))


@dataclass(frozen=True)
class _Part:
    """Bundles that ask for the same labels and the same rare resources."""

    axes: tuple[str, ...]
    bundle: Mapping[str, float]
    """The most that any of them needs."""
    selector: Selector
    fewest: int
    """How many there are at the fewest workers; may be none."""
    most: int
    """How many there are at most, at any number of workers."""


_Key = tuple[frozenset[str], tuple[tuple[str, str], ...]]


def _demand(
    plan: Plan, counts: Sequence[int], kind: Kind, *, together: bool = False
) -> list[_Part]:
    """What the gangs of all numbers of workers need; ``together``: as one kind of bundle.

    A gang of fewer workers may need more of something: data tasks that share the bundles of eight
    workers have bundles of their own beside two.
    """
    found: dict[_Key, _Part] = {}
    for number, wanted in enumerate(_gangs(plan, counts, kind)):
        for key, members in _members(wanted, together).items():
            old = found.get(key)
            part = _part(wanted, members, dict(key[1]), fewest=0 if number else len(members))
            found[key] = _over(old, part) if old else part
    return list(found.values())


def _gangs(plan: Plan, counts: Sequence[int], kind: Kind) -> Iterator[Gang]:
    """The gang of the fewest workers first. Beyond as many workers as there are tasks and replicas
    all of these share a bundle, and only the largest gang has more to say."""
    replicas = plan.inference.replicas if plan.inference else None
    sharing = plan.data.tasks + (replicas.max if replicas else 0)
    telling = [count for count in counts[1:] if count <= sharing][:_MOST_TOLD]
    # Axes that ask for different labels get pods of their own: no pod need have both.
    for count in (counts[0], *telling, counts[-1]):
        yield gang(plan, count, apart=True)
    if replicas and kind != "job":
        yield gang(plan, counts[-1], apart=True, replicas=replicas.max)


def _members(wanted: Gang, together: bool) -> dict[_Key, list[int]]:
    """The bundles by what they ask for; CPUs and memory alone make no difference."""
    if together:
        return {(frozenset(), ()): list(range(len(wanted.bundles)))}
    selectors = wanted.selectors or ({},) * len(wanted.bundles)
    found: dict[_Key, list[int]] = {}
    for index, (bundle, selector) in enumerate(zip(wanted.bundles, selectors, strict=True)):
        rare = frozenset(name for name in bundle if name not in _COMMON)
        found.setdefault((rare, tuple(sorted(selector.items()))), []).append(index)
    return found


def _part(wanted: Gang, members: Sequence[int], selector: Selector, fewest: int) -> _Part:
    axes = tuple(axis for axis in AXES if set(getattr(wanted, axis)) & set(members))
    bundle = _largest([wanted.bundles[index] for index in members])
    return _Part(axes, bundle, selector, fewest, len(members))


def _over(one: _Part, other: _Part) -> _Part:
    """Both at different numbers of workers."""
    axes = tuple(axis for axis in AXES if axis in {*one.axes, *other.axes})
    bundle = _largest([one.bundle, other.bundle])
    return replace(one, axes=axes, bundle=bundle, most=max(one.most, other.most))


def _joined(parts: Sequence[_Part], together: Sequence[_Part]) -> _Part:
    """All bundles as one part, on the nodes that all of them ask for."""
    return replace(together[0], selector=parts[0].selector)


def _largest(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = sorted({name for bundle in bundles for name in bundle})
    return {name: max(bundle.get(name, 0.0) for bundle in bundles) for name in names}


def _names(parts: Sequence[_Part]) -> list[str]:
    """The first axis that a group is there for; where several groups share it, with what tells
    them apart: ``training-gpu`` and ``training-cpu``."""
    shared = Counter(part.axes[0] for part in parts)
    found: list[str] = []
    for part in parts:
        name = part.axes[0]
        if shared[name] > 1:
            name = f"{name}-{'gpu' if 'GPU' in part.bundle else 'cpu'}"
        others = sum(known == name or known.startswith(f"{name}-") for known in found)
        found.append(f"{name}-{others + 1}" if others else name)
    return found


class _Packer:
    """Puts bundles into pods, and notes what cannot be."""

    def __init__(self, plan: Plan, profile: Profile, group_workers: int) -> None:
        self._plan, self._profile, self._group_workers = plan, profile, group_workers
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def group(self, name: str, part: _Part) -> Group:
        trains = "training" in part.axes
        together = self._group_workers if trains else 1
        per_pod = self._per_pod(part, together, trains)
        memory = self._memory(part, per_pod)
        if per_pod < together:
            self._note_split(together, per_pod)
        return Group(
            name=name,
            axes=part.axes,
            bundle=part.bundle,
            per_pod=per_pod,
            min_pods=math.ceil(part.fewest / per_pod),
            max_pods=math.ceil(part.most / per_pod),
            selector=part.selector,
            memory_bytes=memory,
        )

    def check_uniform(self, parts: Sequence[_Part]) -> None:
        """Note where bundles ask for different labels: all nodes of one kind cannot have them."""
        selectors = {tuple(sorted(part.selector.items())) for part in parts}
        if len(selectors) > 1:
            asked = " and ".join(
                f"{part.axes[0]} for {format_selector(part.selector) or 'any node'}"
                for part in parts
            )
            self.problems.append(
                Problem(
                    "training.resources.label_selector",
                    "the axes ask for different nodes, and this target gives nodes of one kind",
                    asked,
                    "the same label_selector for all axes",
                )
            )

    def _per_pod(self, part: _Part, together: int, trains: bool) -> int:
        """As many bundles as the profile says, or else whole groups that fill whole CPUs."""
        held = self._held(part)
        if held == 0:
            self._note_too_large(part)
            return 1
        asked = self._profile.workers_per_pod
        if trains and isinstance(asked, int):
            if asked > held:
                self._note_too_many(part, asked, held)
            return min(asked, held)
        if trains and asked == "fill" and held >= together:
            return min(held, part.most) // together * together
        most = max(together, min(part.most, _MOST_PER_POD))
        multiples = range(together, most + 1, together)
        # Fractions of a CPU or GPU are filled up, so that no pod offers more than it requests.
        whole = next((count for count in multiples if _is_whole(part.bundle, count)), together)
        if whole <= held:
            return whole
        return next(count for count in range(held, 0, -1) if together % count == 0)

    def _held(self, part: _Part) -> int:
        """Bundles that a node of the profile can hold in one pod."""
        node, found = self._profile.node, _MOST_PER_POD
        cpu, gpu = part.bundle.get("CPU", 0.0), part.bundle.get("GPU", 0.0)
        if node.cpu and cpu:
            found = min(found, int((node.cpu + EPSILON) / cpu))
        if node.gpu is not None and gpu:
            found = min(found, int((node.gpu + EPSILON) / gpu))
        if node.memory:
            room = node.memory - self._memory(part, 0)
            found = min(found, max(0, room // self._member_memory(part)))
        return int(found)

    def _member_memory(self, part: _Part) -> int:
        return int(part.bundle.get("memory", 0)) or self._profile.memory_per_worker

    def _memory(self, part: _Part, per_pod: int) -> int:
        overhead = min(OVERHEAD_BYTES, self._profile.memory_per_worker)
        return per_pod * self._member_memory(part) + self._profile.shared_memory + overhead

    def _note_too_large(self, part: _Part) -> None:
        node, memory = self._profile.node, self._memory(part, 1)
        cpu, gpu = part.bundle.get("CPU", 0.0), part.bundle.get("GPU", 0.0)
        lacks = []
        if gpu and node.gpu is not None and gpu > node.gpu:
            have = "no GPUs" if node.gpu == 0 else f"{node.gpu} GPUs"
            lacks.append(("gpu", f"needs {gpu:g} GPU; a node has {have}"))
        if node.cpu and cpu > node.cpu:
            lacks.append(("cpu", f"needs {cpu:g} CPU; a node has {node.cpu:g}"))
        if node.memory and memory > node.memory:
            text = f"needs {_size(memory)} with shared memory and Ray's own share"
            lacks.append(("memory", f"{text}; a node has {_size(node.memory)}"))
        for field, arithmetic in lacks:
            axis = max(part.axes, key=lambda name: getattr(self._asked(name), field))
            where = f"{axis}.resources.{field}"
            works = f"a smaller {where}, or a profile with larger nodes (--profile FILE, node:)"
            what = f"one bundle of {choice(part.axes, 'and')} fits no node of this profile"
            self.problems.append(Problem(where, what, arithmetic, works))

    def _asked(self, axis: str) -> Resources:
        found: Resources = getattr(self._plan, axis).resources
        return found

    def _note_too_many(self, part: _Part, asked: int, held: int) -> None:
        self.problems.append(
            Problem(
                "profile.workers_per_pod",
                f"{asked} workers in one pod fit no node of this profile",
                f"a node holds {held} bundles of {_words(part.bundle)}",
                f"workers_per_pod: {held}",
            )
        )

    def _note_split(self, together: int, per_pod: int) -> None:
        text = f"{together} workers of one tensor·pipeline group"
        if self._plan.coordination.gang.placement == "strict":
            self.problems.append(
                Problem(
                    "coordination.gang.placement",
                    f"strict asks for a node for the {text}, and no node of this profile has room",
                    f"a pod holds {per_pod} of them",
                    f"placement: prefer, or model.tensor · model.pipeline of {per_pod} at most",
                )
            )
            return
        self.warnings.append(
            f"{text} lie on {math.ceil(together / per_pod)} pods of {per_pod}: no node of this "
            "profile has room for them; they talk in every layer, now over the network"
        )


def _is_whole(bundle: Mapping[str, float], count: int) -> bool:
    amounts = (count * bundle.get(name, 0.0) for name in ("CPU", "GPU"))
    return all(abs(amount - round(amount)) < EPSILON for amount in amounts)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.3g}GiB" if size_bytes % 2**30 else format_size(size_bytes)


def _words(bundle: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())

"""Which meshes, micro-batches, recomputation and sharding are there to choose from?

Enumerates what a specification leaves open; what it states is kept. Yields degrees and work
that divide evenly; whether they fit and how long they take is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from orchestrator.planner.cost.case import Cluster, Degrees, Recompute, Schedule, Sharding, Work
from orchestrator.planner.cost.shape import Shape
from orchestrator.planner.cost.spec import MeshSpec, TrainingSpec

MOST_SAMPLES = 32
"""Largest micro-batch that is tried."""

MOST_CHUNKS = 8
"""Most model chunks of one device that are tried."""

FEWEST_TOKENS = 1024
"""Shortest part of a sequence that the context dimension is asked to hold."""


class Layers(NamedTuple):
    """What decides the cost of a layer."""

    tp: int
    cp: int
    ep: int
    micro_batch: int
    recompute: Recompute


class Split(NamedTuple):
    """The rest: pipeline, data ranks and what they shard."""

    pp: int
    virtual: int
    dp: int
    fsdp: int
    sharding: Sharding


@dataclass(frozen=True)
class Space:
    """What is open, over which cluster."""

    shape: Shape
    work: Work
    cluster: Cluster
    mesh: MeshSpec
    training: TrainingSpec

    def splits(self) -> Iterator[tuple[Layers, Split]]:
        """Every combination that divides evenly."""
        devices = self.cluster.devices
        for tp in self._tensor():
            for pp in self._pipeline(devices // tp):
                rest = devices // (tp * pp)
                for cp in self._context(rest):
                    yield from self._data(tp, pp, cp, rest // cp)

    def _data(self, tp: int, pp: int, cp: int, batch: int) -> Iterator[tuple[Layers, Split]]:
        if self.work.global_batch % batch:
            return
        shards = [part for part in self._shards(batch) if part[0] * part[1] == batch]
        chunks = self._chunks(pp)
        for ep in self._expert(batch * cp):
            for micro in self._micro(self.work.global_batch // batch):
                for recompute in self._recompute():
                    key = Layers(tp, cp, ep, micro, recompute)
                    for virtual in chunks:
                        for dp, fsdp, sharding in shards:
                            yield key, Split(pp, virtual, dp, fsdp, sharding)

    def _tensor(self) -> Sequence[int]:
        if self.mesh.tp:
            return (self.mesh.tp,)
        width = self.shape.expert_ffn if self.shape.experts else self.shape.ffn
        most = min(self.cluster.per_node, self.cluster.devices)
        return [
            tp
            for tp in divisors(self.cluster.devices)
            if tp <= most and self.shape.heads % tp == 0 and width % tp == 0
        ]

    def _pipeline(self, rest: int) -> Sequence[int]:
        if self.mesh.pp:
            return (self.mesh.pp,) if rest % self.mesh.pp == 0 else ()
        return [pp for pp in divisors(rest) if pp <= self.shape.layers]

    def _context(self, rest: int) -> Sequence[int]:
        if self.mesh.cp:
            return (self.mesh.cp,) if rest % self.mesh.cp == 0 else ()
        length = self.work.seq_len
        longest = max(1, length // FEWEST_TOKENS)
        return [cp for cp in divisors(rest) if cp <= longest and length % cp == 0]

    def _expert(self, reused: int) -> Sequence[int]:
        if self.mesh.ep:
            return (self.mesh.ep,) if reused % self.mesh.ep == 0 else ()
        if not self.shape.experts:
            return (1,)
        return [ep for ep in divisors(self.shape.experts) if reused % ep == 0]

    def _micro(self, samples: int) -> Sequence[int]:
        given = self.training.micro_batch
        if given:
            return (given,) if samples % given == 0 else ()
        return [micro for micro in divisors(samples) if micro <= MOST_SAMPLES]

    def _recompute(self) -> Sequence[Recompute]:
        if self.training.recompute:
            return (self.training.recompute,)
        if self.work.attention == "flash":
            # There are no scores to drop: selective would compute again and save nothing.
            return ("none", "full")
        return ("none", "selective", "full")

    def _chunks(self, pp: int) -> Sequence[int]:
        given, stage = self.training.virtual_stages, self.shape.layers // pp
        if given:
            return (given,) if given == 1 or pp > 1 else ()
        if pp == 1 or self.training.schedule in ("gpipe", "1f1b"):
            return (1,)
        exact = self.shape.layers % pp == 0
        return [v for v in divisors(stage) if v <= MOST_CHUNKS] if exact else (1,)

    def _shards(self, batch: int) -> Sequence[tuple[int, int, Sharding]]:
        """Replicas, shards and what is sharded: over all data ranks, or full within a node."""
        given = self.training.sharding
        if self.mesh.dp or self.mesh.fsdp:
            fsdp = self.mesh.fsdp or batch // (self.mesh.dp or 1)
            dp = self.mesh.dp or batch // fsdp
            kinds: Sequence[Sharding] = (given,) if given else _KINDS
            if fsdp > 1:
                kinds = (given,) if given else _KINDS[1:]
            return [(dp, fsdp, kind) for kind in kinds]
        if batch == 1:
            return [(1, 1, given or "none")]
        found: list[tuple[int, int, Sharding]] = []
        for kind in (given,) if given else _KINDS:
            if kind == "full":
                found.append((1, batch, kind))
                node = self.cluster.per_node
                if batch > node and batch % node == 0:
                    found.append((batch // node, node, kind))
            else:
                found.append((batch, 1, kind))
        return found

    def degrees(self, key: Layers, split: Split) -> Degrees:
        """The mesh of one candidate."""
        return Degrees(split.dp, split.fsdp, key.tp, split.pp, key.cp, key.ep)

    def case_work(self, key: Layers, split: Split) -> Work:
        """How one candidate computes. Sequence parallelism costs nothing and is taken."""
        sequence = self.training.sequence_parallel
        return replace(
            self.work,
            micro_batch=key.micro_batch,
            recompute=key.recompute,
            sharding=split.sharding,
            virtual_stages=split.virtual,
            schedule=_schedule(self.training, split.virtual),
            sequence_parallel=key.tp > 1 if sequence is None else sequence,
        )


_KINDS: tuple[Sharding, ...] = ("none", "optimizer", "gradients", "full")


def _schedule(training: TrainingSpec, virtual: int) -> Schedule:
    if virtual > 1:
        return "interleaved"
    return "gpipe" if training.schedule == "gpipe" else "1f1b"


@cache
def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))

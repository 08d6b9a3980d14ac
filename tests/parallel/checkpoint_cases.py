"""One model on many meshes, saved and loaded by the ranks of a process group."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from small_runs import MemoryChannel
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from orchestrator.errors import Fenced
from orchestrator.parallel.checkpoint import load_state, save_state, state_of
from orchestrator.parallel.manifest import CheckpointManifest, write_manifest
from orchestrator.parallel.optimizer import build_optimizer, create_state
from orchestrator.parallel.parts import Parts, tied_names
from orchestrator.parallel.pieces import pieces_of
from orchestrator.parallel.saving import Saver
from orchestrator.parallel.world import current_world
from orchestrator.plan.training import AdamW
from orchestrator.storage import Storage

MESHES = ("whole", "copies", "fsdp4", "fsdp2", "hsdp", "tp", "tp-fsdp", "pp", "pp-fsdp")
"""The meshes that are laid here; ``SIZES`` has how many ranks each takes."""
SIZES = dict(zip(MESHES, (1, 4, 4, 2, 4, 2, 4, 2, 4), strict=True))


class Net(nn.Module):
    """Sizes that no number of ranks divides evenly, a tied parameter, and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Linear(9, 6, bias=False))
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 10, bias=False)
        self.head.weight = self.embed.weight


def value_of(name: str, like: Tensor) -> Tensor:
    """What a whole tensor of this name holds in these tests."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    random = torch.Generator().manual_seed(seed)
    if like.dtype.is_floating_point:
        return torch.randn(tuple(like.shape), generator=random, dtype=like.dtype)
    return torch.randint(0, 1000, tuple(like.shape), generator=random, dtype=like.dtype)


def lay(kind: str) -> Parts:
    """This rank's parts of the model on a mesh."""
    model = Net()
    aliases = tied_names(model)
    size = SIZES[kind]
    if kind in ("whole", "copies"):
        return Parts([model], aliases)
    if kind.startswith("fsdp"):
        return Parts([shard(model, init_device_mesh("cpu", (size,)))], aliases)
    if kind == "hsdp":
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
        return Parts([shard(model, mesh)], aliases)
    if kind == "tp":
        return Parts([spread(model, init_device_mesh("cpu", (2,)))], aliases)
    if kind == "tp-fsdp":
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("shard", "tensor"))
        return Parts([shard(spread(model, mesh["tensor"]), mesh["shard"])], aliases)
    return Parts([stage_of(model, kind)], aliases)


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    for layer in model.layers:
        if not isinstance(layer, nn.Identity):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def spread(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    for layer in model.layers:
        parallelize_module(layer, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    table = nn.Parameter(distribute_tensor(model.embed.weight.detach(), mesh, [Shard(0)]))
    model.embed.weight = model.head.weight = table
    return model


def stage_of(model: nn.Module, kind: str) -> nn.Module:
    """Two stages; the first has the table of tokens, the last one the same under its other name."""
    mesh = init_device_mesh("cpu", (2, SIZES[kind] // 2), mesh_dim_names=("pipeline", "shard"))
    if mesh.get_local_rank("pipeline") == 0:
        model.layers[1], model.norm, model.head = nn.Identity(), nn.Identity(), nn.Identity()
    else:
        model.embed, model.layers[0] = nn.Identity(), nn.Identity()
    return shard(model, mesh["shard"]) if kind == "pp-fsdp" else model


def with_state(parts: Parts) -> torch.optim.Optimizer:
    """AdamW with its state, all of it zeros."""
    optimizer = build_optimizer(parts.parameters(), AdamW())
    create_state(optimizer)
    return optimizer


def fill(state: Mapping[str, Tensor], value: Callable[[str, Tensor], Tensor] = value_of) -> None:
    for name, piece in pieces_of(state).items():
        whole = value(name, state[name])
        here = [slice(o, o + n) for o, n in zip(piece.offsets, piece.tensor.shape, strict=True)]
        piece.tensor.copy_(whole[tuple(here)])


def wrong(state: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that do not hold what they should, bit by bit."""
    found = []
    for name, tensor in state.items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if not torch.equal(whole, value_of(name, whole)):
            found.append(name)
    return found


def draft(step: int, attempt: int = 1) -> CheckpointManifest:
    return CheckpointManifest(
        step=step, attempt=attempt, consumed=0, seed=0, plan_hash="", store_hash="", mesh={},
        metrics={},
    )  # fmt: skip


def save_case(kind: str, run: str, step: int) -> int:
    """Save on one mesh; the bytes of one copy of all that is stored, where a rank can tell."""
    parts, world = lay(kind), current_world()
    optimizer = with_state(parts)
    state = state_of(parts, optimizer)
    fill(state)
    assert wrong(state) == [], "torch puts the pieces together to the same whole"
    manifest = draft(step)
    storage = Storage.open(run)
    files = save_state(storage.child(manifest.folder), parts, optimizer, world)
    if world.is_first:
        write_manifest(storage, replace(manifest, files=files))
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def load_case(kind: str, run: str, folders: Sequence[str]) -> dict[str, list[str]]:
    """Load checkpoints of other meshes on this one; for each, the names that came back wrong."""
    found = {}
    for folder in folders:
        parts = lay(kind)
        optimizer = build_optimizer(parts.parameters(), AdamW())
        load_state(Storage.open(run).child(folder), parts, optimizer, current_world())
        state = state_of(parts, optimizer)
        assert any(name.endswith("exp_avg_sq") for name in state)
        found[folder] = wrong(state)
    return found


def other_model_case(kind: str, run: str, folder: str) -> str:
    """What each rank hears where a layer is of another size on one stage alone."""
    parts = lay(kind)
    if any(name.startswith("norm") for name in parts.parameters()):
        parts.modules[0].norm = nn.LayerNorm(7)
    try:
        optimizer = build_optimizer(parts.parameters(), AdamW())
        load_state(Storage.open(run).child(folder), parts, optimizer, current_world())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "not refused"


class Gated(MemoryChannel):
    """A commit waits for its gate to be opened, or gives up."""

    def __init__(self, run: Storage) -> None:
        super().__init__(run)
        self.gate = threading.Event()
        self.savings = 0

    def saving(self) -> None:
        self.savings += 1

    def commit(self, manifest: CheckpointManifest) -> None:
        if not self.gate.wait(20):
            raise TimeoutError("nobody opened the gate")
        super().commit(manifest)


def saver_of(run: str, channel: Any, kind: str = "fsdp2", **options: Any) -> Saver:
    parts = lay(kind)
    optimizer = with_state(parts)
    fill(state_of(parts, optimizer))
    return Saver(Storage.open(run), parts, optimizer, current_world(), channel, **options)


def asynchronous_case(kind: str, run: str) -> dict[str, Any]:
    """Training goes on while nothing is committed, and what is committed is what was."""
    channel = Gated(Storage.open(run))
    saver = saver_of(run, channel, kind)
    saver.prepare()
    saver.begin(draft(1))
    committed_early = saver.committed
    state = state_of(saver.parts, saver.optimizer)
    fill(state, lambda _name, like: torch.full(tuple(like.shape), 7, dtype=like.dtype))
    memory = saver.staging.memory.ctypes.data
    channel.gate.set()
    first = saver.finish()
    fill(state)
    saver.begin(draft(2))
    same_memory = saver.staging.memory.ctypes.data == memory
    second = saver.finish()
    assert first is not None
    assert second is not None
    held = sum(t.to_local().nbytes if isinstance(t, DTensor) else t.nbytes for t in state.values())
    staged = saver.staging.size_bytes
    saver.close()
    return {
        "committed_early": committed_early,
        "folders": [first.folder, second.folder],
        "times": [(m.stall_seconds, m.seconds) for m in (first, second)],
        "same_memory": same_memory,
        "held_bytes": held,
        "staged_bytes": staged,
        "released": saver.staging.size_bytes == 0,
        "savings": channel.savings,
        "commits": [manifest.step for manifest in channel.manifests],
        "tensors": dict(first.tensors),
    }


def synchronous_case(run: str) -> dict[str, Any]:
    """``begin`` returns when the checkpoint exists, without memory of its own."""
    channel = Gated(Storage.open(run))
    channel.gate.set()
    saver = saver_of(run, channel, asynchronous=False)
    saver.begin(draft(3))
    manifest = saver.committed
    return {
        "committed": manifest and manifest.folder,
        "staged_bytes": saver.staging.size_bytes,
        "stalled": manifest and manifest.stall_seconds == manifest.seconds,
    }


class Refusing(MemoryChannel):
    """Belongs to an attempt that is over, or cannot send what it holds back."""

    def __init__(self, run: Storage, how: str) -> None:
        super().__init__(run)
        self.how = how

    def saving(self) -> None:
        if self.how == "saving" and dist.get_rank() == 1:
            raise OSError("the wire is cut")

    def commit(self, manifest: CheckpointManifest) -> None:
        if self.how == "fenced":
            raise Fenced(f"attempt {manifest.attempt} is over")
        if self.how == "defect":
            raise KeyError("who wrote this?")
        super().commit(manifest)


class Full(Storage):
    """A folder on a disk that is full after so many bytes."""

    room = 1000

    def child(self, relative: str) -> Full:
        return Full(*vars(super().child(relative)).values())

    def open_output(self, relative: str) -> Any:
        return _Filling(super().open_output(relative), self.room)


class _Filling:
    def __init__(self, target: Any, room: int) -> None:
        self.target, self.room = target, room

    def write(self, data: Any) -> None:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        self.target.write(data)

    def close(self) -> None:
        self.target.close()


def failing_case(how: str, run: str) -> dict[str, Any]:
    """A checkpoint fails on one worker; what each of them hears, and what is left.

    A sound one follows, with the same saver.
    """
    saver = saver_of(run, Refusing(Storage.open(run), how))
    if how == "full" and dist.get_rank() == 1:
        saver.run = Full(*vars(saver.run).values())
    saver.begin(draft(4))
    deadline = time.monotonic() + 20
    while not saver.failed and time.monotonic() < deadline:
        time.sleep(0.01)
    failed = saver.failed
    try:
        saver.finish()
        told = "nothing"
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    dist.barrier()
    left = [entry.path for entry in Storage.open(run).list("checkpoints")]
    dist.barrier()
    saver.run, saver.channel = Storage.open(run), MemoryChannel(Storage.open(run))
    saver.begin(draft(5))
    after = saver.finish()
    return {"failed": failed, "told": told, "left": left, "after": after and after.folder}


def slow_case(run: str) -> dict[str, Any]:
    """A commit takes longer than somebody wants to wait."""
    channel = Gated(Storage.open(run))
    saver = saver_of(run, channel)
    saver.begin(draft(6))
    try:
        saver.finish(timeout_seconds=0.3)
        told = "nothing"
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    channel.gate.set()
    later = saver.finish()
    return {"told": told, "later": later and later.folder}


def leaving_case(run: str) -> str | None:
    """A worker that leaves because something else failed lets a checkpoint come to its end."""
    channel = Gated(Storage.open(run))
    saver = saver_of(run, channel)
    saver.begin(draft(7))
    threading.Timer(0.3, channel.gate.set).start()
    saver.close(timeout_seconds=20)
    return saver.committed.folder if saver.committed else None

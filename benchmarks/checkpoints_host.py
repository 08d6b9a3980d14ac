"""One worker of the checkpoint benchmark: saves or loads a large state, and times it.

Run alone or under ``torchrun``; the first worker prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from jobs.gpt import GPT
from orchestrator.parallel.checkpoint import load_state, save_state, state_of
from orchestrator.parallel.manifest import CheckpointManifest, read_manifest, write_manifest
from orchestrator.parallel.optimizer import build_optimizer, create_state
from orchestrator.parallel.parts import Parts, tied_names
from orchestrator.parallel.saving import Saver
from orchestrator.parallel.world import World, joined_world
from orchestrator.plan.training import AdamW
from orchestrator.storage import Storage

FULL = {"layers": 12, "hidden": 768, "heads": 12, "kv_heads": 12, "ffn": 3072}
QUICK = {"layers": 4, "hidden": 128, "heads": 4, "kv_heads": 4, "ffn": 512}
WHOLE_FILE = "whole.pt"


class State:
    """The model on this rank with the state of its optimizer, all of it random numbers."""

    def __init__(self, kind: str, world: World, quick: bool) -> None:
        torch.manual_seed(0)
        model = GPT(**(QUICK if quick else FULL)).model()
        self.num_parameters = sum(parameter.numel() for parameter in model.parameters())
        aliases = tied_names(model)
        if kind == "shards":
            mesh = init_device_mesh("cpu", (world.size,))
            for layer in model.get_submodule("model.layers").children():
                fully_shard(layer, mesh=mesh)
            fully_shard(model, mesh=mesh)
        self.parts = Parts([model], aliases)
        self.optimizer = build_optimizer(self.parts.parameters(), AdamW())
        create_state(self.optimizer)
        self.named = state_of(self.parts, self.optimizer)
        self.state_bytes = sum(
            value.numel() * value.element_size() for value in self.named.values()
        )

    def local(self) -> dict[str, Tensor]:
        """What this rank holds, as plain tensors."""
        return {
            name: value.to_local() if isinstance(value, DTensor) else value.detach()
            for name, value in self.named.items()
        }


class Silent:
    """A channel that writes manifests and says nothing."""

    def __init__(self, run: Storage) -> None:
        self.run = run

    def saving(self) -> None:
        """Nothing is held back."""

    def commit(self, manifest: CheckpointManifest) -> None:
        """Make it exist."""
        write_manifest(self.run, manifest)


def draft(step: int) -> CheckpointManifest:
    """A manifest without files."""
    return CheckpointManifest(step, 1, 0, 0, "", "", {}, {})


def stall(state: State, world: World, folder: Path, repetitions: int) -> dict[str, Any]:
    """Seconds until the next step could begin, with each contender; the first turn is not counted,
    in which memory is touched for the first time."""
    run = Storage.open(str(folder))
    saver = Saver(run, state.parts, state.optimizer, world, Silent(run))  # type: ignore[arg-type]
    found: dict[str, list[float]] = {}
    turns = 0

    def axis() -> None:
        nonlocal turns
        turns += 1
        saver.begin(draft(turns))

    plain = {name: value.detach() for name, value in state.named.items()}
    stager = dcp.staging.DefaultStager(dcp.staging.StagingOptions(False, False, False, False))
    beside = dist.new_group(backend="gloo") if world.size > 1 else None
    pending: list[Any] = []
    contenders: dict[str, Callable[[], None]] = {
        "axis": axis,
        "dcp_save": lambda: dcp.save(plain, checkpoint_id=str(folder / "dcp")),
        "dcp_async": lambda: pending.append(
            dcp.async_save(
                plain,
                checkpoint_id=str(folder / "async"),
                async_stager=stager,
                process_group=beside,
            )
        ),
    }
    if world.size == 1:
        folder.mkdir(parents=True, exist_ok=True)
        contenders["torch_save"] = lambda: torch.save(state.local(), folder / WHOLE_FILE)
    for turn in range(repetitions + 1):
        for name in contenders if turn % 2 == 0 else reversed(contenders):
            seconds = timed(contenders[name], world)
            began = time.perf_counter()
            if name == "axis":
                saver.finish()
                note(found, "axis_whole", seconds + time.perf_counter() - began, turn)
            while pending:
                pending.pop().result()
            note(found, name, seconds, turn)
    assert saver.saved is not None
    files = read_manifest(run.child(saver.saved.folder)).files
    sizes = [file.size_bytes for file in files if file.name.endswith(".distcp")]
    return {**found, "bytes_per_worker": sizes}


def note(found: dict[str, list[float]], name: str, seconds: float, turn: int) -> None:
    """Remember a measurement, of all turns but the first."""
    if turn:
        found.setdefault(name, []).append(seconds)


def prepare(state: State, world: World, folder: Path) -> dict[str, Any]:
    """A checkpoint of these workers, and one whole file."""
    run, manifest = Storage.open(str(folder)), draft(1)
    files = save_state(run.child(manifest.folder), state.parts, state.optimizer, world)
    whole = {
        name: value.full_tensor() if isinstance(value, DTensor) else value.detach()
        for name, value in state.named.items()
    }
    if world.is_first:
        write_manifest(run, replace(manifest, files=files))
        torch.save(whole, folder / WHOLE_FILE)
    return {}


def load(state: State, world: World, folder: Path, repetitions: int) -> dict[str, Any]:
    """Seconds until every rank has its part, from the checkpoint and from the whole file."""
    checkpoint = Storage.open(str(folder)).child(draft(1).folder)

    def axis() -> None:
        load_state(checkpoint, state.parts, state.optimizer, world)

    def torch_load() -> None:
        whole = torch.load(folder / WHOLE_FILE, weights_only=True)
        with torch.no_grad():
            for name, value in state.named.items():
                put(value, whole[name])

    found: dict[str, list[float]] = {}
    contenders = {"axis": axis, "torch_load": torch_load}
    for turn in range(repetitions + 1):
        for name in contenders if turn % 2 == 0 else reversed(contenders):
            note(found, name, timed(contenders[name], world), turn)
    return found


def put(value: Tensor, whole: Tensor) -> None:
    """Copy this rank's part of a whole tensor."""
    if not isinstance(value, DTensor):
        value.copy_(whole)
        return
    (chunk,) = value.__create_chunk_list__()
    here = tuple(slice(o, o + n) for o, n in zip(chunk.offsets, chunk.sizes, strict=True))
    value.to_local().copy_(whole[here])


def timed(call: Callable[[], None], world: World) -> float:
    """Seconds of the slowest rank."""
    if world.size > 1:
        dist.barrier()
    began = time.perf_counter()
    call()
    return float(max(world.gather(time.perf_counter() - began)))


def main() -> None:
    """``ACTION KIND FOLDER REPETITIONS QUICK``"""
    action, kind, place, repetitions, quick = sys.argv[1:]
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    folder = Path(place)
    with joined_world(0) as world:
        state = State(kind, world, quick == "1")
        if action == "stall":
            told = stall(state, world, folder, int(repetitions))
        elif action == "prepare":
            told = prepare(state, world, folder)
        else:
            told = load(state, world, folder, int(repetitions))
        sizes = {"num_parameters": state.num_parameters, "state_bytes": state.state_bytes}
        if world.is_first:
            print(json.dumps({**told, **sizes}), flush=True)
    if action == "stall" and world.is_first:
        shutil.rmtree(folder, ignore_errors=True)
    # Threads of torch's groups, which device meshes keep alive, now and then abort the process
    # while the interpreter goes; everything that was to be told is told.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

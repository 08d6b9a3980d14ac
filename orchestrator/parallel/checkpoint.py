"""How does the state of training get onto storage and back?

Tensors are stored by the names of parameters, through ``torch.distributed.checkpoint``, so that no
rank and no mesh owns them. What the plan says (rates, decay) is not stored again, and random
generators have no state to store (see ``world.seed_all``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from orchestrator.errors import AxisError, DamagedError, Problem, ResumeRefused, StorageError
from orchestrator.job import Job
from orchestrator.parallel.dcp_storage import CheckpointReader, CheckpointWriter
from orchestrator.parallel.manifest import CheckpointManifest, FileEntry, verify_checkpoint
from orchestrator.parallel.optimizer import create_state, named_state
from orchestrator.parallel.world import World
from orchestrator.storage import Storage

_MODEL = "model/"
_OPTIMIZER = "optimizer/"


def save_state(
    checkpoint: Storage, model: nn.Module, optimizer: torch.optim.Optimizer, world: World
) -> tuple[FileEntry, ...]:
    """Write model and optimizer into an empty folder; all workers call it together.

    Returns the files of all workers, sorted by name, when all of them are durable. There is no
    checkpoint until somebody writes its manifest. Raises ``StorageError`` on every worker if
    one of them could not write.
    """
    state = {**_model_state(model), **_prefixed(_OPTIMIZER, named_state(model, optimizer))}
    writer = CheckpointWriter(checkpoint)
    with _calling_dcp(f"cannot write {checkpoint.name}"):
        save(state, storage_writer=writer, no_dist=world.size == 1)
    entries = [e for part in world.gather(list(writer.files.written.values())) for e in part]
    return tuple(sorted(entries, key=lambda entry: entry.name))


def load_state(
    checkpoint: Storage, model: nn.Module, optimizer: torch.optim.Optimizer, world: World
) -> CheckpointManifest:
    """Verify a checkpoint and load it into model and optimizer; all workers call it together.

    It may have been written by any number of workers. Raises ``DamagedError`` on every worker if
    a file is damaged, before anything is unpickled, and ``ResumeRefused`` if it is the
    checkpoint of another model or optimizer.
    """
    manifest = _verify_together(checkpoint, world)
    create_state(optimizer)
    state = {**_model_state(model), **_prefixed(_OPTIMIZER, named_state(model, optimizer))}
    _load_into(state, checkpoint, manifest, world, whole=True)
    model.load_state_dict(_stripped(_MODEL, state))
    return manifest


def load_model(
    job: Job, checkpoint: Storage, device: str | torch.device = "cpu"
) -> tuple[nn.Module, CheckpointManifest]:
    """The Job's model as a checkpoint has it, in evaluation mode; needs no process group.

    Raises as ``load_state`` does.
    """
    manifest = verify_checkpoint(checkpoint)
    model = job.model()
    state = _model_state(model)
    _load_into(state, checkpoint, manifest, World(0, 1, torch.device("cpu")), whole=False)
    model.load_state_dict(_stripped(_MODEL, state))
    return model.to(device).eval(), manifest


def _verify_together(checkpoint: Storage, world: World) -> CheckpointManifest:
    """Each worker reads its share of the files; all of them learn what each has found."""
    manifest, damage = None, None
    try:
        manifest = verify_checkpoint(checkpoint, (world.rank, world.size))
    except AxisError as error:
        damage = error
    found = [error for error in world.gather(damage) if error is not None]
    if found:
        raise found[0]
    assert manifest is not None
    return manifest


def _load_into(
    state: dict[str, Any],
    checkpoint: Storage,
    manifest: CheckpointManifest,
    world: World,
    whole: bool,
) -> None:
    """Fill the tensors of ``state`` in place; ``whole``: the checkpoint has no others."""
    reader = CheckpointReader(checkpoint, manifest)
    stored = reader.read_metadata().state_dict_metadata
    _check_same(state, stored if whole else _only(_MODEL, stored), checkpoint)
    with _calling_dcp(f"cannot read {checkpoint.name}"):
        load(state, storage_reader=reader, no_dist=world.size == 1)


def _check_same(state: dict[str, Any], stored: dict[str, Any], checkpoint: Storage) -> None:
    """Raise ``ResumeRefused`` unless names and shapes are those that were stored."""
    wrong = [f"{name} is not in the checkpoint" for name in sorted(state.keys() - stored.keys())]
    wrong += [f"{name} is only in the checkpoint" for name in sorted(stored.keys() - state.keys())]
    for name, entry in stored.items():
        here = state.get(name)
        if not isinstance(entry, TensorStorageMetadata) or not isinstance(here, torch.Tensor):
            continue
        if here.shape != entry.size:
            wrong.append(f"{name} is {list(here.shape)} here and {list(entry.size)} there")
    if not wrong:
        return
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    raise ResumeRefused(
        [
            Problem(
                "job",
                f"{checkpoint.name} is the checkpoint of another model or optimizer",
                arithmetic="; ".join(wrong[:3]) + more,
                works="the job, options and optimizer that the run began with; or --fresh",
            )
        ]
    )


def _model_state(model: nn.Module) -> dict[str, Any]:
    return _prefixed(_MODEL, model.state_dict())


def _prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


def _stripped(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in _only(prefix, state).items()}


def _only(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name.startswith(prefix)}


@contextmanager
def _calling_dcp(failed: str) -> Iterator[None]:
    """Give DCP's errors a name of this project; its exception is not even an ``Exception``."""
    try:
        with warnings.catch_warnings():
            # It warns of what is meant here: that one worker saves alone.
            warnings.filterwarnings("ignore", message=".*single process.*")
            yield
    except CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        if isinstance(cause, DamagedError):
            raise cause from error
        raise StorageError(f"{failed}: worker {rank}: {cause}") from error

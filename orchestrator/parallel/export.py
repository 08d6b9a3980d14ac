"""How does a trained model leave for other tools?

As a folder that Hugging Face's ``transformers`` loads, or as one file for ``torch.load``. Weights
alone: no optimizer state. What is written appears under its name only when it is whole.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from orchestrator.errors import PlanError, Problem, StorageError
from orchestrator.job import Job
from orchestrator.parallel.checkpoint import load_model
from orchestrator.parallel.parts import Parts, tied_names
from orchestrator.storage import Storage
from orchestrator.storage.durable import make_folder, sync_path
from orchestrator.storage.failures import reason_of

SHARD_BYTES = 5 * 10**9
"""The largest file of weights that ``transformers`` writes by default ("5GB")."""

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Exported:
    """What was written: ``place`` is a folder or a file."""

    place: Path
    step: int
    num_tensors: int
    num_parameters: int
    size_bytes: int


def export_huggingface(
    job: Job, checkpoint: Storage, folder: Path, force: bool = False, shard_bytes: int = SHARD_BYTES
) -> Exported:
    """Write ``config.json`` and the weights as safetensors files of at most ``shard_bytes``.

    A tied parameter is written once, as ``transformers`` does; it ties it again by the
    configuration. Raises ``PlanError`` where ``folder`` holds something and ``force`` does not
    say to replace it, or holds what no export wrote, and for a Job that has no
    ``huggingface_config``; ``DamagedCheckpointError`` for a damaged checkpoint.
    """
    check_folder(folder, force)
    config = _config_of(job)
    model, manifest = load_model(job, checkpoint)
    parts = Parts([model], tied_names(model))
    named = {**parts.parameters(), **parts.buffers()}
    tensors = {name: tensor.detach().contiguous() for name, tensor in named.items()}
    aside = _aside(folder)
    try:
        make_folder(aside)
        _write_weights(aside, tensors, shard_bytes)
        (aside / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        mode = (aside / _CONFIG).stat().st_mode  # safetensors lets nobody else read its files
        for path in aside.iterdir():
            path.chmod(mode)
            sync_path(path)
        sync_path(aside)
        _replace(aside, folder)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {reason_of(error)}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Exported(folder, manifest.step, len(tensors), _count(parts), size)


def export_torch(job: Job, checkpoint: Storage, file: Path, force: bool = False) -> Exported:
    """Write the model's state dict as one file: ``torch.load(file, weights_only=True)``.

    Raises ``PlanError`` where ``file`` exists and ``force`` does not say to replace it, or is a
    folder; ``DamagedCheckpointError`` for a damaged checkpoint.
    """
    check_file(file, force)
    model, manifest = load_model(job, checkpoint)
    aside = _aside(file)
    try:
        make_folder(file.parent)
        torch.save(model.state_dict(), aside)
        sync_path(aside)
        aside.replace(file)
        sync_path(file.parent)
    except (OSError, RuntimeError) as error:  # torch's writer turns one into the other
        raise StorageError(f"cannot write {file}: {reason_of(error)}") from error
    finally:
        aside.unlink(missing_ok=True)
    parts = Parts([model], tied_names(model))
    tensors = {**parts.parameters(), **parts.buffers()}
    return Exported(file, manifest.step, len(tensors), _count(parts), file.stat().st_size)


def check_folder(folder: Path, force: bool) -> None:
    """Raise ``PlanError`` unless an export may be put at ``folder``."""
    if folder.is_file():
        raise _refusal(f"{folder} is a file", "a folder that does not exist yet")
    held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    strange = [name for name in held if not _is_exported(name)]
    if strange:
        what = f"{folder} holds {', '.join(strange[:3])}, which no export wrote"
        raise _refusal(what, "a folder that does not exist yet; nothing of yours is deleted")
    if held and not force:
        raise _refusal(f"{folder} holds an export already", "--force replaces it, or another name")


def check_file(file: Path, force: bool) -> None:
    """Raise ``PlanError`` unless a state dict may be put at ``file``."""
    if file.is_dir():
        raise _refusal(f"{file} is a folder", f"a file, such as {file / 'model.pt'}")
    if file.exists() and not force:
        raise _refusal(f"{file} exists already", "--force replaces it, or another name")


def shards_of(sizes: Mapping[str, int], shard_bytes: int) -> list[list[str]]:
    """Names in their order, cut into runs of at most ``shard_bytes``; larger ones stay alone."""
    shards: list[list[str]] = []
    room = -1
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


def _write_weights(folder: Path, tensors: Mapping[str, Tensor], shard_bytes: int) -> None:
    sizes = {name: tensor.nbytes for name, tensor in tensors.items()}
    shards = shards_of(sizes, shard_bytes)
    files = _file_names(len(shards))
    for file, names in zip(files, shards, strict=True):
        part = {name: tensors[name] for name in names}
        save_file(part, folder / file, metadata={"format": "pt"})
    if len(files) > 1:
        placed = zip(files, shards, strict=True)
        index = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {name: file for file, names in placed for name in names},
        }
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _file_names(count: int) -> Sequence[str]:
    if count == 1:
        return [_WEIGHTS]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _is_exported(name: str) -> bool:
    return name in (_CONFIG, _INDEX) or (name.startswith("model") and name.endswith(".safetensors"))


def _config_of(job: Job) -> Mapping[str, Any]:
    try:
        return job.huggingface_config()
    except TypeError as error:
        problem = Problem(
            "job",
            f"transformers cannot be told how to build this model: {error}",
            works="--format torch, which needs nothing from the Job",
        )
        raise PlanError([problem], "axis checkpoint export") from error


def _refusal(what: str, works: str) -> PlanError:
    return PlanError([Problem("--output", what, works=works)], "axis checkpoint export")


def _count(parts: Parts) -> int:
    return sum(parameter.numel() for parameter in parts.parameters().values())


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def _replace(aside: Path, folder: Path) -> None:
    """Give the new folder its name; the one that had it goes when the new one is there."""
    old = _aside(folder)
    if folder.exists():
        folder.rename(old)
    try:
        aside.rename(folder)
    except OSError:
        with suppress(OSError):
            old.rename(folder)
        raise
    sync_path(folder.parent)
    shutil.rmtree(old, ignore_errors=True)

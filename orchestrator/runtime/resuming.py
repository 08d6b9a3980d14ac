"""Is the checkpoint that a run would resume from one of this plan's model?

Asked in the driver, before there is a cluster. Only manifests are read and the model is built
without its numbers, so nothing stored is unpickled; whether the stored tensors themselves are sound
is found out by the workers that load them.
"""

from __future__ import annotations

from orchestrator.coordinator.state import RunState
from orchestrator.errors import DamagedError
from orchestrator.job import Job
from orchestrator.parallel.manifest import CheckpointManifest, read_manifest
from orchestrator.storage import Storage


def check_newest(run: Storage, state: RunState, job: Job) -> None:
    """Raise ``ResumeRefused`` where the newest committed checkpoint is of a newer format than this
    version reads, or of another model than the Job's."""
    found = newest_manifest(run, state)
    if found is not None:
        _check_model(*found, job)


def newest_manifest(run: Storage, state: RunState) -> tuple[str, CheckpointManifest] | None:
    """The folder and manifest of the newest committed checkpoint that has a sound one.

    Damaged ones are passed over: whoever loads them sets them aside, and takes the one before.
    Raises ``ResumeRefused`` for a newer format.
    """
    for record in reversed(state.committed):
        try:
            return record.folder, read_manifest(run.child(record.folder))
        except DamagedError:
            continue
    return None


def _check_model(folder: str, manifest: CheckpointManifest, job: Job) -> None:
    # Only now, and only for a run that is resumed: torch takes seconds to import.
    import torch

    from orchestrator.parallel.checkpoint import check_tensors
    from orchestrator.parallel.parts import Parts, tied_names

    try:
        with torch.device("meta"):
            model = job.model()
    except Exception:
        # A model that needs numbers to be built; the workers that build it compare it as well.
        return
    parts = Parts([model], tied_names(model))
    named = {**parts.parameters(), **parts.buffers()}
    here = {name: tuple(tensor.shape) for name, tensor in named.items()}
    check_tensors(folder, here, manifest, parts)

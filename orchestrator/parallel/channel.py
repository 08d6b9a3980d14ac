"""What does the loop say to the outside, and what does it hear? The one narrow seam.

Whoever runs the loop hands it a ``Channel``: under Ray one that talks to the coordinator, under
``torchrun`` one that writes files. Every call must return quickly; none may be a collective.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from orchestrator.parallel.manifest import CheckpointManifest


@dataclass(frozen=True, slots=True)
class Own:
    """Own work: ``seconds`` in all, of which ``guessed_seconds`` were spent asleep, as far as
    looks at the thread tell: such a part is known the better the longer it is."""

    seconds: float
    guessed_seconds: float


@dataclass(frozen=True)
class Started:
    """A worker is about to take its first step."""

    rank: int
    num_workers: int
    device: str
    step: int
    """Steps already taken, by the checkpoint that was loaded."""
    steps: int
    num_train: int
    num_holdout: int
    num_parameters: int
    per_worker: int
    micro_batch: int
    accumulation: int


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step as one worker saw it; ``step`` counts from 1.

    ``loss`` is the mean over the global batch, ``weight`` what it was divided by: samples, or
    what the Job weighs by. ``loss``, ``weight`` and ``grad_norm`` are equal on all workers,
    seconds and ``ids`` (samples that this worker computed) are its own. ``data_seconds`` is the
    part of ``step_seconds`` spent waiting for samples.
    """

    step: int
    loss: float
    weight: float
    grad_norm: float
    lr: float
    step_seconds: float
    data_seconds: float
    num_samples: int
    ids: npt.NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON has it, without the ids."""
        return {key: value for key, value in vars(self).items() if key != "ids"}


@dataclass(frozen=True)
class EvalRecord:
    """An evaluation after ``step`` steps, equal on all workers."""

    step: int
    metrics: Mapping[str, float]
    num_samples: int
    seconds: float


@dataclass(frozen=True)
class Note:
    """Something about the run that people should know, the same on all workers.

    ``kind``: ``cadence`` (another interval between checkpoints), ``skipped`` (a step without
    finite figures), ``rolled-back``. ``text`` says it in a sentence, ``figures`` in numbers.
    """

    kind: str
    step: int
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StuckReport:
    """Where a worker is that takes too long, or that was asked.

    It has been at ``what`` (``step 12``) for ``seconds``, now in ``phase``, at the line ``where``
    (the Job's own, if there is one). ``progress`` counts
    the phases that it has entered and ``micro_batches`` those whose forward pass is through;
    the worker with the least is the one that the others wait for. ``waiting``: its ``stack``
    (innermost last) ends in an exchange with the others.
    """

    rank: int
    pid: int
    what: str
    phase: str
    where: str
    seconds: float
    progress: int
    micro_batches: int
    waiting: bool
    stack: str


class Channel(Protocol):
    """Calls that the loop makes, on every worker unless it is said otherwise."""

    def started(self, info: Started) -> None:
        """The model is built and the checkpoint loaded."""

    def report(self, record: StepRecord) -> None:
        """A step is finished. On an accelerator this comes one step late."""

    def worked(self, step: int, step_seconds: float, own: Own | None, data_seconds: float) -> None:
        """What a step took on this worker; on an accelerator, until it was queued.

        Of ``step_seconds``, ``data_seconds`` went by waiting for samples and ``own`` with work of
        its own (``None``: nobody can tell), the rest waiting for other workers.
        """

    def evaluated(self, record: EvalRecord) -> None:
        """An evaluation is finished."""

    def saving(self) -> None:
        """A checkpoint is about to be written; what the channel holds back should be sent."""

    def stop_requested(self) -> bool:
        """Whether to stop after this step. One worker's yes stops all, after the same step."""

    def leave_at_checkpoint(self) -> bool:
        """Whether to leave with the next checkpoint that is due anyway, so that nothing is done
        twice and nothing is written for it. One worker's yes, after the step that the checkpoint
        follows, goes for all; whoever asks should go on asking until then."""

    def note(self, note: Note) -> None:
        """Something that people should know."""

    def stuck(self, report: StuckReport) -> None:
        """This worker takes too long, or was asked where it is. Called from another thread than
        the others, and may end the process."""

    def whereabouts_wanted(self) -> bool:
        """Whether another worker is stuck, and all should say where they are. From that thread,
        too."""

    def commit(self, manifest: CheckpointManifest) -> None:
        """On the first worker alone: every file is durable, now make the checkpoint exist.

        Must write the manifest (``manifest.write_manifest``) or have it written before it
        returns. Raises ``Fenced`` if a later attempt owns the run; any ``AxisError`` is raised on
        the other workers, too.
        """

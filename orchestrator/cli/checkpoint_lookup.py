"""Which checkpoints does a run have, and which one does a person mean?

Joins what lies in the run's folder with what its journal says. A run of ``torchrun`` has no
journal and is found by its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.cli.run_lookup import find_run
from orchestrator.coordinator.state import RunState
from orchestrator.errors import DamagedError, PlanError, Problem, StorageError
from orchestrator.observe.journal import Journal, replay_state
from orchestrator.observe.lease import peek
from orchestrator.parallel.manifest import CHECKPOINTS
from orchestrator.parallel.upkeep import Kept, survey
from orchestrator.storage import Storage

PROMOTED = "promoted"
WRITING = "being written"


@dataclass(frozen=True)
class Listed:
    """A checkpoint as it lies there, and its ``state`` for people: ``promoted`` and ``being
    written`` besides the conditions of ``upkeep``."""

    kept: Kept
    state: str


def find_checkpoints(name: str, storage: str | None) -> tuple[Storage, list[Listed]]:
    """The run's folder and its checkpoints, oldest first.

    Raises ``StorageError`` where there is no such run, or none of its checkpoints' folders.
    """
    run = _run_folder(name, storage)
    state, live = _journal_of(run)
    found = [Listed(kept, _state(kept, state, live)) for kept in survey(run)]
    return run, found


def choose(run: Storage, listed: list[Listed], step: int | None) -> Listed:
    """The one of ``step``, or else the promoted one, or else the newest that is whole.

    Raises ``PlanError`` where there is no such checkpoint.
    """
    if step is not None:
        at_step = [each for each in listed if each.kept.step == step]
        if not at_step:
            raise _no_such(f"there is no checkpoint of step {step} in {run.name}", listed)
        return at_step[-1]
    promoted = [each for each in listed if each.state == PROMOTED]
    whole = [each for each in listed if each.state == "sound"]
    chosen = promoted or whole
    if not chosen:
        raise _no_such(f"there is no whole checkpoint in {run.name}", listed)
    return chosen[-1]


def _no_such(what: str, listed: list[Listed]) -> PlanError:
    there = ", ".join(f"{each.kept.step} ({each.state})" for each in listed) or "none"
    return PlanError([Problem("--step", what, works=f"steps there: {there}")], "axis checkpoint")


def _run_folder(name: str, storage: str | None) -> Storage:
    plain = Storage.open(name) if storage is None and name else None
    if plain is not None and not Path(name).is_file() and plain.exists(CHECKPOINTS):
        return plain
    base, run = find_run(name, storage)
    folder = base.child(run)
    if not folder.exists():
        raise StorageError(f"there is no run {run} in {base.name}; axis ls lists them")
    return folder


def _journal_of(run: Storage) -> tuple[RunState, bool]:
    """What the journal says, as far as it can be read, and whether a driver holds the run."""
    live = peek(run) is not None
    try:
        return replay_state(Journal(run)), live
    except DamagedError:
        return RunState(), live


def _state(kept: Kept, state: RunState, live: bool) -> str:
    if kept.condition == "partial" and live and kept.attempt >= state.attempt:
        return WRITING
    if kept.condition != "sound":
        return kept.condition
    if kept.folder in state.damaged:
        return "damaged"
    promoted = state.promoted is not None and state.promoted.folder == kept.folder
    return PROMOTED if promoted else "sound"

"""What should be done? Instructions from ``decide`` to whoever has hands.

The actions of one decision are carried out **in order**, each only after the one before has
returned. Every action is idempotent: after a crash ``due(state)`` gives those of the present
phase again. The actor carries out ``ReserveGang``, ``ReleaseGang`` and ``DeleteCheckpoints``;
the driver the others. Knows nothing of Ray.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReserveGang:
    """Place one gang whole, for the largest of ``workers`` (descending) that fits; ``()``:
    training is done, bundles for the replicas alone.

    No bundle goes to an ``excluded`` node. ``tried`` tries timed out before this one, which waits
    some part of ``backoff_seconds`` first, drawn at random (before ``timeout_seconds`` begin).

    Answer with ``GangPlaced`` or ``GangTimedOut``; a gang that no live cluster could ever
    hold may be answered with ``Failed(exit_code=3)`` at once.
    """

    attempt: int
    workers: tuple[int, ...]
    strategy: str
    timeout_seconds: float
    excluded: tuple[str, ...] = ()
    tried: int = 0
    backoff_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BuildStore:
    """Build the sample store, or find it complete. Answer: ``StoreReady`` or ``Failed``."""

    attempt: int


@dataclass(frozen=True, kw_only=True)
class CancelStore:
    """Leave no data task running, within the time given. No answer."""

    timeout_seconds: float


@dataclass(frozen=True, kw_only=True)
class StartTraining:
    """Start ``workers`` workers at ``first_step`` from the checkpoint ``resume`` (a folder of
    the run; ``None``: from fresh parameters), with micro-batches of ``micro_batch`` samples
    (``None``: as the plan says).

    Answer: ``TrainingStarted`` after the first step, then ``Progressed`` now and then,
    ``CheckpointCommitted`` each time, at last ``TrainingEnded`` or ``TrainingFailed``; and
    ``CheckpointDamaged`` when ``resume`` does not hold what was written.
    """

    attempt: int
    workers: int
    resume: str | None
    first_step: int
    micro_batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class StopTraining:
    """Ask the workers to finish their step, commit and leave; ``at_checkpoint``: to leave with
    the next checkpoint that is due anyway. Answer: ``TrainingEnded``."""

    attempt: int
    timeout_seconds: float
    at_checkpoint: bool = False


@dataclass(frozen=True, kw_only=True)
class KillTraining:
    """Leave no worker of this or an earlier attempt alive. No answer."""

    attempt: int


@dataclass(frozen=True, kw_only=True)
class DeleteCheckpoints:
    """Remove these folders of the run. Answer: ``CheckpointsDeleted``."""

    folders: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """Serve the checkpoint in ``folder``. Answer: ``Deployed``, ``DeployFailed``, or
    ``CheckpointDamaged``.

    ``hand_over``: the gang is still held, and is given back when the replicas ask for their places
    and not before; ``ReleaseGang`` follows once they are up.
    """

    attempt: int
    folder: str
    step: int
    replicas: int
    timeout_seconds: float
    hand_over: bool = False


@dataclass(frozen=True, kw_only=True)
class SendExample:
    """Send the plan's example to ``url``. Answer: ``ExampleAnswered`` or ``ExampleFailed``."""

    attempt: int
    url: str
    timeout_seconds: float


@dataclass(frozen=True, kw_only=True)
class TearDown:
    """Take the app down, if it is up. No answer of its own."""

    timeout_seconds: float


@dataclass(frozen=True, kw_only=True)
class ReleaseGang:
    """Give back every bundle, placed or still waiting. No answer of its own."""


@dataclass(frozen=True, kw_only=True)
class ConfirmTornDown:
    """All actions before this one are done. Answer: ``TornDown``."""

    attempt: int


@dataclass(frozen=True, kw_only=True)
class End:
    """The run is over; ``app_left``: its app was left up on purpose. No answer."""

    exit_code: int
    message: str
    user_traceback: str = ""
    app_left: bool = False


Action = (
    ReserveGang
    | BuildStore
    | CancelStore
    | StartTraining
    | StopTraining
    | KillTraining
    | DeleteCheckpoints
    | Deploy
    | SendExample
    | TearDown
    | ReleaseGang
    | ConfirmTornDown
    | End
)

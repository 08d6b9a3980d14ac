"""How does the driver start, watch and end a worker group?

One attempt is one call of Ray Train, under a name of its own: Ray Train's run snapshot is
not written atomically, and a truncated one would block that name for ever.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from orchestrator.coordinator.actions import StartTraining
from orchestrator.coordinator.assignment import Assignment
from orchestrator.coordinator.events import (
    CheckpointDamaged,
    Event,
    Failed,
    TrainingEnded,
    TrainingFailed,
)
from orchestrator.errors import AxisError, DamagedCheckpointError, NotFinite
from orchestrator.parallel.deadlines import collective_seconds
from orchestrator.plan.cadence import FailureHistory
from orchestrator.plan.plan import Plan
from orchestrator.runtime.causes import Loss, diagnose, killed_for_memory, lost_nodes
from orchestrator.runtime.handle import CoordinatorHandle
from orchestrator.runtime.internals.train import Reservation, fit_in_reservation
from orchestrator.runtime.memory import was_killed_for_memory
from orchestrator.runtime.messages import RunRef
from orchestrator.runtime.probe import is_there
from orchestrator.runtime.standby import Standbys
from orchestrator.runtime.worker import ORDER, Order, work
from orchestrator.storage import Storage

RAY_TRAIN_FOLDER = "ray-train"
"""Where Ray Train keeps its own files, inside the run; removed when the attempt ends."""

_JOIN_SECONDS = 30.0


class Training:
    """One worker group, from its start to the one event that tells how it ended."""

    def __init__(
        self,
        plan: Plan,
        ref: RunRef,
        coordinator: Any,
        store_uri: str,
        action: StartTraining,
        reservation: tuple[Assignment, Any],
        failures: FailureHistory,
        standbys: Standbys,
        emit: Callable[[Event], None],
    ) -> None:
        self._plan = plan
        self._ref = ref
        self._action = action
        self._emit = emit
        self._handle = CoordinatorHandle(coordinator, ref)
        self._controller: Any = None
        self._killed = False
        self._order = Order(
            ref=ref,
            coordinator=coordinator,
            plan=plan,
            store_uri=store_uri,
            attempt=action.attempt,
            resume=action.resume,
            micro_batch=action.micro_batch,
            failures=failures,
            working_directory=str(Path.cwd()),
        )
        assignment, group = reservation
        self._standbys = standbys
        self._warm = standbys.take(assignment)
        self._reservation = Reservation(group, assignment, self._warm.workers)
        self._thread = threading.Thread(target=self._run, name="axis-training", daemon=True)

    def start(self) -> None:
        """Start the workers; returns at once."""
        self._thread.start()

    def kill(self) -> None:
        """Leave no worker alive; the workers are Ray Train's controller's and die with it."""
        self._killed = True
        deadline = time.monotonic() + _JOIN_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            if self._controller is not None:
                ray.kill(self._controller, no_restart=True)
            self._thread.join(timeout=0.5)

    def tend_standbys(self) -> None:
        """The group steps: processes for the next one may be brought up beside it."""
        self._standbys.tend(self._reservation.assignment.nodes_by_rank)

    def _run(self) -> None:
        event = self._outcome()
        self._warm.kill()  # they are this process's, not the controller's
        self._forget_ray_train()
        if not self._killed:
            self._emit(event)

    def _outcome(self) -> Event:
        attempt = self._action.attempt
        try:
            step, stopped = fit_in_reservation(
                work,
                {ORDER: self._order},
                self._reservation,
                self._plan.training.resources.as_ray(),
                backend="nccl" if self._plan.training.resources.gpu else "gloo",
                name=f"attempt-{attempt:04d}",
                storage=Storage.open(self._ref.uri).child(RAY_TRAIN_FOLDER),
                env_vars=worker_env_vars(self._plan),
                timeout_seconds=math.ceil(collective_seconds(self._plan)),
                on_controller=self._on_controller,
                controller=self._warm.controller,
            )
        except Exception as error:
            loss = self._looked_into(diagnose(error))
            now = time.time()
            if isinstance(loss.error, DamagedCheckpointError) and self._action.resume is not None:
                folder = self._action.resume
                return CheckpointDamaged(
                    attempt=attempt, at_seconds=now, folder=folder, reason=loss.message
                )
            # A restart would lead to the same numbers.
            final = loss.error is not None and loss.error.exit_code != 1
            if loss.error is not None and (final or isinstance(loss.error, NotFinite)):
                return Failed(
                    attempt=attempt,
                    at_seconds=now,
                    exit_code=loss.error.exit_code,
                    message=loss.message,
                )
            return TrainingFailed(
                attempt=attempt,
                at_seconds=now,
                cause=loss.cause,
                message=loss.message,
                user_traceback=loss.user_traceback,
                rank=loss.rank,
                nodes=self._nodes_of(loss),
            )
        return TrainingEnded(attempt=attempt, at_seconds=time.time(), step=step, stopped=stopped)

    def _looked_into(self, loss: Loss) -> Loss:
        """A worker that died without a word may have gone with its node, or for its memory."""
        if loss.cause != "worker" or self._killed:
            return loss
        # Survivors see the connection break before Ray says who died.
        placed = self._reservation.assignment.nodes_by_rank
        gone = {node for node in set(placed) if not is_there(node)}
        if gone:
            return lost_nodes(tuple(rank for rank, node in enumerate(placed) if node in gone))
        if loss.rank is None:
            return loss
        with suppress(AxisError, ray.exceptions.RayError):
            known = self._handle.call("kill_count", self._action.attempt, loss.rank)
            if known is not None and was_killed_for_memory(*known):
                return killed_for_memory(loss)
        return loss

    def _nodes_of(self, loss: Loss) -> tuple[str, ...]:
        """The nodes that were lost with the group: those of the ranks whose node died."""
        placed = self._reservation.assignment.nodes_by_rank
        return tuple(dict.fromkeys(placed[rank] for rank in loss.ranks_of_lost_nodes))

    def _on_controller(self, controller: Any) -> None:
        self._controller = controller

    def _forget_ray_train(self) -> None:
        storage = Storage.open(self._ref.uri)
        if storage.exists(RAY_TRAIN_FOLDER):
            storage.delete_dir(RAY_TRAIN_FOLDER)


def worker_env_vars(plan: Plan) -> dict[str, str]:
    """What is set in the processes of workers."""
    threads = str(plan.training.threads)
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

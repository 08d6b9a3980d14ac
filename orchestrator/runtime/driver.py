"""What does the driver do? It carries out the coordinator's actions and reports what came of them.

One loop: perform the actions that are due, in order; send the coordinator what happened;
look at the clock, at the wish to stop, and at the coordinator's pulse. Anything that takes
time runs in a thread of its own and comes back as an event. The driver decides nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from orchestrator.coordinator import actions as act
from orchestrator.coordinator import events as ev
from orchestrator.coordinator.actions import Action
from orchestrator.coordinator.events import Event
from orchestrator.coordinator.past import failure_history
from orchestrator.coordinator.state import RunState, Wait
from orchestrator.errors import AxisError, DamagedCheckpointError, PlanError, StorageError
from orchestrator.observe.driver_log import LoggedDisplay
from orchestrator.plan.plan import Plan
from orchestrator.runtime import serving
from orchestrator.runtime.bearer import bearer_headers
from orchestrator.runtime.handle import CoordinatorHandle
from orchestrator.runtime.messages import Reply, RunRef
from orchestrator.runtime.progress import ProgressView
from orchestrator.runtime.replica import Charge
from orchestrator.runtime.sharding import Progress, Sharding
from orchestrator.runtime.standby import Standbys
from orchestrator.runtime.stopper import Stopper
from orchestrator.runtime.training import Training, worker_env_vars
from orchestrator.storage import Storage

_TICK_SECONDS = 0.1
_PULSE_SECONDS = 0.25
_STEADY_PULSE_SECONDS = 1.0
"""While workers take steps, who tell the coordinator of it once a second."""
_PROGRESS_SECONDS = 30.0

STORAGE_PATIENCE_SECONDS = 60.0
"""For so long a run waits for storage that refuses what has to be durable."""
_STORAGE_RETRY_SECONDS = 2.0


class Driver:
    """Carries one run out, from its opening to its end."""

    def __init__(
        self,
        plan: Plan,
        ref: RunRef,
        coordinator: CoordinatorHandle,
        stopper: Stopper,
        display: LoggedDisplay,
        base_uri: str,
        private: bool,
    ) -> None:
        self._plan = plan
        self._ref = ref
        self._coordinator = coordinator
        self._stopper = stopper
        self._display = display
        self._view = ProgressView(display, plan)
        self._base_uri = base_uri
        self._private = private
        self._actions: deque[Action] = deque()
        self._events: queue.Queue[Event | Reply] = queue.Queue()
        self._sharding: Sharding | None = None
        self._training: Training | None = None
        self._standbys = Standbys(plan, worker_env_vars(plan))
        self._serving = False
        self._stop_told = False
        self._pulse_at = 0.0
        self._progress_at = time.monotonic()
        self._timer: tuple[Wait, float] | None = None
        self._ended: act.End | None = None
        self.state = RunState()

    def run(self, opened: ev.Opened) -> act.End:
        """Carry the run out; returns how it ended. Whatever was held is given back."""
        try:
            self._took(self._coordinator.open(opened, self._plan))
            while self._ended is None:
                self._step()
            return self._ended
        finally:
            self._clean_up()

    # ---------------------------------------------------------------- the loop

    def _step(self) -> None:
        while self._actions and self._ended is None:
            self._perform(self._actions.popleft())
        if self._stopper.forced:
            self._ended = act.End(exit_code=130, message=self._forced_message())
            return
        try:
            event = self._events.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            event = None
        if isinstance(event, Reply):
            self._took(event)
        elif event is not None:
            self._tell(event)
        self._heed_stop()
        self._heed_deadline()
        if time.monotonic() - self._pulse_at >= self._pulse_seconds():
            self._pulse()

    def _tell(self, event: Event) -> None:
        """Send an event; storage that refuses it is asked again for a minute."""
        deadline = time.monotonic() + STORAGE_PATIENCE_SECONDS
        while True:
            try:
                self._took(self._coordinator.tell(event))
                return
            except StorageError as error:
                if time.monotonic() >= deadline:
                    raise
                self._view.say(f"{error}; trying again")
                time.sleep(_STORAGE_RETRY_SECONDS)

    def _took(self, reply: Reply) -> None:
        self._saw(reply.state)
        self._actions.extend(reply.actions)

    def _saw(self, state: RunState) -> None:
        self._display.number(state.attempt)
        self._view.show_state(self.state, state)
        self.state = state

    def _pulse_seconds(self) -> float:
        steady = self.state.phase == "training" and self.state.started
        return _STEADY_PULSE_SECONDS if steady else _PULSE_SECONDS

    def _pulse(self) -> None:
        self._pulse_at = time.monotonic()
        pulse = self._coordinator.pulse()
        self._view.show_records(pulse.records)
        self._saw(pulse.state)
        self._actions.extend(pulse.actions)
        if self._training is not None and self.state.phase == "training" and self.state.started:
            self._training.tend_standbys()

    def _heed_stop(self) -> None:
        by = self._stopper.check()
        if by is None or self._stop_told:
            return
        self._stop_told = True
        self._view.say(f"stopping ({by}): a last checkpoint is being taken; Ctrl-C ends at once")
        self._tell(ev.StopRequested(by=by, **self._stamp()))

    def _heed_deadline(self) -> None:
        wait = self.state.wait
        if wait is None:
            self._timer = None
            return
        if self._timer is None or self._timer[0] != wait:
            self._timer = (wait, time.monotonic() + wait.timeout_seconds)
            return
        if time.monotonic() >= self._timer[1]:
            self._timer = None
            self._tell(ev.Expired(what=wait.what, since=wait.since, **self._stamp()))

    # ------------------------------------------------------------- the actions

    def _perform(self, action: Action) -> None:
        """Carry one action out, or start to; every kind of action is listed here."""
        match action:
            case act.ReserveGang():
                self._in_background("axis-reserve", lambda: self._reserve(action))
            case act.ReleaseGang():
                self._coordinator.call("release")
            case act.DeleteCheckpoints():
                self._took(self._coordinator.call("delete_checkpoints", action.folders))
            case act.BuildStore():
                self._build_store(action)
            case act.CancelStore():
                self._cancel_store(action.timeout_seconds)
            case act.StartTraining():
                self._start_training(action)
            case act.StopTraining():
                self._coordinator.call("stop_training", action.attempt, action.at_checkpoint)
            case act.KillTraining():
                self._kill_training()
            case act.Deploy():
                self._in_background("axis-deploy", lambda: self._deploy(action))
            case act.SendExample():
                self._in_background("axis-example", lambda: self._send_example(action))
            case act.TearDown():
                self._tear_down(action.timeout_seconds)
            case act.ConfirmTornDown():
                self._tell(ev.TornDown(**self._stamp()))
            case act.End():
                self._ended = action

    def _reserve(self, action: act.ReserveGang) -> None:
        # The coordinator applies the event itself; only what follows from it is left to do.
        self._events.put(self._coordinator.reserve(self._plan, action))

    def _build_store(self, action: act.BuildStore) -> None:
        reservation = self._coordinator.call("reservation", action.attempt)
        if reservation is None:
            self._fail(1, "the reservation was gone before data tasks started")
            return
        self._standbys.start_early(reservation)
        self._sharding = Sharding(
            self._plan,
            Storage.open(self._base_uri),
            self.state.store,
            reservation,
            on_progress=self._on_sharding,
            attempt=action.attempt,
        )
        sharding, attempt = self._sharding, action.attempt

        def build() -> None:
            record = sharding.build()
            if record is not None:
                self._events.put(ev.StoreReady(store=record, **self._stamp(attempt)))

        self._in_background("axis-sharding", build)

    def _on_sharding(self, progress: Progress) -> None:
        self._view.show_sharding(progress)
        if time.monotonic() - self._progress_at > _PROGRESS_SECONDS:
            self._progress_at = time.monotonic()
            self._events.put(
                ev.Progressed(done=progress.done, total=progress.total, **self._stamp())
            )

    def _cancel_store(self, timeout_seconds: float) -> None:
        if self._sharding is not None:
            self._sharding.cancel(timeout_seconds)
            self._sharding = None

    def _start_training(self, action: act.StartTraining) -> None:
        reservation = self._coordinator.call("reservation", action.attempt)
        if reservation is None or self.state.store is None:
            self._fail(1, "the reservation or the sample store was gone before training started")
            return
        self._standbys.start_early(reservation)
        self._training = Training(
            self._plan,
            self._ref,
            self._coordinator.actor,
            self.state.store.folder,
            action,
            reservation,
            failure_history(self.state),
            self._standbys,
            self._events.put,
        )
        self._training.start()

    def _kill_training(self) -> None:
        if self._training is not None:
            self._training.kill()
            self._training = None

    def _deploy(self, action: act.Deploy) -> None:
        self._serving = True
        self._events.put(self._deployment(action))

    def _deployment(self, action: act.Deploy) -> Event:
        """Deploy, and the event that tells what came of it."""
        try:
            url = serving.deploy(
                Charge(self._plan, self._ref.uri, action.folder, str(Path.cwd()), action.attempt),
                action.timeout_seconds,
                (lambda: self._coordinator.call("release")) if action.hand_over else None,
            )
        except DamagedCheckpointError as error:
            stamp = self._stamp(action.attempt)
            return ev.CheckpointDamaged(folder=action.folder, reason=str(error), **stamp)
        except AxisError as error:
            return ev.DeployFailed(
                message=str(error),
                user_traceback=getattr(error, "user_traceback", ""),
                crowded_out=getattr(error, "crowded_out", False),
                **self._stamp(action.attempt),
            )
        return ev.Deployed(url=url, **self._stamp(action.attempt))

    def _send_example(self, action: act.SendExample) -> None:
        attempt = action.attempt
        inference = self._plan.inference
        request = inference.example if inference else None
        try:
            answer = serving.ask(
                action.url, request, action.timeout_seconds, bearer_headers(self._plan)
            )
        except AxisError as error:
            self._events.put(ev.ExampleFailed(message=str(error), **self._stamp(attempt)))
            return
        self._events.put(
            ev.ExampleAnswered(
                request=request,
                answer=answer.body,
                checkpoint=answer.checkpoint,
                seconds=answer.seconds,
                **self._stamp(attempt),
            )
        )

    def _tear_down(self, timeout_seconds: float) -> None:
        if not self._serving and self.state.app == "none":
            return
        try:
            with_serve = not self._private
            serving.take_down(self._plan.name, timeout_seconds, with_serve=with_serve)
        except (AxisError, ray.exceptions.RayError) as error:
            # What the run came to must still be told; a private cluster ends all the same.
            self._view.say(f"the application could not be taken down: {error}")
        self._serving = False

    # ------------------------------------------------------------------ helpers

    def _in_background(self, name: str, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread; whatever it raises ends the run as a failure."""

        def guarded() -> None:
            try:
                work()
            except AxisError as error:
                traceback_text = getattr(error, "user_traceback", "")
                self._fail(error.exit_code, _message(error), traceback_text)
            except Exception as error:
                self._fail(1, f"{name}: {type(error).__name__}: {error}")

        threading.Thread(target=guarded, name=name, daemon=True).start()

    def _fail(self, exit_code: int, message: str, user_traceback: str = "") -> None:
        self._events.put(
            ev.Failed(
                exit_code=exit_code,
                message=message,
                user_traceback=user_traceback,
                **self._stamp(),
            )
        )

    def _stamp(self, attempt: int | None = None) -> dict[str, Any]:
        """Whose event it is, and when: a background task answers for the attempt it began in."""
        number = self.state.attempt if attempt is None else attempt
        return {"attempt": number, "at_seconds": time.time()}

    def _forced_message(self) -> str:
        return (
            "stopped at once by a second Ctrl-C; "
            f"{self.state.committed_step} of {self.state.steps} steps are committed; "
            "the same command resumes"
        )

    def _clean_up(self) -> None:
        """Leave nothing behind, however the loop was left."""
        left_up = self._ended is not None and self._ended.app_left
        try:
            self._cancel_store(5.0)
            self._kill_training()
            self._standbys.close()
            if not left_up:
                self._tear_down(30.0)
            self._coordinator.call("release")
        except (AxisError, ray.exceptions.RayError) as error:
            self._view.say(f"while cleaning up: {error}")
        finally:
            self._view.close()


def _message(error: AxisError) -> str:
    if isinstance(error, PlanError):
        return "; ".join(problem.sentence() for problem in error.problems)
    return str(error)

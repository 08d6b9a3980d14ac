"""``torchrun -m orchestrator.parallel PLAN --store DIR``: the training axis alone, without Ray.

Trains on a sample store that ``axis run`` made (``<storage>/stores/…``), with as many workers as
``torchrun`` starts, and resumes from the newest sound checkpoint in the run's folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from orchestrator.errors import AxisError, DamagedError, Interrupted
from orchestrator.job import Job
from orchestrator.job_import import add_working_directory, load_job_for_mesh
from orchestrator.plan.dump import PLAN_FILE, dump_plan
from orchestrator.plan.load import load_plan
from orchestrator.plan.plan import Plan
from orchestrator.storage import Storage


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, and return the exit code (see ``orchestrator.errors``).

    ``torchrun`` itself ends with 1 whenever a worker ends with anything but 0.
    """
    options = _parser().parse_intermixed_args(arguments)
    try:
        loaded = load_plan(options.plan, options.overrides)
        # Must be set before torch is imported.
        os.environ["OMP_NUM_THREADS"] = str(loaded.plan.training.threads)
        add_working_directory()
        _train(loaded.plan, load_job_for_mesh(loaded), options)
    except AxisError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.parallel",
        description="Train a plan on a finished sample store, without Ray.",
    )
    parser.add_argument("plan", help="the plan, a YAML file")
    parser.add_argument("overrides", nargs="*", help="dotted overrides: training.steps=50")
    parser.add_argument("--store", required=True, help="the folder of the sample store")
    parser.add_argument("--run-dir", help="the folder of the run (default: <storage>/<name>)")
    parser.add_argument("--record-ids", action="store_true", help="write which samples were used")
    return parser


def _train(plan: Plan, job: Job, options: argparse.Namespace) -> None:
    # torch is imported here, after the number of threads is known.
    from orchestrator.parallel.deadlines import collective_seconds
    from orchestrator.parallel.local import LocalChannel
    from orchestrator.parallel.loop import train
    from orchestrator.parallel.setup import TrainSetup
    from orchestrator.parallel.world import joined_world

    stop = _StopOnSignal()
    run = Storage.open(options.run_dir or f"{plan.storage}/{plan.name}", Path.cwd())
    with joined_world(plan.training.resources.gpu, collective_seconds(plan)) as world:
        begin = world.from_first(_next_attempt(run, plan) if world.is_first else None)
        if isinstance(begin, AxisError):
            raise begin
        attempt, resume = begin
        channel = LocalChannel(
            run, attempt, world.rank, lambda: stop.asked, _print, options.record_ids
        )
        setup = TrainSetup(
            plan=plan,
            job=job,
            store=Storage.open(options.store, Path.cwd()),
            run=run,
            attempt=attempt,
            resume=resume,
            device=str(world.device),
        )
        try:
            result = train(setup, channel)
        finally:
            channel.flush()
    if result.stopped:
        raise Interrupted(f"stopped after step {result.step}; the same command resumes it")


def _next_attempt(run: Storage, plan: Plan) -> tuple[int, str | None] | AxisError:
    """The number of this attempt and the newest checkpoint that is sound, or why there can be
    none: the other workers wait for the one or the other.

    Damaged checkpoints are marked. The plan is left in the run's folder, for whoever wants to use
    its checkpoints.
    """
    from orchestrator.parallel.attempts import take_attempt

    try:
        attempt = take_attempt(run)  # from here on no checkpoint of an earlier one appears
        newest = _newest_sound(run)
        run.write_atomic(PLAN_FILE, dump_plan(plan).encode())
        return attempt, newest
    except AxisError as error:
        return error


def _newest_sound(run: Storage) -> str | None:
    from orchestrator.parallel.manifest import verify_checkpoint
    from orchestrator.parallel.upkeep import list_checkpoints, mark_damaged

    for folder in list_checkpoints(run):
        try:
            verify_checkpoint(run.child(folder))
        except DamagedError as error:
            mark_damaged(run, folder, str(error))
            sys.stderr.write(f"set aside and passed over: {error}\n")
            continue
        return folder
    return None


class _StopOnSignal:
    """Ctrl-C and SIGTERM ask for a stop after the step; a second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

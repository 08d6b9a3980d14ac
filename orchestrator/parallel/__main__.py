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
from orchestrator.job_import import add_working_directory, load_job
from orchestrator.plan.cadence import checkpoint_rule
from orchestrator.plan.load import load_plan
from orchestrator.plan.plan import Plan
from orchestrator.storage import Storage


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, and return the exit code (see ``orchestrator.errors``).

    ``torchrun`` itself ends with 1 whenever a worker ends with anything but 0.
    """
    options = _parser().parse_intermixed_args(arguments)
    try:
        plan = load_plan(options.plan, options.overrides).plan
        # Must be set before torch is imported.
        os.environ["OMP_NUM_THREADS"] = str(plan.training.threads)
        _train(plan, options)
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


def _train(plan: Plan, options: argparse.Namespace) -> None:
    # torch is imported here, after the number of threads is known.
    from orchestrator.parallel.local import LocalChannel
    from orchestrator.parallel.loop import train
    from orchestrator.parallel.setup import TrainSetup
    from orchestrator.parallel.world import joined_world

    add_working_directory()
    job = load_job(plan)
    stop = _StopOnSignal()
    run = Storage.open(options.run_dir or f"{plan.storage}/{plan.name}", Path.cwd())
    with joined_world(plan.training.resources.gpu) as world:
        attempt, resume = world.from_first(_next_attempt(run) if world.is_first else None)
        channel = LocalChannel(
            run, attempt, world.rank, lambda: stop.asked, _print, options.record_ids
        )
        setup = TrainSetup(
            plan=plan,
            job=job,
            store=Storage.open(options.store, Path.cwd()),
            run=run,
            attempt=attempt,
            checkpoint_due=checkpoint_rule(plan.coordination.checkpoint.every, plan.training.steps),
            resume=resume,
            device=str(world.device),
        )
        try:
            result = train(setup, channel)
        finally:
            channel.flush()
    if result.stopped:
        raise Interrupted(f"stopped after step {result.step}; the same command resumes it")


def _next_attempt(run: Storage) -> tuple[int, str | None]:
    """The number of this attempt, and the newest checkpoint that is sound."""
    from orchestrator.parallel.manifest import (
        CHECKPOINTS,
        list_checkpoints,
        parse_folder,
        verify_checkpoint,
    )

    names = [entry.path.rpartition("/")[2] for entry in run.list(CHECKPOINTS)]
    attempts = [key[1] for name in names if (key := parse_folder(name))]
    attempt = max(attempts, default=0) + 1
    for folder in list_checkpoints(run):
        try:
            verify_checkpoint(run.child(folder))
        except DamagedError as error:
            sys.stderr.write(f"passed over: {error}\n")
            continue
        return attempt, folder
    return attempt, None


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

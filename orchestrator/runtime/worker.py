"""What runs inside a training worker: the loop of ``parallel``, with the coordinator at hand."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train

from orchestrator.errors import AxisError
from orchestrator.job_import import add_working_directory, concealer_of, load_job, user_traceback
from orchestrator.parallel.loop import train
from orchestrator.parallel.setup import TrainSetup
from orchestrator.plan.cadence import FailureHistory
from orchestrator.plan.plan import Plan
from orchestrator.runtime import frozen
from orchestrator.runtime.channel import ActorChannel
from orchestrator.runtime.handle import CoordinatorHandle
from orchestrator.runtime.labelled import Whose
from orchestrator.runtime.messages import RunRef
from orchestrator.runtime.worker_log import captured, log_path
from orchestrator.storage import Storage

ORDER = "axis_order"
"""The key under which ``train_loop_config`` carries the order to the workers."""


@dataclass(frozen=True)
class Order:
    """Everything a worker must know; picklable, and the same for all of them."""

    ref: RunRef
    coordinator: Any
    plan: Plan
    store_uri: str
    attempt: int
    resume: str | None
    micro_batch: int | None
    failures: FailureHistory
    working_directory: str


class UserCodeError(RuntimeError):
    """The Job's own code raised. The text is the user's traceback."""


class WorkerMemoryError(RuntimeError):
    """Memory, of the host or of a device, could not be had. The text says how much, and where."""


def work(config: dict[str, Any]) -> tuple[int, bool]:
    """Train as one worker of the group until done or told to stop.

    Returns the number of steps taken in all, and whether the worker was told to stop.

    Raises ``WorkerMemoryError`` when memory ran out, ``UserCodeError`` when the Job's code raised
    anything else, and our own errors as they are.
    """
    order: Order = config[ORDER]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    run_storage = Storage.open(order.ref.uri)
    conceal = concealer_of(order.plan)
    path = log_path(order.attempt, f"worker-{rank}")
    whose = Whose(order.ref.name, order.attempt, "training", rank)
    with captured(run_storage, path, whose, conceal) as log, frozen.watchable():
        try:
            return _train(order, rank, run_storage)
        except AxisError:
            log.error(traceback.format_exc())
            raise
        except Exception as error:
            log.error(traceback.format_exc())
            if _is_out_of_memory(error):
                raise WorkerMemoryError(conceal(str(error)) or type(error).__name__) from error
            if _is_infrastructure(error):
                raise
            raise UserCodeError(conceal(user_traceback(error))) from None


def _train(order: Order, rank: int, run_storage: Storage) -> tuple[int, bool]:
    if Path(order.working_directory).is_dir():
        add_working_directory(order.working_directory)
    handle = CoordinatorHandle(order.coordinator, order.ref)
    channel = ActorChannel(handle, order.attempt, rank, order.plan.training.log_samples)
    try:
        setup = TrainSetup(
            plan=order.plan,
            job=load_job(order.plan),
            store=Storage.open(order.store_uri),
            run=run_storage,
            attempt=order.attempt,
            resume=order.resume,
            micro_batch=order.micro_batch,
            failures=order.failures,
            device=_device(),
        )
        result = train(setup, channel)
        return result.step, result.stopped
    finally:
        channel.close()


def _device() -> str:
    import ray.train.torch

    return str(ray.train.torch.get_device())


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; torch raises a plain ``RuntimeError`` for the host's memory."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _is_infrastructure(error: BaseException) -> bool:
    """Whether an exception speaks of the cluster rather than of the Job's code.

    A peer's death reaches survivors as an error of the collective they were in.
    """
    import torch.distributed as dist

    return isinstance(error, (dist.DistError, ray.exceptions.RayError, OSError)) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )

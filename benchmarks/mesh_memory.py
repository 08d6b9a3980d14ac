"""``torchrun -m benchmarks.mesh_memory OUTPUT PLAN STORE RUN``: what does a rank hold after a step?

Builds a worker, takes the plan's steps without the loop around them, and counts the storage of
parameters, gradients and optimizer state, and of the whole process. Each rank writes
``<OUTPUT>.<rank>``.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor
from torch.distributed.tensor import DTensor

from benchmarks.by_hand.mesh_loop import resident_bytes
from orchestrator.job_import import add_working_directory, load_job
from orchestrator.parallel.local import LocalChannel
from orchestrator.parallel.setup import TrainSetup
from orchestrator.parallel.worker import Worker
from orchestrator.parallel.world import joined_world
from orchestrator.plan.load import load_plan
from orchestrator.storage import Storage

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def main() -> None:
    """Take the steps and count."""
    give_back_freed_memory()
    output, path, store, folder = sys.argv[1:]
    plan = load_plan(path).plan
    add_working_directory()
    run = Storage.open(folder)
    with joined_world(0) as world:
        setup = TrainSetup(
            plan=plan,
            job=load_job(plan),
            store=Storage.open(store),
            run=run,
            attempt=1,
        )
        worker = Worker(setup, LocalChannel(run, 1, world.rank))
        with worker.loader() as loader:
            for _ in range(plan.training.steps):
                worker.take_step(loader)
        measured = {
            **held(worker),
            "resident_bytes": resident_bytes("VmRSS"),
            "peak_resident_bytes": resident_bytes("VmHWM"),
        }
        Path(f"{output}.{os.environ['RANK']}").write_text(json.dumps(measured))
        worker.saver.close()


def give_back_freed_memory() -> None:
    """Have the C library return freed blocks of 256 KiB and more to the system at once.

    It would keep them for later, so that the resident set would tell nothing of what is in use.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # glibc
        library.mallopt(_M_MMAP_THRESHOLD, 256 * 1024)
        library.mallopt(_M_TRIM_THRESHOLD, 1024 * 1024)


def held(worker: Worker) -> dict[str, int]:
    """Bytes of storage after a step, before gradients are let go of."""
    parameters = list(worker.laid.parts.parameters().values())
    gradients = [p.grad for p in parameters if p.grad is not None]
    assert len(gradients) == len(parameters)
    state = [part for p in parameters for part in worker.optimizer.state[p].values()]
    return {
        "num_parameters": worker.num_parameters,
        "parameter_bytes": storage_bytes(parameters),
        "gradient_bytes": storage_bytes(gradients),
        "state_bytes": storage_bytes(state),
    }


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind local tensors; what several are views of counts once."""
    local = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in local}
    return sum(storages.values())


if __name__ == "__main__":
    main()

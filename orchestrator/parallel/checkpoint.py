"""How does the state of training get onto storage and back?

Tensors are stored by the names of parameters, through ``torch.distributed.checkpoint``, so that no
rank and no mesh owns them: what was saved on one mesh is loaded on any other. What the plan says
(rates, decay) is not stored again, and random generators have no state to store (see
``world.seed_all``). When a checkpoint is taken, and that training goes on meanwhile, is the
concern of ``saving``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from orchestrator.errors import AxisError, DamagedError, Problem, ResumeRefused, StorageError
from orchestrator.job import Job
from orchestrator.parallel.dcp_storage import CheckpointReader, CheckpointWriter
from orchestrator.parallel.manifest import CheckpointManifest, FileEntry, verify_checkpoint
from orchestrator.parallel.optimizer import create_state, named_state
from orchestrator.parallel.parts import Parts, tied_names
from orchestrator.parallel.pieces import Piece, PiecePlanner, deal_out, holdings_of, pieces_of
from orchestrator.parallel.saving_exchange import Exchange
from orchestrator.parallel.world import World
from orchestrator.storage import Storage

MODEL = "model/"
OPTIMIZER = "optimizer/"

Shapes = dict[str, tuple[int, ...]]


def state_of(parts: Parts, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that is stored of what this rank holds, by the names it is stored under.

    Raises ``TypeError`` for a module with extra state, of which nothing is known but a pickle.
    """
    return {**model_state(parts), **_prefixed(OPTIMIZER, named_state(parts, optimizer))}


def model_state(parts: Parts) -> dict[str, Tensor]:
    """Parameters and buffers alone; raises as ``state_of`` does."""
    for part in parts.modules:
        for module in part.modules():
            if type(module).get_extra_state is not nn.Module.get_extra_state:
                raise TypeError(
                    f"{type(module).__name__} defines get_extra_state, which is not kept in "
                    "checkpoints; register a buffer instead"
                )
    return _prefixed(MODEL, {**parts.parameters(), **parts.buffers()})


def save_state(
    checkpoint: Storage, parts: Parts, optimizer: torch.optim.Optimizer, world: World
) -> tuple[FileEntry, ...]:
    """Write model and optimizer into an empty folder, at once; all workers call it together.

    Returns the files of all workers, sorted by name, when all of them are durable. There is no
    checkpoint until somebody writes its manifest. Raises ``StorageError`` on every worker if
    one of them could not write.
    """
    exchange = Exchange(world.rank, world.size)
    pieces = pieces_of(state_of(parts, optimizer))
    mine = share_of(pieces, exchange)
    files, _ = write_pieces(checkpoint, {name: pieces[name] for name in sorted(mine)}, exchange)
    return files


def share_of(pieces: Mapping[str, Piece], exchange: Exchange) -> frozenset[str]:
    """The pieces that this rank writes, of those it holds; all workers call it together."""
    share: frozenset[str] = exchange.decide(holdings_of(pieces), deal_out)
    return share


def write_pieces(
    checkpoint: Storage, pieces: Mapping[str, Piece], exchange: Exchange
) -> tuple[tuple[FileEntry, ...], Shapes]:
    """Write pieces that were dealt out; all workers call it together.

    Returns the files of all workers, sorted by name, and the shapes of the model's tensors.
    Raises ``StorageError`` on every worker if one of them could not write.
    """
    size_bytes = sum(piece.tensor.nbytes for piece in pieces.values())
    writer = CheckpointWriter(checkpoint, size_bytes)
    with _calling_dcp(f"cannot write {checkpoint.name}", exchange.size == 1):
        save(
            {},  # the planner has them
            storage_writer=writer,
            planner=PiecePlanner(pieces),
            process_group=exchange.group,
            no_dist=exchange.size == 1,
        )
    shapes = {
        name.removeprefix(MODEL): piece.whole
        for name, piece in pieces.items()
        if name.startswith(MODEL)
    }
    told = exchange.gather((list(writer.files.written.values()), shapes))
    files = sorted((file for part, _ in told for file in part), key=lambda file: file.name)
    return tuple(files), _merged(part for _, part in told)


def load_state(
    checkpoint: Storage, parts: Parts, optimizer: torch.optim.Optimizer, world: World
) -> CheckpointManifest:
    """Verify a checkpoint and load it into model and optimizer; all workers call it together.

    It may have been written on any mesh. Raises ``DamagedCheckpointError`` on every worker if a
    file is damaged, before anything is unpickled, and ``ResumeRefused`` if it is the checkpoint
    of another model or optimizer, or of a newer format.
    """
    manifest = _verify_together(checkpoint, world)
    create_state(optimizer)
    _load_into(state_of(parts, optimizer), checkpoint, manifest, world, parts.aliases)
    return manifest


def load_model(
    job: Job, checkpoint: Storage, device: str | torch.device = "cpu"
) -> tuple[nn.Module, CheckpointManifest]:
    """The Job's model as a checkpoint has it, in evaluation mode; needs no process group.

    Raises as ``load_state`` does.
    """
    manifest = verify_checkpoint(checkpoint)
    model = job.model()
    parts = Parts([model], tied_names(model))
    alone = World(0, 1, torch.device("cpu"))
    _load_into(model_state(parts), checkpoint, manifest, alone, parts.aliases, optimizer=False)
    return model.to(device).eval(), manifest


def check_tensors(name: str, here: Shapes, manifest: CheckpointManifest, parts: Parts) -> None:
    """Raise ``ResumeRefused`` unless a model has the tensors that a manifest lists.

    Needs no file but the manifest. One of format 1 lists none, and is not refused here.
    """
    if manifest.tensors:
        there = {key: tuple(size) for key, size in manifest.tensors.items()}
        _refuse_other(name, here, there, parts.aliases)


def _verify_together(checkpoint: Storage, world: World) -> CheckpointManifest:
    """Each worker reads its share of the files; all of them learn what each has found."""
    manifest, damage = None, None
    try:
        manifest = verify_checkpoint(checkpoint, (world.rank, world.size))
    except AxisError as error:
        damage = error
    _raise_first(world.gather(damage))
    assert manifest is not None
    return manifest


def _load_into(
    state: dict[str, Tensor],
    checkpoint: Storage,
    manifest: CheckpointManifest,
    world: World,
    aliases: Mapping[str, str],
    optimizer: bool = True,
) -> None:
    """Fill the tensors of ``state`` in place."""
    reader = CheckpointReader(checkpoint, manifest)
    stored, damage = {}, None
    try:
        stored = reader.read_metadata().state_dict_metadata
    except AxisError as error:
        damage = error
    here = {name: tuple(value.shape) for name, value in state.items()}
    told = world.gather((damage, here))
    _raise_first(error for error, _ in told)
    there = {
        name: tuple(entry.size) if isinstance(entry, TensorStorageMetadata) else ()
        for name, entry in stored.items()
        if optimizer or name.startswith(MODEL)
    }
    _refuse_other(
        checkpoint.name,
        _merged(part for _, part in told),
        there,
        {MODEL + alias: MODEL + name for alias, name in aliases.items()},
    )
    with _calling_dcp(f"cannot read {checkpoint.name}", world.size == 1):
        load(
            {name: value.detach() for name, value in state.items()},
            storage_reader=reader,
            planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
            no_dist=world.size == 1,
        )


def _refuse_other(name: str, here: Shapes, there: Shapes, aliases: Mapping[str, str]) -> None:
    """Raise ``ResumeRefused`` unless names and shapes are those that were stored.

    Format 1 stored a tied parameter under each of its names; the further ones are not needed.
    """
    spare = {alias for alias, canonical in aliases.items() if canonical in there}
    missing, unknown = here.keys() - there.keys(), there.keys() - here.keys() - spare
    wrong = [f"{each} is not in the checkpoint" for each in sorted(missing)]
    wrong += [f"{each} is only in the checkpoint" for each in sorted(unknown)]
    wrong += [
        f"{each} is {list(here[each])} here and {list(there[each])} there"
        for each in sorted(here.keys() & there.keys())
        if here[each] != there[each]
    ]
    if not wrong:
        return
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    raise ResumeRefused(
        [
            Problem(
                "job",
                f"{name} is the checkpoint of another model or optimizer",
                arithmetic="; ".join(wrong[:3]) + more,
                works="the job, options and optimizer that the run began with; or --fresh",
            )
        ]
    )


def _merged(parts: Iterable[Shapes]) -> Shapes:
    return {name: shape for part in parts for name, shape in part.items()}


def _prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def _raise_first(errors: Iterable[AxisError | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


@contextmanager
def _unwarned() -> Iterator[None]:
    """DCP warns of what is meant here: that one worker saves or loads alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*single process.*")
        yield


@contextmanager
def _calling_dcp(failed: str, alone: bool) -> Iterator[None]:
    """Give DCP's errors a name of this project; its exception is not even an ``Exception``."""
    try:
        with _unwarned() if alone else nullcontext():
            yield
    except CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        if isinstance(cause, DamagedError):
            raise cause from error
        if isinstance(cause, StorageError):
            raise StorageError(f"worker {rank}: {cause}") from error
        raise StorageError(f"{failed}: worker {rank}: {cause}") from error

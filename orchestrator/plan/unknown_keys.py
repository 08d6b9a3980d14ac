"""What was meant by a key that does not exist?

Looks for a slip of the keyboard, a key in the wrong section, and the words that users bring
from Ray, torch and torchtitan.
"""

from __future__ import annotations

from orchestrator.errors import Problem
from orchestrator.plan.fields import field_notes, names_in, notes_at, paths_ending_in
from orchestrator.plan.tree import TreePath, dotted
from orchestrator.plan.wording import choice, nearest, similarity

BROUGHT_ALONG = {
    "num_workers": "workers",
    "world_size": "workers",
    "batch_size": "global_batch",
    "train_batch_size": "global_batch",
    "micro_batch_size": "micro_batch",
    "learning_rate": "lr",
    "max_steps": "steps",
    "num_steps": "steps",
    "clip_grad_norm": "max_norm",
    "num_cpus": "cpu",
    "num_gpus": "gpu",
    "num_replicas": "replicas",
    "dp": "replicate",
    "fsdp": "shard",
    "tp": "tensor",
    "pp": "pipeline",
    "cp": "context",
    "ep": "expert",
    "data_parallel_replicate_degree": "replicate",
    "data_parallel_shard_degree": "shard",
    "tensor_parallel_degree": "tensor",
    "pipeline_parallel_degree": "pipeline",
    "context_parallel_degree": "context",
    "expert_parallel_degree": "expert",
    "pipeline_parallel_schedule": "pipeline_schedule",
    "pipeline_parallel_microbatch_size": "micro_batch",
    "num_stages": "virtual_stages",
    "num_virtual_stages": "virtual_stages",
}
"""What Ray, torch and torchtitan call things, and what a plan calls them."""

COMING = ("intelligence", "training.sync", "mode", "inference.engine")
"""Words of the design that a later version will know."""

_MOST_SHOWN = 3
_SLIP_OF_THE_KEYBOARD = 0.85
_BONUS_OF_SIBLINGS = 0.15


def unknown_key(path: TreePath, kind: str | None) -> tuple[Problem, tuple[str, ...]]:
    """The problem of an unknown key, and the fields that may have been meant by it.

    ``kind`` is the kind of the section that holds the key, where sections are told apart.
    """
    section, name = dotted(path[:-1]), str(path[-1])
    where = dotted(path)
    elsewhere = [note.kind for note in notes_at(where) if note.kind not in (None, kind)]
    if elsewhere:
        kinds = choice([str(other) for other in elsewhere])
        what = f"is a key of kind {kinds}, not of {kind}"
        return Problem(where, what, works=f"another kind, or without {name}"), ()
    if where in COMING:
        what = "is planned for a later version; this one does not know it"
        return Problem(where, what, works=f"a plan without {name}"), ()
    siblings = names_in(section, kind)
    bare, colon, value = name.partition(":")
    if colon and bare in siblings:
        works = f"{bare}: {value}, with a space after the colon"
        return Problem(where, "there is no such key", works=works), ()
    meant = meant_paths(section, name, siblings)
    if not meant:
        keys = f"the keys of {section or 'a plan'} are {', '.join(siblings)}"
        return Problem(where, "there is no such key", works=keys), ()
    what = "there is no such key"
    if not any(candidate.rpartition(".")[0] == section for candidate in meant):
        what += " in this section" if section else " at the top of a plan"
    return Problem(where, what, works=choice(meant)), tuple(meant)


def meant_paths(section: str, name: str, siblings: list[str]) -> list[str]:
    """The dotted paths that may have been meant by ``name`` in ``section``, likeliest first."""
    prefix = f"{section}." if section else ""
    close = nearest(name, siblings)
    if close and similarity(name, close[0]) >= _SLIP_OF_THE_KEYBOARD:
        return [f"{prefix}{close[0]}"]
    brought = BROUGHT_ALONG.get(name.lower().replace("-", "_"))
    if brought in siblings:
        return [f"{prefix}{brought}"]
    moved = paths_ending_in(name) or (paths_ending_in(brought) if brought else [])
    if moved:
        return moved[:_MOST_SHOWN]
    everywhere = nearest(name, {note.path.rpartition(".")[2] for note in field_notes()}, 1)
    if everywhere and not (close and similarity(name, close[0]) >= _slip(name, everywhere[0])):
        return paths_ending_in(everywhere[0])[:_MOST_SHOWN]
    return [f"{prefix}{sibling}" for sibling in close]


def _slip(name: str, elsewhere: str) -> float:
    """How alike a name of this section must look to be preferred to one of another section."""
    return similarity(name, elsewhere) - _BONUS_OF_SIBLINGS

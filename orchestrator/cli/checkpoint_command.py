"""``axis checkpoint``: what a run has saved, whether it is sound, and how to take it elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import failures
from orchestrator.cli.arguments import AsJson, Debug, RunName, StorageUri

Step = Annotated[
    int | None, typer.Option("--step", min=0, help="The checkpoint after so many steps.")
]

group = typer.Typer(
    name="checkpoint",
    help="List, verify and export the checkpoints of a run. None of it needs a cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@group.command(name="ls")
def list_checkpoints(
    run: RunName, storage: StorageUri = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """List them: step, mesh, size, metrics, age and state.

    States: sound, promoted (the one that is served), damaged (set aside, with the reason),
    partial (a save that never ended; the next attempt deletes it), being written, newer (of a
    format that needs a newer version). Contents are not read; `axis checkpoint verify` does.
    """
    from orchestrator.cli.checkpoint_views import show_checkpoints

    with failures.reported(as_json, debug):
        show_checkpoints(run, storage, as_json)


@group.command()
def verify(
    run: RunName,
    step: Step = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, not the newest.")] = False,
    storage: StorageUri = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read every byte and compare it with what was written; exit code 1 if one is damaged."""
    from orchestrator.cli.checkpoint_views import verify_checkpoints

    with failures.reported(as_json, debug):
        verify_checkpoints(run, storage, step, every, as_json)


@group.command()
def export(
    run: RunName,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="A folder; with torch, a file.")
    ],
    step: Step = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="hf|torch", help="Safetensors for transformers, or one .pt file."
        ),
    ] = "hf",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    storage: StorageUri = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the model of one checkpoint for other tools: the promoted one, or the newest.

    The checkpoint is verified first. The Job is imported as the run's plan names it.
    """
    from orchestrator.cli.checkpoint_export import export_checkpoint

    with failures.reported(as_json, debug):
        export_checkpoint(run, storage, step, output, form, force, as_json)

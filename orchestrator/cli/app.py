"""The ``axis`` command: parse, call, print.

Everything heavy is imported inside the command that needs it: ``axis plan`` must answer
without ray, torch or pyarrow.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from orchestrator.cli import checkpoint_command, failures
from orchestrator.cli.arguments import AsJson, Debug, Overrides, PlanPath, RunName, StorageUri

app = typer.Typer(
    name="axis",
    help="Shard data, train on many workers and serve the result, from one plan.\n\n"
    "Begin with `axis plan PLAN`, which starts nothing, then `axis run PLAN`.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=failures.exit_code_table(),
)


@app.callback(invoke_without_command=True)
def axis(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the versions and exit.")
    ] = False,
) -> None:
    """Print help where nothing is asked for."""
    if show_version:
        version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def plan(
    path: PlanPath, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Show what a run would do; starts and writes nothing.

    The resolved plan, the mesh, batch and bundles at every number of workers, what is written
    where. Needs no cluster.
    """
    from orchestrator.cli.plan_command import show_plan

    with failures.reported(as_json, debug):
        show_plan(path, overrides or [], as_json)


@app.command()
def run(
    path: PlanPath,
    overrides: Overrides = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew; what is there is moved aside.")
    ] = False,
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Leave the application up.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            envvar="RAY_ADDRESS",
            help="A Ray cluster, such as auto or 10.0.0.1:6379; without it, a private one.",
        ),
    ] = None,
    num_cpus: Annotated[
        int | None,
        typer.Option("--num-cpus", min=1, help="Logical CPUs of a private cluster."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Carry the plan out: shard, train, serve; again resumes it.

    Storage and name make the run: the same pair resumes it, --fresh starts anew. Ctrl-C takes
    a last checkpoint, gives everything back and ends with exit code 130.
    """
    from orchestrator.cli.run_command import run_plan_file

    with failures.reported(as_json, debug):
        code = run_plan_file(path, overrides or [], fresh, keep_serving, address, num_cpus, as_json)
        raise typer.Exit(code)


@app.command()
def render(
    path: PlanPath,
    overrides: Overrides = None,
    target: Annotated[
        str, typer.Option("--target", metavar="TARGET", help="kuberay or slurm.")
    ] = "kuberay",
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="job carries the plan out; service keeps serving what it promoted; cluster "
            "waits for jobs.",
        ),
    ] = "job",
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "--profile",
            metavar="NAME|FILE",
            help="kind, gke, eks, spot or a file; may be repeated, the later one wins.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", help="The container image; axis:0.1.0 (-cuda) by default."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write files instead of printing."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write manifests for KubeRay, or a script for Slurm, sized from the plan.

    Needs no cluster. With --output there is a kustomize base and an overlay for each profile.
    """
    from orchestrator.cli.render_command import RenderOptions, render_plan

    options = RenderOptions(target, kind, tuple(profile or ()), image, output, as_json)
    with failures.reported(as_json, debug):
        render_plan(path, overrides or [], options)


@app.command()
def design(
    path: Annotated[str, typer.Argument(metavar="WORKLOAD", help="A workload, a YAML file.")],
    overrides: Overrides = None,
    radar: Annotated[
        str | None, typer.Option("--radar", metavar="FILE.svg", help="Write the radar chart.")
    ] = None,
    plan_file: Annotated[
        str | None, typer.Option("--plan", metavar="FILE.yaml", help="Write a plan to begin with.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Answer the six design questions for a workload, with numbers."""
    from orchestrator.cli.design_command import show_design

    with failures.reported(as_json, debug):
        raise typer.Exit(show_design(path, overrides or [], as_json, radar, plan_file))


SpecPath = Annotated[
    str,
    typer.Argument(metavar="SPEC", help="A specification, YAML or JSON; - reads it from stdin."),
]


@app.command()
def estimate(path: SpecPath, as_json: AsJson = False, debug: Debug = False) -> None:
    """Predict memory, time and tax of one configuration."""
    from orchestrator.cli.estimate_command import show_estimate

    with failures.reported(as_json, debug):
        show_estimate(path, as_json)


@app.command()
def search(
    path: SpecPath,
    by: Annotated[
        str, typer.Option("--by", metavar="METRIC", help="throughput, cost or memory.")
    ] = "throughput",
    devices: Annotated[
        list[int] | None,
        typer.Option("--devices", min=1, help="A number of devices to try; may be repeated."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many to show.")] = 10,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Rank all legal meshes for a model on a cluster."""
    from orchestrator.cli.search_command import show_search

    with failures.reported(as_json, debug):
        show_search(path, by, devices or [], top, as_json)


@app.command()
def status(
    run_name: RunName, storage: StorageUri = None, as_json: AsJson = False, debug: Debug = False
) -> None:
    """Show where a run stands."""
    from orchestrator.cli.run_views import show_status

    with failures.reported(as_json, debug):
        show_status(run_name, storage, as_json)


@app.command(name="ls")
def list_runs(storage: StorageUri = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the runs of a storage."""
    from orchestrator.cli.run_views import show_runs

    with failures.reported(as_json, debug):
        show_runs(storage, as_json)


@app.command()
def logs(
    run_name: RunName,
    storage: StorageUri = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Which attempt; the last by default.")
    ] = None,
    worker: Annotated[
        int | None, typer.Option("--worker", min=0, help="One worker's log alone.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print what the driver and the workers logged."""
    from orchestrator.cli.run_views import show_logs

    with failures.reported(as_json, debug):
        show_logs(run_name, storage, attempt, worker, follow, as_json)


@app.command()
def stop(
    run_name: RunName,
    storage: StorageUri = None,
    timeout: Annotated[
        str, typer.Option("--timeout", help="How long to wait for it, such as 2m.")
    ] = "2m",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Stop a run after a last checkpoint; `axis run` resumes it."""
    from orchestrator.cli.run_views import stop_run

    with failures.reported(as_json, debug):
        stop_run(run_name, storage, timeout, as_json)


app.add_typer(checkpoint_command.group)


@app.command()
def schema(
    as_json: AsJson = False,  # noqa: ARG001 - every command takes it; a schema is JSON anyway
) -> None:
    """Print the JSON Schema of a plan, for editors."""
    import json

    from orchestrator.plan.dump import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the versions of axis and of what it stands on."""
    from orchestrator.cli.versions import show_versions

    show_versions(as_json)


def main() -> None:
    """Entry point of the ``axis`` script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows no · or × shows a question mark; it is no reason to fail.
            stream.reconfigure(errors="replace")
    sys.exit(app())

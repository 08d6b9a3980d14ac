"""The ``axis`` command: parse, call, print.

Everything heavy is imported inside the command that needs it: ``axis plan`` must answer
without ray, torch or pyarrow.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from orchestrator.cli import checkpoint_command, failures, planning
from orchestrator.cli.arguments import (
    Address,
    AsJson,
    Debug,
    Fresh,
    HardwareName,
    JobsAddress,
    KeepServing,
    NumCpus,
    Overrides,
    PlanPath,
    RunName,
    StorageUri,
)

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
    path: PlanPath,
    overrides: Overrides = None,
    hardware: HardwareName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a run would do; starts and writes nothing.

    The resolved plan, the mesh, batch and bundles at every number of workers, what is written
    where, and where the machine is described, what a step will take. Needs no cluster.
    """
    from orchestrator.cli.plan_command import show_plan

    with failures.reported(as_json, debug):
        show_plan(path, overrides or [], as_json, hardware)


@app.command()
def run(
    path: PlanPath,
    overrides: Overrides = None,
    fresh: Fresh = False,
    keep_serving: KeepServing = False,
    address: Address = None,
    num_cpus: NumCpus = None,
    hardware: HardwareName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Carry the plan out: shard, train, serve; again resumes it.

    Storage and name make the run: the same pair resumes it, --fresh starts anew. Ctrl-C takes
    a last checkpoint, gives everything back and ends with exit code 130.
    """
    from orchestrator.cli.run_command import run_plan_file

    with failures.reported(as_json, debug):
        code = run_plan_file(
            path, overrides or [], fresh, keep_serving, address, num_cpus, hardware, as_json
        )
        raise typer.Exit(code)


@app.command()
def submit(
    path: PlanPath,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="The cluster's dashboard, such as http://head:8265; else RAY_API_SERVER_ADDRESS, "
            "RAY_ADDRESS, then this machine.",
        ),
    ] = None,
    working_dir: Annotated[
        str, typer.Option("--working-dir", help="What is sent: the plan and the Job are in it.")
    ] = ".",
    detach: Annotated[
        bool, typer.Option("--detach", help="Return as soon as the cluster has it.")
    ] = False,
    fresh: Fresh = False,
    keep_serving: KeepServing = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Carry the plan out on a cluster, through Ray's Jobs API.

    Sends the working directory but for what .gitignore and .axisignore name, checks that the
    cluster can hold the plan, shows what the run prints, and ends with the run's exit code.
    """
    from orchestrator.cli.submit_command import SubmitOptions, submit_plan_file

    options = SubmitOptions(address, working_dir, fresh, keep_serving, detach, as_json)
    with failures.reported(as_json, debug):
        raise typer.Exit(submit_plan_file(path, overrides or [], options))


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
    """Write manifests for KubeRay, or a script for Slurm.

    Sized from the plan; needs no cluster. With --output there is a kustomize base and an overlay
    for each profile.
    """
    from orchestrator.cli.render_command import RenderOptions, render_plan

    options = RenderOptions(target, kind, tuple(profile or ()), image, output, as_json)
    with failures.reported(as_json, debug):
        render_plan(path, overrides or [], options)


for _command in planning.COMMANDS:
    app.command()(_command)


@app.command()
def status(
    run_name: RunName,
    storage: StorageUri = None,
    address: JobsAddress = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show where a run stands."""
    with failures.reported(as_json, debug):
        if address is not None:
            from orchestrator.cli.remote_views import show_remote_status

            show_remote_status(run_name, address, as_json)
            return
        from orchestrator.cli.run_views import show_status

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
    address: JobsAddress = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print what the driver and the workers logged."""
    with failures.reported(as_json, debug):
        if address is not None:
            from orchestrator.cli.remote_views import show_remote_logs

            show_remote_logs(run_name, address, attempt, worker, follow, as_json)
            return
        from orchestrator.cli.run_views import show_logs

        show_logs(run_name, storage, attempt, worker, follow, as_json)


@app.command()
def stop(
    run_name: RunName,
    storage: StorageUri = None,
    timeout: Annotated[
        str, typer.Option("--timeout", help="How long to wait for it, such as 2m.")
    ] = "2m",
    address: JobsAddress = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Stop a run after a last checkpoint; `axis run` resumes it."""
    with failures.reported(as_json, debug):
        if address is not None:
            from orchestrator.cli.remote_views import stop_remote

            stop_remote(run_name, address, timeout, as_json)
            return
        from orchestrator.cli.run_views import stop_run

        stop_run(run_name, storage, timeout, as_json)


app.add_typer(checkpoint_command.group)


@app.command()
def doctor(
    path: Annotated[
        str | None, typer.Argument(metavar="[PLAN]", help="A plan that is to be run.")
    ] = None,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="A cluster: its dashboard, such as http://head:8265, or auto or 10.0.0.1:6379.",
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Look at everything that a run needs, and say what mends it.

    Versions, token, shared memory, disk, open files, GPUs, storage, clocks, and the ways between
    nodes; on this machine, or on a cluster from inside.
    """
    from orchestrator.cli.doctor_command import show_doctor

    with failures.reported(as_json, debug):
        raise typer.Exit(show_doctor(path, overrides or [], address, as_json))


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

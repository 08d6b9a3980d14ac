"""The commands that plan and predict: they are added to ``axis`` by ``app``.

Everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import failures
from orchestrator.cli.arguments import (
    Address,
    AsJson,
    Debug,
    HardwareName,
    NumCpus,
    Overrides,
    PlanPath,
)


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


def estimate(path: SpecPath, as_json: AsJson = False, debug: Debug = False) -> None:
    """Predict memory, time and tax of one configuration."""
    from orchestrator.cli.estimate_command import show_estimate

    with failures.reported(as_json, debug):
        show_estimate(path, as_json)


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


def calibrate(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The hardware file to write.")
    ] = "hardware.yaml",
    storage: Annotated[
        str, typer.Option("--storage", help="Where runs will lie; it is measured, too.")
    ] = "runs",
    address: Address = None,
    num_cpus: NumCpus = None,
    price_per_hour: Annotated[
        float | None,
        typer.Option("--price-per-hour", min=0.0, help="Of one core or device; written down."),
    ] = None,
    from_runs: Annotated[
        bool,
        typer.Option("--from-runs", help="Measure nothing: correct the file by what runs took."),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure this cluster into a hardware file.

    Takes about a minute. With --from-runs the file's predictions are put beside what the runs
    of the storage took, and two factors are written into it, shown before and after.
    """
    with failures.reported(as_json, debug):
        if from_runs:
            from orchestrator.cli.refit_command import refit_from_runs

            refit_from_runs(output, storage, as_json)
            return
        from orchestrator.cli.calibrate_command import calibrate_cluster

        calibrate_cluster(output, storage, address, num_cpus, price_per_hour, as_json)


def study(
    path: PlanPath,
    overrides: Overrides = None,
    workers: Annotated[
        str, typer.Option("--workers", metavar="N,N", help="Numbers of workers, such as 1,2,4.")
    ] = "1,2",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each run.")] = 60,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="Where page and JSON go.")
    ] = "study",
    address: Address = None,
    num_cpus: NumCpus = None,
    hardware: HardwareName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a plan at several numbers of workers.

    Does it pay to use more? Real runs, one after another, the smallest first. Writes
    study.html and study.json: throughput, speedup, efficiency, cost, communication, predicted
    next to measured.
    """
    from orchestrator.cli.study_command import StudyOptions, study_plan

    options = StudyOptions(workers, steps, output, address, num_cpus, hardware)
    with failures.reported(as_json, debug):
        study_plan(path, overrides or [], options, as_json)


COMMANDS = (design, estimate, search, calibrate, study)
"""In the order in which help shows them."""

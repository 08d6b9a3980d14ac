"""Arguments and options that several commands take, each said once."""

from __future__ import annotations

from typing import Annotated

import typer

PlanPath = Annotated[str, typer.Argument(metavar="PLAN", help="The axis plan, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FIELD=VALUE", help="Overrides, such as training.workers=4; they come last."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name, its folder, or its plan file.")
]
StorageUri = Annotated[
    str | None,
    typer.Option(
        "--storage", help="Where runs lie: a folder or a pyarrow.fs URI; else the plan's, or runs."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="RAY_ADDRESS",
        help="A Ray cluster, such as auto or 10.0.0.1:6379; without it, a private one.",
    ),
]
NumCpus = Annotated[
    int | None, typer.Option("--num-cpus", min=1, help="Logical CPUs of a private cluster.")
]
HardwareName = Annotated[
    str | None,
    typer.Option(
        "--hardware",
        metavar="FILE|NAME",
        help="What to predict for: a hardware file or a known device; else $AXIS_HARDWARE, or "
        "hardware.yaml here, which axis calibrate writes.",
    ),
]
JobsAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="A run that was submitted, as the cluster at this address tells of it, such as "
        "http://head:8265.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start anew; what is there is moved aside.")]
KeepServing = Annotated[bool, typer.Option("--keep-serving", help="Leave the application up.")]

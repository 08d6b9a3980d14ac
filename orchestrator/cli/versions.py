"""Which versions are at work? Read from package metadata, without importing anything heavy."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version

import typer

from orchestrator import __version__

_PACKAGES = ("ray", "torch", "pyarrow", "pydantic")


def show_versions(as_json: bool) -> None:
    """Print the versions as lines, or as one JSON object."""
    versions = {"axis-orchestrator": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = package_version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    if as_json:
        typer.echo(json.dumps(versions))
        return
    for name, number in versions.items():
        typer.echo(f"{name} {number}")

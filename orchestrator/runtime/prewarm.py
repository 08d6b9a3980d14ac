"""What a training worker imports before it is asked for anything."""

from __future__ import annotations


def import_training() -> None:
    """Import torch and Ray Train at process start.

    Without this, each worker imports them one call after another while the others wait.
    """

    import orchestrator.parallel.loop  # noqa: F401

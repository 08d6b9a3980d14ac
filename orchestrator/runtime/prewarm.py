"""What a training worker, and a group's controller, import before anybody asks for anything."""

from __future__ import annotations


def import_training() -> None:
    """Import torch and Ray Train at process start.

    Without this, each worker imports them one call after another while the others wait: torch with
    the loop, and with the first message all that the classes in it come with.
    """

    import orchestrator.runtime.coordinator
    import orchestrator.runtime.internals.train
    import orchestrator.runtime.worker  # noqa: F401

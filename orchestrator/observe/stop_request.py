"""Has somebody asked the run to stop, from another terminal or machine?

A file in the run's folder, which the driver polls. Knows nothing about how a run stops.
"""

from __future__ import annotations

import json
import time

from orchestrator.errors import StorageError
from orchestrator.storage import Storage

_FILE = "stop.json"


def request_stop(storage: Storage, by: str) -> None:
    """Leave a request in the run's folder; ``by`` says who asks, for the log."""
    request = {"by": by, "at_seconds": time.time()}
    storage.write_atomic(_FILE, json.dumps(request).encode())


def stop_requested(storage: Storage) -> str | None:
    """Who asked the run to stop, or ``None``. A request that cannot be read still counts."""
    if not storage.exists(_FILE):
        return None
    try:
        return str(json.loads(storage.read_bytes(_FILE)).get("by") or "somebody")
    except (ValueError, AttributeError):
        return "somebody"
    except StorageError:
        return "somebody" if storage.exists(_FILE) else None


def clear_stop(storage: Storage) -> None:
    """Forget a request that was served, or that was meant for an earlier attempt."""
    if storage.exists(_FILE):
        storage.delete(_FILE)

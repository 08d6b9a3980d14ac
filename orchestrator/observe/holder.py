"""Who is carrying a run out? The name tag of a driver, for people."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import time
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Holder:
    """A driver: where and as whom it runs, since when, and how it was called.

    ``since_seconds`` is its own wall clock, shown to people and never compared to decide.
    """

    host: str
    pid: int
    user: str
    since_seconds: float
    command: str

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            user=_user(),
            since_seconds=time.time(),
            command=" ".join(sys.argv),
        )

    def render(self) -> str:
        """``pid 1234 of ada on node7 since 14:03:11 (2 min ago)``."""
        since = datetime.fromtimestamp(self.since_seconds).astimezone()
        age = ago(time.time() - self.since_seconds)
        clock = since.strftime("%H:%M:%S" if age else "%Y-%m-%d %H:%M:%S")
        when = f"{clock} ({age} ago)" if age else clock
        return f"pid {self.pid} of {self.user} on {self.host} since {when}"


def ago(seconds: float) -> str:
    """``40 s``, ``2 min``, ``3 h``, ``5 days``; empty for a time that lies ahead."""
    if seconds < -1:
        return ""  # clocks of two machines differ: say nothing rather than nonsense
    if seconds < 90:
        return f"{max(0, int(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} days"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return str(os.getuid())

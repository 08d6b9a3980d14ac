"""What does the file of a lease say? Who holds it, and a counter that moves while they live.

The clocks of holder and taker are never compared: all that counts is whether the mark has moved
while one was looking. Knows neither files nor storage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Mark:
    """A holder's sign of life. ``nonce`` is the holder's own, ``counter`` is raised several times
    per ``period_seconds``; 0 seconds: never. ``tag`` says who it is, for people."""

    nonce: str
    counter: int
    period_seconds: float
    tag: Mapping[str, Any]

    def encode(self) -> bytes:
        """The mark as JSON; it does not get shorter when the counter is raised."""
        return json.dumps({**self.__dict__, "tag": dict(self.tag)}).encode()

    def raised(self) -> Mark:
        """The next sign of life."""
        return replace(self, counter=self.counter + 1)

    def has_moved(self, since: Mark) -> bool:
        """Whether somebody has renewed it, or taken it, since ``since`` was seen."""
        return (self.nonce, self.counter) != (since.nonce, since.counter)


def decode_mark(data: bytes) -> Mark:
    """The mark that ``encode`` wrote. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for
    anything else."""
    found = json.loads(data)
    return Mark(
        str(found["nonce"]),
        int(found["counter"]),
        float(found["period_seconds"]),
        dict(found["tag"]),
    )


UNREADABLE = Mark("", -1, 0.0, {})
"""Stands for a mark that stays unreadable: like any other it is watched for a period."""

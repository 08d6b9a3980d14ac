"""How do a run's figures reach Prometheus? Through Ray's own metrics, which every node exports.

Ray puts ``ray_`` before each name. The coordinator sets them, a second apart.
"""

from __future__ import annotations

import time

from ray.util import metrics

from orchestrator.observe.gauges import GAUGES, RUN, readings
from orchestrator.runtime.books import Book


class Meters:
    """The gauges of all runs of one cluster."""

    def __init__(self) -> None:
        self._gauges = {
            gauge.name: metrics.Gauge(gauge.name, gauge.what, tag_keys=(RUN, *gauge.labels))
            for gauge in GAUGES
        }

    def show(self, book: Book) -> None:
        """Set every gauge to where the run stands."""
        for each in readings(book.state, book.last_step, time.time()):
            self._gauges[each.name].set(each.value, tags={RUN: book.ref.name, **each.labels})

"""``torchrun -m benchmarks.mesh_axis OUTPUT PLAN --store DIR …``: ``orchestrator.parallel``, timed.

The program behind ``torchrun -m orchestrator.parallel``, whose channel notes besides when each
step was reported: its own records say how long steps took, not how long it was from one to the
next.
"""

from __future__ import annotations

import sys

from benchmarks.by_hand.mesh_loop import Measured
from orchestrator.parallel import __main__ as program
from orchestrator.parallel import local
from orchestrator.parallel.channel import Started, StepRecord


class TimedChannel(local.LocalChannel):
    """Notes when steps are reported, and writes it down after the last."""

    output = ""
    steps = 0

    def started(self, info: Started) -> None:
        """Note which step is the last."""
        super().started(info)
        self.steps, self.measured = info.steps, Measured()

    def report(self, record: StepRecord) -> None:
        """Note a step."""
        super().report(record)
        self.measured.note_step()
        self.measured.loss = record.loss
        if record.step == self.steps:
            self.measured.write(self.output)


def main() -> int:
    """Train; each rank writes what ``by_hand/mesh_loop`` does."""
    TimedChannel.output, *arguments = sys.argv[1:]
    local.LocalChannel = TimedChannel  # type: ignore[misc]
    return program.main(arguments)


if __name__ == "__main__":
    sys.exit(main())

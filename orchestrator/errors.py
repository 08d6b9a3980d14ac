"""What can go wrong, and with which exit code the command line ends.

::

    AxisError                        1   the run failed
    ├── PlanError                    2   the plan says something that cannot be meant
    │   ├── JobError                 2   the Job cannot be imported or built
    │   └── ResumeRefused            2   the plan no longer computes what the run began
    ├── InfeasibleError              3   the plan is sound, but not here and now
    │   ├── RunHeld                  3   another driver holds this run
    │   └── SecretMissing            3   what the plan refers to as a secret is not here
    ├── PlacementTimeout             4   the gang was not placed before its deadline
    ├── Interrupted                  6   stopped on request; the same command resumes it
    │   └── KeyboardStop           130   the same, by Ctrl-C
    ├── GateNotMet                   7   trained, but the promotion gate said no
    ├── StorageError                 1   bytes could not be read or written
    │   └── DamagedError             1   bytes are there, but are not what was written
    │       └── DamagedCheckpointError 1 a checkpoint's; the one before it can be taken
    ├── NotFinite                    1   loss or gradients are no finite numbers any more
    ├── Fenced                       1   a later attempt owns the run
    └── DeadlineExceeded             1   a wait ended without what it waited for

Exit code 0 is success; 5 is that of a run whose budget is spent, and 6 if somebody stopped it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "failed",
    2: "bad plan",
    3: "infeasible here and now",
    4: "placement timed out",
    5: "budget spent, and resumable",
    6: "interrupted and resumable",
    7: "promotion gate not met",
    130: "interrupted by Ctrl-C and resumable",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a plan, said so that it can be mended.

    ``where`` is the dotted path of the field (``training.workers``), ``what`` says what is
    wrong, ``arithmetic`` shows the numbers behind it, ``works`` gives the nearest values
    that would do. ``line`` and ``column`` count from 1 and are ``None`` where the value did
    not come from a file; ``file`` names the file or the command-line override.
    """

    where: str
    what: str
    arithmetic: str = ""
    works: str = ""
    file: str | None = None
    line: int | None = None
    column: int | None = None

    def render(self) -> str:
        """The problem as two to four indented lines."""
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}" + (f":{self.column}" if self.column is not None else "")
        head = f"{self.where}  ({place})" if place else self.where
        lines = [head, f"  {self.what}"]
        if self.arithmetic:
            lines.append(f"  {self.arithmetic}")
        if self.works:
            lines.append(f"  works: {self.works}")
        return "\n".join(lines)

    def sentence(self) -> str:
        """The problem without its place, for the message of a run that ended of it."""
        parts = [f"{self.where}: {self.what}", self.arithmetic]
        parts.append(f"works: {self.works}" if self.works else "")
        return "; ".join(part for part in parts if part)


class AxisError(Exception):
    """Base of everything this project raises on purpose; ``exit_code`` is documented above."""

    exit_code: int = 1


class PlanError(AxisError):
    """The plan is wrong; ``problems`` lists all that was found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem], source: str = "plan") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        body = "\n".join(problem.render() for problem in self.problems)
        super().__init__(f"{source}: {count} {noun}\n{body}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers tell one another what went wrong, so errors must survive being pickled."""
        return type(self), (self.problems, self.source)


class JobError(PlanError):
    """The Job cannot be imported or built; ``user_traceback`` is the user's own, if any."""

    def __init__(self, problem: Problem, user_traceback: str = "", source: str = "plan") -> None:
        self.user_traceback = user_traceback
        super().__init__([problem], source)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems[0], self.user_traceback, self.source)


class ResumeRefused(PlanError):
    """The plan was changed in a way that would make the run compute something else."""


class InfeasibleError(AxisError):
    """The plan is sound, but this machine or cluster cannot carry it out now."""

    exit_code = 3


class RunHeld(InfeasibleError):
    """Another driver is carrying this run out."""


class SecretMissing(InfeasibleError):
    """A secret that the plan refers to is not there where it is needed."""


class PlacementTimeout(AxisError):
    """The gang could not be placed before its deadline; everything was released."""

    exit_code = 4


class Interrupted(AxisError):
    """Stopped on request; the last checkpoint is committed and the run can be resumed."""

    exit_code = 6


class KeyboardStop(Interrupted):
    """Stopped by Ctrl-C."""

    exit_code = 130


class GateNotMet(AxisError):
    """Training ended, but no checkpoint passes the plan's promotion gate."""

    exit_code = 7


class StorageError(AxisError):
    """Bytes could not be read or written where the plan's storage is."""


class DamagedError(StorageError):
    """What was read is not what was written: a checksum, size or format does not match."""


class DamagedCheckpointError(DamagedError):
    """A checkpoint is incomplete or not what was written. It is never used, not even in part."""


class NotFinite(AxisError):
    """More steps in a row than the plan allows came to a loss, or a gradient norm, that is
    infinite or not a number."""


class Fenced(AxisError):
    """A later attempt owns the run; this one may no longer commit anything."""


class DeadlineExceeded(AxisError):
    """A wait ended without what it waited for; the message names both."""

"""How does a part of the plan say no?

One exception, raised by parsers and by mesh arithmetic alike, that keeps the sentence, the
numbers behind it and the way out apart. It does not know where in the plan the value stood;
whoever catches it does.
"""

from __future__ import annotations

from orchestrator.errors import Problem


class Refusal(ValueError):
    """A value that cannot be meant: ``what`` is wrong, the ``arithmetic``, what ``works``."""

    def __init__(self, what: str, arithmetic: str = "", works: str = "") -> None:
        self.what = what
        self.arithmetic = arithmetic
        self.works = works
        text = f"{what}: {arithmetic}" if arithmetic else what
        super().__init__(f"{text}; works: {works}" if works else text)

    def __reduce__(self) -> tuple[type[Refusal], tuple[str, str, str]]:
        return type(self), (self.what, self.arithmetic, self.works)

    def problem(self, where: str) -> Problem:
        """The same as a ``Problem`` of the field at the dotted path ``where``."""
        return Problem(where, self.what, self.arithmetic, self.works)

"""How is one field of a frozen value changed at little cost?

``dataclasses.replace`` reads and sets every field again, through ``__init__``; of a state with
some fifty fields that takes longer than all the rest of a decision. Here the fields are copied as
a whole. Knows nothing of what the fields mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # so that the names and types of the changes are checked as ever
    from dataclasses import replace as replace
else:
    _T = TypeVar("_T")

    def replace(value: _T, /, **changes: Any) -> _T:
        """A copy of a dataclass's instance with some fields changed, as ``dataclasses.replace``.

        For classes whose fields are all given to ``__init__`` and kept in ``__dict__``: those of
        this package. What ``__post_init__`` checks is checked of the copy. Raises ``TypeError``
        for a name that is no field.
        """
        before = value.__dict__
        fields = {**before, **changes}
        if len(fields) != len(before):
            unknown = sorted(changes.keys() - before.keys())[0]
            raise TypeError(f"{type(value).__name__} has no field {unknown}")
        copy = object.__new__(type(value))
        object.__setattr__(copy, "__dict__", fields)
        if hasattr(copy, "__post_init__"):
            copy.__post_init__()
        return copy

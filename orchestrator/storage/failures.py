"""Why did an operation on files fail, in a few words? For messages that name the place already."""

from __future__ import annotations

import re

import pyarrow as pa

_ERRNO_DETAIL = re.compile(r"\. Detail: \[errno \d+\] (.+)$")


def reason_of(error: BaseException) -> str:
    """The first line of the message, without the path that Arrow and the system repeat."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, pa.ArrowException):
        text = error.strerror
    else:
        text = str(error)
    line = (text.splitlines() or [type(error).__name__])[0]
    detail = _ERRNO_DETAIL.search(line)
    return detail[1] if detail else line

"""Settings of a loop written by hand, which travel to its processes as a JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self


class InFile:
    """For dataclasses of JSON values."""

    @classmethod
    def read(cls, path: str) -> Self:
        """From a JSON file."""
        return cls(**json.loads(Path(path).read_text()))

    def write(self, path: Path) -> str:
        """To a JSON file; returns its path."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        path.write_text(json.dumps(values))
        return str(path)

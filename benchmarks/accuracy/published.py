"""Where are the published tables, and what does a row hold?"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "AXIS_PUBLISHED"
"""Environment variable that names the folder."""

DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "published"
"""Where the folder is looked for otherwise: beside the checkout."""

Row = Mapping[str, str]


def folder() -> Path | None:
    """The folder with the tables, or nothing where it is absent."""
    named = os.environ.get(VARIABLE)
    place = Path(named) if named else DEFAULT
    return place if (place / "training_runs.csv").exists() else None


def absent() -> str:
    """What to say where it is absent."""
    place = os.environ.get(VARIABLE) or str(DEFAULT)
    return f"no published tables at {place}; set {VARIABLE} to their folder"


def rows(name: str, group: str | None = None) -> list[Row]:
    """The rows of a table, of one group if named. Raises ``FileNotFoundError`` if absent."""
    place = folder()
    if place is None:
        raise FileNotFoundError(absent())
    with (place / name).open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if group is None or row["group"] == group]


def number(row: Row, column: str, default: float | None = None) -> float:
    """A number in a row; ``default`` where the cell is empty.

    Raises ``ValueError`` naming row and column for a cell that holds no number.
    """
    text = row.get(column) or ""
    try:
        return float(text)
    except ValueError:
        if default is None:
            raise ValueError(f"{row.get('id')}: {column} is {text!r}, not a number") from None
        return default


def count(row: Row, column: str, default: int | None = None) -> int:
    """A whole number in a row."""
    return round(number(row, column, default))

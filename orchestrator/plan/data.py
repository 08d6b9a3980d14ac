"""The data axis: where samples come from and how they are cut into shards."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from orchestrator.plan.names import Target
from orchestrator.plan.refusal import Refusal
from orchestrator.plan.resources import Resources
from orchestrator.plan.section import Section


def check_encoding(name: str) -> str:
    """``name`` if Python knows a text encoding of that name. Raises ``Refusal`` otherwise."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise Refusal(f'Python knows no text encoding "{name}"', works="utf-8") from None
    return name


Encoding = Annotated[str, AfterValidator(check_encoding)]
"""The name of a text encoding."""


class TextSource(Section):
    """Text files, one row a file: ``{"path": str, "text": str}``."""

    kind: Literal["text"] = "text"
    """Selects this source."""
    path: Annotated[str, Field(min_length=1, examples=["corpus"])]
    """A folder, a file, any ``pyarrow.fs`` URI, or ``python:stdlib`` for the standard library's
    own source files."""
    glob: Annotated[str, Field(min_length=1)] = "**/*.txt"
    """Which files under ``path``; ``**`` crosses folders."""
    encoding: Encoding = "utf-8"
    """How the bytes are decoded; a file that does not decode counts as bad."""


class JsonlSource(Section):
    """JSON Lines files, one row a line: the object's keys."""

    kind: Literal["jsonl"] = "jsonl"
    """Selects this source."""
    path: Annotated[str, Field(min_length=1, examples=["corpus"])]
    """A folder, a file or any ``pyarrow.fs`` URI."""
    glob: Annotated[str, Field(min_length=1)] = "**/*.jsonl"
    """Which files under ``path``; ``**`` crosses folders."""


class CsvSource(Section):
    """CSV files with a header line, one row a line."""

    kind: Literal["csv"] = "csv"
    """Selects this source."""
    path: Annotated[str, Field(min_length=1, examples=["corpus"])]
    """A folder, a file or any ``pyarrow.fs`` URI."""
    glob: Annotated[str, Field(min_length=1)] = "**/*.csv"
    """Which files under ``path``; ``**`` crosses folders."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The character between two columns."""


class ParquetSource(Section):
    """Parquet files, one row a row."""

    kind: Literal["parquet"] = "parquet"
    """Selects this source."""
    path: Annotated[str, Field(min_length=1, examples=["corpus"])]
    """A folder, a file or any ``pyarrow.fs`` URI."""
    glob: Annotated[str, Field(min_length=1)] = "**/*.parquet"
    """Which files under ``path``; ``**`` crosses folders."""
    columns: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The columns to read; all of them when absent."""


class PythonSource(Section):
    """A function of your own that returns a Ray Dataset; its rows go to ``Job.samples``."""

    kind: Literal["python"] = "python"
    """Selects this source."""
    target: Annotated[Target, Field(examples=["jobs.mine:rows"])]
    """``module:function``, importable from the working directory."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of the function."""


Source = Annotated[
    TextSource | JsonlSource | CsvSource | ParquetSource | PythonSource,
    Field(discriminator="kind"),
]
"""Where rows come from, told apart by ``kind``."""


class Data(Section):
    """Turns a source into a sample store: shards that every worker can map into memory."""

    source: Annotated[Source, Field(examples=[{"kind": "text", "path": "corpus"}])]
    """Where rows come from."""
    shards: Annotated[int, Field(ge=1)] = 8
    """How many shards the sample store has at most; also the number of data tasks in all."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """The share of samples kept out of training for evaluation."""
    max_bad_files: Annotated[int, Field(ge=-1)] = -1
    """How many files may be unreadable before the run fails; ``-1``: any number, but not all."""
    tasks: Annotated[int, Field(ge=1)] = 2
    """How many data tasks run at the same time."""
    resources: Resources = Resources(cpu=0.5)
    """What one data task occupies."""

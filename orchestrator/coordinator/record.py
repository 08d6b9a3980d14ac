"""How does a value of the journal look as JSON? One answer for events and what they carry.

Strict on unknown fields: an older version must not read a newer journal halfway.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict


class Record:
    """Base of frozen dataclasses that are written to the journal."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

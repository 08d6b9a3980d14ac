"""A Job that says its secret wherever a Job can: it prints, logs and raises it."""

from __future__ import annotations

import builtins
import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jobs.digits import Digits


class Telltale(Digits):
    """``digest`` is what the secret must hash to, ``mark`` a file that is there after it raised."""

    def __init__(self, secret: str, digest: str, mark: str, channels: int = 8) -> None:
        super().__init__(channels=channels)
        if hashlib.sha256(secret.encode()).hexdigest() != digest:
            raise ValueError(f"{secret} is not the secret")
        print("constructed with", secret)
        self._secret = secret
        self._mark = Path(mark)

    def samples(self, row: Any) -> Iterator[Any]:
        self._tell("data")
        return super().samples(row)

    def answer(self, model: Any, requests: Sequence[Any]) -> list[dict[str, Any]]:
        self._tell("inference")
        for request in requests:
            if "raise" in request:
                raise getattr(builtins, request["raise"])(f"raised {self._secret}")
        return super().answer(model, requests)

    def _tell(self, axis: str) -> None:
        print(f"{axis}: printed", self._secret)
        logging.getLogger("telltale").warning(f"{axis}: logged %s", self._secret)

    def loss(self, model: Any, batch: Any) -> Any:
        self._tell("training")
        if not self._mark.exists():
            self._mark.touch()
            raise RuntimeError(f"raised {self._secret}")
        return super().loss(model, batch)

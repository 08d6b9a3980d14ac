"""A Job that says its secret wherever a Job can: it prints, logs and raises it."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from jobs.digits import Digits


class Telltale(Digits):
    """``digest`` is what the secret must hash to, ``mark`` a file that is there after it raised."""

    def __init__(self, secret: str, digest: str, mark: str, channels: int = 8) -> None:
        super().__init__(channels=channels)
        if hashlib.sha256(secret.encode()).hexdigest() != digest:
            raise ValueError(f"{secret} is not the secret")
        self._secret = secret
        self._mark = Path(mark)

    def loss(self, model: Any, batch: Any) -> Any:
        print("printed", self._secret)
        logging.getLogger("telltale").warning("logged %s", self._secret)
        if not self._mark.exists():
            self._mark.touch()
            raise RuntimeError(f"raised {self._secret}")
        return super().loss(model, batch)

"""A Job whose first worker is killed between the files of a checkpoint and its manifest, once."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from torch import nn

from jobs.digits import Digits

_POLL_SECONDS = 0.0002


class BrokenOff(Digits):
    """Watches the folder ``checkpoint`` from a thread of every worker; the one that makes the file
    ``mark`` first kills its own process."""

    def __init__(self, checkpoint: str, mark: str, channels: int = 16) -> None:
        super().__init__(channels)
        self.checkpoint, self.mark = Path(checkpoint), Path(mark)

    def model(self) -> nn.Module:
        """Built once in each worker, which is where the watching begins."""
        if not self.mark.exists():
            threading.Thread(target=self._watch, daemon=True).start()
        return super().model()

    def _watch(self) -> None:
        while not list(self.checkpoint.glob("*.distcp")):
            time.sleep(_POLL_SECONDS)
        if (self.checkpoint / "manifest.json").exists():
            return
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

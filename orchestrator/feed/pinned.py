"""Arrays in page-locked memory, from which a GPU copies while the CPU goes on.

Only torch can lock pages so that it knows of it. Whoever asks has imported torch already;
nothing else in this package needs it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def pinned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """Like ``numpy.empty``; raises torch's ``RuntimeError`` where there is no accelerator."""
    import torch

    size_bytes = math.prod(shape) * dtype.itemsize
    memory = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True).numpy()
    array: np.ndarray[Any, np.dtype[Any]] = memory.view(dtype).reshape(shape)
    return array

"""Arrays in page-locked memory, from which a GPU copies while the CPU goes on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch


def pinned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """Like ``numpy.empty``; raises torch's ``RuntimeError`` where there is no accelerator."""
    size_bytes = math.prod(shape) * dtype.itemsize
    memory = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True).numpy()
    array: np.ndarray[Any, np.dtype[Any]] = memory.view(dtype).reshape(shape)
    return array

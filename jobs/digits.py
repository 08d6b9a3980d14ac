"""Handwritten digits: what does this 8 × 8 image show? The job to begin with; it takes seconds.

The 1,797 images come with scikit-learn (``pip install 'axis-orchestrator[jobs]'``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator import Batch, Job, Row, Sample

if TYPE_CHECKING:
    import ray.data

INK = 16.0
"""Pixels count dark dots from 0 to 16."""


def dataset() -> ray.data.Dataset:
    """One row an image: ``{"pixels": float64[64], "label": int}``."""
    import ray.data
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = zip(digits.data, digits.target, strict=True)
    rows = [{"pixels": image, "label": int(label)} for image, label in images]
    return ray.data.from_items(rows, override_num_blocks=2)


class Digits(Job):
    """Two convolutions, the second of twice as many channels, and a linear layer."""

    def __init__(self, channels: int = 16) -> None:
        self.channels = channels

    def samples(self, row: Row) -> Iterator[Sample]:
        """``{"pixels": float32[64] in 0…1, "label": int64}``, one an image."""
        pixels = np.asarray(row["pixels"], dtype=np.float32) / np.float32(INK)
        yield {"pixels": pixels, "label": np.int64(row["label"])}

    def model(self) -> nn.Module:
        """64 pixels → ten scores."""
        few, many = self.channels, 2 * self.channels
        return nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, few, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(few, many, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(many * 4 * 4, 10),
        )

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross entropy."""
        return F.cross_entropy(model(batch["pixels"]), batch["label"])

    def metrics(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """``accuracy``: the share of images recognised."""
        right = model(batch["pixels"]).argmax(-1) == batch["label"]
        return {"accuracy": right.float().mean()}

    def answer(self, model: nn.Module, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """``{"pixels": [64 numbers from 0 to 16]}`` → ``{"digit": int, "confidence": float}``."""
        images = torch.tensor([_pixels(request) for request in requests]) / INK
        images = images.to(next(model.parameters()).device)
        confidence, digit = model(images).softmax(-1).max(-1)
        return [
            {"digit": int(d), "confidence": float(c)}
            for d, c in zip(digit, confidence, strict=True)
        ]


def _pixels(request: Any) -> list[float]:
    """The request's pixels. Raises ``ValueError`` for anything but 64 numbers from 0 to 16."""
    pixels = request.get("pixels") if isinstance(request, Mapping) else None
    if not isinstance(pixels, list) or len(pixels) != 64:
        raise ValueError('expected {"pixels": [64 numbers from 0 to 16]}, row by row')
    for index, value in enumerate(pixels):
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not numeric or not math.isfinite(value) or not 0 <= value <= INK:
            raise ValueError(f"pixel {index} is {value!r}; expected a number from 0 to 16")
    return [float(value) for value in pixels]

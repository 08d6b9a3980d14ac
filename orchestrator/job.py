"""What a user writes: samples, a model, a loss, an answer.

A ``Job`` is a class; the plan names it as ``module:Class`` and passes ``options`` to its
constructor as keyword arguments. This module knows neither torch nor ray, so that a plan
can be checked without importing either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from orchestrator.split import Split
    from orchestrator.transformer import Transformer

Row = Mapping[str, Any]
"""One record of the source: a file's ``path`` and ``text``, or the columns of a table."""

Sample = Mapping[str, "np.ndarray[Any, Any] | int | float | str"]
"""One training sample: named arrays of fixed shape, or scalars."""

Batch = Mapping[str, "torch.Tensor"]
"""Samples stacked along dimension 0, on the worker's device, keyed as in ``Sample``."""


class Job:
    """The user's part of a run. Override the four methods; everything else is optional.

    The constructor is called in the driver, in data tasks, in workers and in replicas, so it
    should only keep its options: no files, no devices, no large tensors.
    """

    def samples(self, row: Row) -> Iterable[Sample]:
        """Turn one record of the source into any number of samples (none is fine).

        Must depend on ``row`` alone: it runs in parallel tasks and in no promised order.
        Every sample of a run has the same keys, dtypes and shapes.
        """
        raise TypeError(f"{type(self).__name__} does not define samples(row)")

    def model(self) -> nn.Module:
        """Build the model, on the default device, in float32. Seeded by the caller."""
        raise TypeError(f"{type(self).__name__} does not define model()")

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch: a scalar **mean over the batch's samples**.

        Where samples weigh differently (masked tokens), return ``(total, weight)``: the sum
        of the losses and the sum of the weights, so that the global average stays exact
        whatever the number of workers.

        A Job that says in three parts what this says in one (``prepare``, ``arguments``,
        ``criterion``) need not define it, and can be cut into pipeline stages and along the
        sequence.
        """
        prepared = self.prepare(batch)
        positional, named = self.arguments(prepared)
        return self.criterion(model(*positional, **named), prepared)

    def prepare(self, batch: Batch) -> Batch:
        """Tensors that the model and the criterion need, made from a batch of samples.

        Called before a batch is cut along the sequence, so that targets can be shifted and
        positions numbered here. Dimension 0 of every tensor is the sample.
        """
        return batch

    def arguments(
        self, prepared: Batch
    ) -> tuple[tuple[torch.Tensor, ...], Mapping[str, torch.Tensor]]:
        """What the model is called with: ``model(*positional, **named)``.

        In a pipeline the positional tensors go into the first stage, whose outputs are those
        of the next one; the named tensors are given to every stage.
        """
        raise TypeError(f"{type(self).__name__} defines neither loss nor arguments and criterion")

    def criterion(
        self, outputs: Any, prepared: Batch
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """What ``loss`` returns, from the model's outputs."""
        raise TypeError(f"{type(self).__name__} defines neither loss nor arguments and criterion")

    def split(self) -> Split | None:
        """How the model may be cut over the mesh; nothing: as a whole alone, which is enough
        for ``model.replicate`` and ``model.shard``."""
        return None

    def transformer(self) -> Transformer | None:
        """The sizes of the model, from which the planner predicts time and memory; nothing: it
        predicts nothing, and says so. Asked without torch: import it in other methods."""
        return None

    def answer(self, model: nn.Module, requests: Sequence[Any]) -> Sequence[Any]:
        """Answer a batch of requests, each a decoded JSON body, each answer JSON-able.

        Raise ``ValueError`` with a readable message for a request that makes no sense: the
        client gets status 400 and the message. Called under ``torch.inference_mode`` with
        the model in evaluation mode.
        """
        raise TypeError(f"{type(self).__name__} does not define answer(model, requests)")

    def metrics(self, model: nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Further figures for evaluation: scalar means over the batch's samples.

        ``{"accuracy": …}`` here is reported as ``val_accuracy`` and can gate a promotion. A Job
        that defines ``scores`` need not define this.
        """
        if type(self).scores is Job.scores:
            return {}
        prepared = self.prepare(batch)
        positional, named = self.arguments(prepared)
        scores = self.scores(model(*positional, **named), prepared)
        return {n: s[0] / s[1] if isinstance(s, tuple) else s for n, s in scores.items()}

    def scores(
        self, outputs: Any, prepared: Batch
    ) -> Mapping[str, torch.Tensor | tuple[torch.Tensor, torch.Tensor]]:
        """The same figures from the model's outputs, computed once with the loss. Each is a
        mean over samples, or ``(total, weight)``."""
        return {}

    def huggingface_config(self) -> Mapping[str, Any]:
        """The ``config.json`` with which ``transformers`` loads the model's state dict as it is."""
        raise TypeError(f"{type(self).__name__} does not define huggingface_config()")

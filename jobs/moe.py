"""The language model of ``jobs/gpt.py`` with a mixture of experts in place of each MLP.

More parameters for the same work per byte: each token is computed by ``top_k`` of ``experts``
experts. The network is in ``jobs/mixture.py``; this file says what it costs and how it is split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.gpt import GPT, PAD, VOCAB
from orchestrator import Batch, Split, Transformer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from jobs.mixture import MixtureShape


class MoEGPT(GPT):
    """Predicts the next byte of a text with a mixture of experts.

    Takes what ``GPT`` takes, where ``ffn`` is the width of one expert, and:

    - ``experts``, ``top_k``: how many there are, and how many compute each token;
    - ``balance``: the weight of the sequence-wise balance loss (DeepSeek-V3, arXiv 2412.19437,
      equations 17–20), which is least, ``balance`` per layer, when all experts of a layer are
      chosen alike within each sequence;
    - ``capacity_factor``: an expert takes at most ``ceil(capacity_factor · seq_len · top_k /
      experts)`` tokens of each sequence, the first ones; the others go on without it. 0 drops
      none. It holds in training and evaluation, not for answers, which are written a token at a
      time.

    Both count all of a window, its padding too, and nothing beyond it; so the loss of a batch is
    the same however the batch is divided.
    """

    def __init__(
        self,
        experts: int = 8,
        top_k: int = 2,
        balance: float = 0.01,
        capacity_factor: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 1 <= top_k <= experts:
            raise ValueError(f"top_k={top_k} must be from 1 to experts={experts}")
        if capacity_factor < 0:
            raise ValueError(f"capacity_factor={capacity_factor} must be at least 0")
        if balance < 0:
            raise ValueError(f"balance={balance} must be at least 0")
        self.balance = balance
        self.mixture = {"experts": experts, "top_k": top_k, "capacity_factor": capacity_factor}

    def shape(self) -> MixtureShape:
        """The shape of the network."""
        from jobs.mixture import MixtureShape

        return MixtureShape(vocab=VOCAB, **self.sizes, **self.mixture)

    def transformer(self) -> Transformer:
        """The sizes of ``GPT`` with experts in place of each MLP, as wide as ``ffn``."""
        mixture = self.mixture
        return replace(super().transformer(), experts=mixture["experts"], topk=mixture["top_k"])

    def model(self) -> nn.Module:
        """A ``MixtureLlama`` of the Job's shape."""
        from jobs.mixture import MixtureLlama

        return MixtureLlama(self.shape())

    def prepare(self, batch: Batch) -> Batch:
        """As for ``GPT``, and how many tokens of each window are predicted, ``[batch]``."""
        prepared = super().prepare(batch)
        return {**prepared, "num_predicted": (prepared["targets"] != PAD).sum(1)}

    def criterion(self, outputs: tuple[Tensor, Tensor], prepared: Batch) -> tuple[Tensor, Tensor]:
        """Cross entropy in nats and the weighted balance loss, for each predicted token."""
        logits, _ = outputs
        total, weight = super().criterion(logits, prepared)
        return total + self.balance * _total_balance(outputs, prepared), weight

    def scores(
        self, outputs: tuple[Tensor, Tensor], prepared: Batch
    ) -> Mapping[str, tuple[Tensor, Tensor]]:
        """``accuracy``; ``balance``: the balance loss without its weight, 1 at best; ``dropped``:
        the share of the tokens' choices that found an expert full; ``load_max``: how many times
        its even share the most chosen expert of a layer has, within a window. The last ones are
        means over layers."""
        from jobs.mixture import DROPPED, LOAD

        logits, figures = outputs
        layers, top_k = self.sizes["layers"], self.mixture["top_k"]
        counted = (prepared["targets"] != PAD).sum(1)  # of this rank's piece of a window
        num_choices = logits.new_tensor(prepared["targets"].numel() * top_k * layers)
        predicted = counted.sum()
        return {
            **super().scores(logits, prepared),
            "balance": (_total_balance(outputs, prepared) / layers, predicted),
            "dropped": (figures[:, DROPPED].sum(), num_choices),
            "load_max": ((figures[:, LOAD] * counted).sum() / layers, predicted),
        }

    def split(self) -> Split:
        """As ``GPT``; experts are spread whole, or tensor ranks divide the features of each."""
        dense = super().split()
        mlp = "model.layers.*.mlp"
        tensor = {path: style for path, style in dense.tensor.items() if not path.startswith(mlp)}
        return replace(
            dense,
            tensor={**tensor, mlp: "moe"},
            experts=f"{mlp}.experts",
            divisible={**dense.divisible, "expert": {"experts": self.mixture["experts"]}},
        )

    def answer(self, model: nn.Module, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """As ``GPT``; no expert is ever too full for a token of an answer."""
        from jobs.mixture import MixtureLlama, Writer

        assert isinstance(model, MixtureLlama)
        return super().answer(Writer(model), requests)

    def huggingface_config(self) -> Mapping[str, Any]:
        """Raises ``TypeError``: no model of transformers has these names of parameters."""
        raise TypeError("MoEGPT cannot be exported: transformers has no model with these tensors")


def _total_balance(outputs: tuple[Tensor, Tensor], prepared: Batch) -> Tensor:
    """The balance losses of windows, summed over predicted tokens and layers.

    A rank that holds a piece of each window has a part of their balance losses, whose weight is
    therefore that of the whole window.
    """
    from jobs.mixture import BALANCE

    _, figures = outputs
    return (figures[:, BALANCE] * prepared["num_predicted"]).sum()

"""How may a model be cut? What a Job says about it, in names and numbers.

Knows neither torch nor the mesh: module paths are strings, and whether a degree of the mesh suits
the model is asked of its sizes alone, before anything is imported or started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

TensorStyle = Literal[
    "embedding",
    "sequence",
    "gather",
    "colwise",
    "rowwise",
    "colwise_gather",
    "moe",
]
"""What tensor parallelism does with a module. Between blocks each rank holds a piece of the
sequence (dimension 1 of the activations, Korthikanti et al. 2022), inside them all of it.

``embedding``: rows of the table are spread; the output is a piece of the sequence.
``sequence``: computes on a piece of the sequence, with all of its parameters (norms).
``gather``: the first argument is gathered along the sequence before the module runs.
``colwise``: a linear layer that holds some of its output features (q, k, v, gate, up).
``rowwise``: a linear layer that holds some of its input features; its output is summed and each
rank keeps a piece of the sequence (o, down).
``colwise_gather``: a linear layer from a piece of the sequence to all output features on every
rank (the head).
``moe``: a mixture of experts, whose router sees all of the sequence and whose experts hold some
of their hidden features each.
"""

Dimension = Literal["tensor", "pipeline", "context", "expert"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """How ``Job.model()`` may be cut. Whatever is left out cannot be split that way.

    Paths are those of ``model.named_modules()``; ``*`` stands for one component, so that
    ``"layers.*.mlp"`` means the ``mlp`` of every layer.
    """

    blocks: str = ""
    """The ``nn.ModuleList`` or ``nn.Sequential`` of layers. Each is gathered by itself
    (``shard``), recomputed by itself (``activation_checkpoint``), and stays whole in a pipeline.
    """
    num_blocks: int = 0
    """How many layers there are."""
    first: Sequence[str] = ()
    """Modules before the blocks; only the first pipeline stage has them. Elsewhere they hand
    their first argument on."""
    last: Sequence[str] = ()
    """Modules after the blocks; only the last pipeline stage has them."""
    tensor: Mapping[str, TensorStyle] = field(default_factory=dict)
    """What tensor parallelism does with which modules; the others compute alike everywhere."""
    experts: str = ""
    """Modules that hold experts: every parameter has one slice per expert along dimension 0, and
    ``forward(tokens, counts)`` takes tokens ``[n, width]`` sorted by expert and how many each
    expert gets, ``[num_experts]``; there may be none. For tensor parallelism the module's
    ``hidden_dims`` names the dimension of each parameter along which an expert's hidden features
    lie: ``{"up_proj": 1, "down_proj": 2}``."""
    sequence: Mapping[str, int] = field(default_factory=dict)
    """For each prepared tensor that has one, the dimension of the sequence; ``context`` cuts
    along it. Attention must be ``F.scaled_dot_product_attention`` with ``is_causal=True``."""
    divisible: Mapping[Dimension, Mapping[str, int]] = field(default_factory=dict)
    """Sizes of the model that the degree of a dimension must divide:
    ``{"tensor": {"heads": 32, "kv_heads": 8}, "expert": {"experts": 64}}``."""

"""A language model over bytes: how does text become a served Llama?

Text is taken as its UTF-8 bytes, so no tokenizer is needed. The network is in ``jobs/llama.py``,
the writing in ``jobs/generate.py``; this file is the Job, and all that the orchestrator sees.
torch is imported where it is used: data tasks only call ``samples`` and start faster without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator import Batch, Job, Row, Sample, Split, Transformer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from jobs.llama import Shape

BOS, EOS, PAD = 256, 257, 258
"""Start of a text, end of a text, and nothing: the tokens that are not a byte."""
VOCAB = 259


class GPT(Job):
    """Predicts the next byte of a text.

    Each text becomes ``BOS``, its bytes, ``EOS``, cut into windows of ``seq_len + 1`` tokens that
    share one token, so that every byte is predicted exactly once. The last window of a text is
    filled with ``PAD``, which counts for nothing: dropping it would lose the end of every file
    and all of the short ones. Windows therefore weigh differently, and ``criterion`` returns the
    sum and the number of predicted tokens, which keeps the average exact on any number of workers.
    """

    def __init__(
        self,
        layers: int = 4,
        hidden: int = 128,
        heads: int = 4,
        kv_heads: int = 2,
        ffn: int = 352,
        seq_len: int = 128,
        tie: bool = True,
        rope_theta: float = 10_000.0,
        norm_eps: float = 1e-5,
    ) -> None:
        if hidden % (2 * heads):
            raise ValueError(f"hidden={hidden} must be a multiple of 2·heads = {2 * heads}")
        if heads % kv_heads:
            raise ValueError(f"heads={heads} must be a multiple of kv_heads={kv_heads}")
        if seq_len < 2:
            raise ValueError(f"seq_len={seq_len} must be at least 2")
        self.seq_len = seq_len
        self.sizes = {
            "layers": layers,
            "hidden": hidden,
            "heads": heads,
            "kv_heads": kv_heads,
            "ffn": ffn,
            "tie": tie,
            "rope_theta": rope_theta,
            "norm_eps": norm_eps,
        }

    def shape(self) -> Shape:
        """The shape of the network."""
        from jobs.llama import Shape

        return Shape(vocab=VOCAB, **self.sizes)

    def samples(self, row: Row) -> Iterator[Sample]:
        """Windows ``{"tokens": uint16[seq_len + 1]}`` of the row's ``text``."""
        tokens = encode(row["text"])
        for start in range(0, len(tokens) - 1, self.seq_len):
            window = np.full(self.seq_len + 1, PAD, dtype=np.uint16)
            piece = tokens[start : start + self.seq_len + 1]
            window[: len(piece)] = piece
            yield {"tokens": window}

    def model(self) -> nn.Module:
        """A ``Llama`` of the Job's shape."""
        from jobs.llama import Llama

        return Llama(self.shape())

    def prepare(self, batch: Batch) -> Batch:
        """Inputs, the tokens that follow them, and positions, each ``[batch, seq_len]``."""
        import torch

        tokens = batch["tokens"].long()
        inputs = tokens[:, :-1]
        positions = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
        return {"inputs": inputs, "targets": tokens[:, 1:], "positions": positions}

    def arguments(self, prepared: Batch) -> tuple[tuple[Tensor, ...], Mapping[str, Tensor]]:
        """``Llama(inputs, positions=positions)``."""
        return (prepared["inputs"],), {"positions": prepared["positions"]}

    def criterion(self, outputs: Tensor, prepared: Batch) -> tuple[Tensor, Tensor]:
        """Cross entropy in nats, summed over predicted tokens, and how many there were."""
        from torch.nn import functional as F

        targets = prepared["targets"]
        logits = outputs.float().flatten(0, 1)
        total = F.cross_entropy(logits, targets.flatten(), ignore_index=PAD, reduction="sum")
        return total, (targets != PAD).sum()

    def scores(self, outputs: Tensor, prepared: Batch) -> Mapping[str, tuple[Tensor, Tensor]]:
        """``accuracy``: the share of next tokens guessed right."""
        counted = prepared["targets"] != PAD
        right = (outputs.argmax(-1) == prepared["targets"]) & counted
        return {"accuracy": (right.sum(), counted.sum())}

    def split(self) -> Split:
        """Layers are the unit of a pipeline; heads and hidden features are what tensor ranks
        divide; a sequence is cut with its targets."""
        layer = "model.layers.*"
        sizes = {name: self.sizes[name] for name in ("heads", "kv_heads", "ffn")}
        return Split(
            blocks="model.layers",
            num_blocks=self.sizes["layers"],
            first=("model.embed_tokens",),
            last=("model.norm", "lm_head"),
            tensor={
                "model.embed_tokens": "embedding",
                f"{layer}.input_layernorm": "sequence",
                f"{layer}.self_attn": "gather",
                f"{layer}.self_attn.q_proj": "colwise",
                f"{layer}.self_attn.k_proj": "colwise",
                f"{layer}.self_attn.v_proj": "colwise",
                f"{layer}.self_attn.o_proj": "rowwise",
                f"{layer}.post_attention_layernorm": "sequence",
                f"{layer}.mlp": "gather",
                f"{layer}.mlp.gate_proj": "colwise",
                f"{layer}.mlp.up_proj": "colwise",
                f"{layer}.mlp.down_proj": "rowwise",
                "model.norm": "sequence",
                "lm_head": "colwise_gather",
            },
            sequence={"inputs": 1, "targets": 1, "positions": 1},
            divisible={
                "tensor": {**sizes, "seq_len": self.seq_len},
                "context": {"seq_len": self.seq_len},
            },
        )

    def transformer(self) -> Transformer:
        """The sizes that decide what a step costs."""
        sizes = self.sizes
        return Transformer(
            layers=sizes["layers"],
            hidden=sizes["hidden"],
            heads=sizes["heads"],
            kv_heads=sizes["kv_heads"],
            ffn=sizes["ffn"],
            vocab=VOCAB,
            seq_len=self.seq_len,
            gated_ffn=True,
            tied=sizes["tie"],
        )

    def huggingface_config(self) -> Mapping[str, Any]:
        """The same network as ``LlamaForCausalLM``."""
        shape = self.shape()
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": shape.vocab,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.ffn,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "max_position_embeddings": self.seq_len,
            "rms_norm_eps": shape.norm_eps,
            "rope_theta": shape.rope_theta,
            "tie_word_embeddings": shape.tie,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
            "torch_dtype": "float32",
        }

    def answer(self, model: nn.Module, requests: Sequence[Any]) -> list[dict[str, Any]]:
        """Continue each ``{"prompt": str, "max_tokens"?, "temperature"?, "seed"?}``.

        Returns ``{"completion": str, "num_tokens": int, "finish": "stop" | "length"}`` each.
        Without a temperature the likeliest byte is taken; ``seed`` makes sampling repeatable.
        """
        from jobs.generate import generate, parse_request

        parsed = [parse_request(request) for request in requests]
        prompts = [encode(request.prompt)[:-1] for request in parsed]
        outputs = generate(model, prompts, parsed, window=self.seq_len, end=EOS, never=(BOS, PAD))
        return [
            {
                "completion": bytes(tokens).decode("utf-8", errors="replace"),
                "num_tokens": len(tokens),
                "finish": "length" if len(tokens) == request.max_tokens else "stop",
            }
            for request, tokens in zip(parsed, outputs, strict=True)
        ]


def encode(text: str) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """``BOS``, the UTF-8 bytes, ``EOS``. Lone surrogates are kept as their three bytes."""
    data = np.frombuffer(text.encode("utf-8", errors="surrogatepass"), dtype=np.uint8)
    return np.concatenate([[BOS], data, [EOS]]).astype(np.uint16)

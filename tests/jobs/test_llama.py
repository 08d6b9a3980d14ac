"""The decoder against a naive one, and its names against Hugging Face's."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jobs.llama import Attention, Llama, RMSNorm, Rotation, Shape

pytestmark = pytest.mark.unit

SHAPE = Shape(
    vocab=19, layers=2, hidden=24, heads=6, kv_heads=2, ffn=40,
    tie=False, rope_theta=10_000.0, norm_eps=1e-5
)  # fmt: skip


def naive_rotation(x: Tensor, theta: float) -> Tensor:
    """Each pair (i, i + half) turned as a complex number; ``[time, dim]``."""
    time, dim = x.shape
    half = dim // 2
    turned = torch.empty_like(x)
    for t in range(time):
        for i in range(half):
            angle = t * theta ** (-2 * i / dim)
            value = complex(x[t, i], x[t, i + half]) * complex(math.cos(angle), math.sin(angle))
            turned[t, i], turned[t, i + half] = value.real, value.imag
    return turned


def naive_attention(layer: Attention, x: Tensor, shape: Shape) -> Tensor:
    """One query head at a time, one position at a time; ``[time, hidden]``."""
    dim, shared = shape.head_dim, shape.heads // shape.kv_heads
    q, k, v = layer.q_proj(x), layer.k_proj(x), layer.v_proj(x)
    heads = []
    for head in range(shape.heads):
        group = head // shared
        mine = naive_rotation(q[:, head * dim : (head + 1) * dim], shape.rope_theta)
        keys = naive_rotation(k[:, group * dim : (group + 1) * dim], shape.rope_theta)
        values = v[:, group * dim : (group + 1) * dim]
        rows = []
        for t in range(len(x)):
            scores = keys[: t + 1] @ mine[t] / math.sqrt(dim)
            rows.append(scores.softmax(0) @ values[: t + 1])
        heads.append(torch.stack(rows))
    return layer.o_proj(torch.cat(heads, dim=1))


def test_rotation_is_that_of_complex_numbers() -> None:
    x = torch.randn(7, SHAPE.head_dim)
    turned = Rotation(SHAPE, torch.arange(7)[None])(x[None, None])
    torch.testing.assert_close(turned[0, 0], naive_rotation(x, SHAPE.rope_theta))


def test_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(1, 1, 1, SHAPE.head_dim), torch.randn(1, 1, 1, SHAPE.head_dim)

    def score(at_q: int, at_k: int) -> float:
        turned = [Rotation(SHAPE, torch.tensor([[at]]))(x) for at, x in ((at_q, q), (at_k, k))]
        return float((turned[0] * turned[1]).sum())

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-4)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_grouped_attention_is_that_of_single_heads(kv_heads: int) -> None:
    shape = replace(SHAPE, kv_heads=kv_heads)
    layer = Attention(shape)
    x = torch.randn(2, 5, shape.hidden)
    with torch.no_grad():
        out = layer(x, Rotation(shape, torch.arange(5)[None]), None, None)
        for row in range(2):
            torch.testing.assert_close(out[row], naive_attention(layer, x[row], shape))


def test_norm_divides_by_the_root_mean_square() -> None:
    norm = RMSNorm(4, eps=1e-5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    x = torch.tensor([3.0, -4.0, 12.0, 0.0])
    expected = x / math.sqrt((9 + 16 + 144) / 4 + 1e-5) * norm.weight
    torch.testing.assert_close(norm(x), expected)


def test_no_token_sees_those_after_it() -> None:
    model = Llama(SHAPE).eval()
    tokens = torch.randint(0, 19, (1, 9))
    changed = tokens.clone()
    changed[0, 5:] = (changed[0, 5:] + 1) % 19
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[0, :5], after[0, :5])
    assert not torch.allclose(before[0, 5:], after[0, 5:])


def test_names_and_shapes_are_those_of_hugging_face() -> None:
    """Written down by hand, for where ``transformers`` is not installed."""
    layer = {
        "input_layernorm.weight": (24,),
        "post_attention_layernorm.weight": (24,),
        "self_attn.q_proj.weight": (24, 24),
        "self_attn.k_proj.weight": (8, 24),
        "self_attn.v_proj.weight": (8, 24),
        "self_attn.o_proj.weight": (24, 24),
        "mlp.gate_proj.weight": (40, 24),
        "mlp.up_proj.weight": (40, 24),
        "mlp.down_proj.weight": (24, 40),
    }
    expected = {
        "model.embed_tokens.weight": (19, 24),
        "model.norm.weight": (24,),
        "lm_head.weight": (19, 24),
        **{f"model.layers.{i}.{name}": size for i in range(2) for name, size in layer.items()},
    }
    for tie in (False, True):
        model = Llama(replace(SHAPE, tie=tie))
        assert {name: tuple(v.shape) for name, v in model.state_dict().items()} == expected
        assert (model.lm_head.weight is model.model.embed_tokens.weight) is tie
        assert len(list(model.buffers())) == 0


@pytest.mark.parametrize("tie", [False, True])
def test_hugging_face_computes_the_same_logits(tie: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    shape = replace(SHAPE, tie=tie)
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, rope_theta=shape.rope_theta,
        rms_norm_eps=shape.norm_eps, tie_word_embeddings=tie
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    ours = Llama(shape).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())
    tokens = torch.randint(0, shape.vocab, (2, 11))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)

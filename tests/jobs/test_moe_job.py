"""A mixture of experts: where tokens go, what the balance of the load costs, who is dropped."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from jobs.gpt import GPT, PAD
from jobs.mixture import (
    BALANCE,
    DROPPED,
    LOAD,
    Mixture,
    MixtureLlama,
    MixtureShape,
    can_group,
    chosen_experts,
    grouped,
    one_by_one,
)
from jobs.moe import MoEGPT
from orchestrator.parallel.tensor import matching

pytestmark = pytest.mark.unit

OPTIONS = {"layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "ffn": 24, "seq_len": 16}


def job(**options: Any) -> MoEGPT:
    return MoEGPT(**{**OPTIONS, "experts": 4, "top_k": 2, **options})


def batch_of(num_windows: int, seed: int = 0) -> dict[str, Tensor]:
    """Random windows, of which the last half of the last one is padding."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 256, (num_windows, 17), generator=generator)
    tokens[-1, 9:] = PAD
    return {"tokens": tokens}


def mixture(num_experts: int, top_k: int, factor: float, seed: int = 0) -> Mixture:
    shape = MixtureShape(
        vocab=1, layers=1, hidden=8, heads=1, kv_heads=1, ffn=8, tie=False, rope_theta=1.0,
        norm_eps=0.0, experts=num_experts, top_k=top_k, capacity_factor=factor,
    )  # fmt: skip
    torch.manual_seed(seed)
    module = Mixture(shape)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@torch.no_grad()
def plainly(module: Mixture, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same token by token: results ``[batch, time, hidden]``, how many tokens each expert
    takes ``[batch, experts]``, and how many choices were dropped ``[batch]``."""
    shape, experts = module.shape, module.experts
    y = torch.zeros_like(x)
    loads = torch.zeros(x.shape[0], shape.experts)
    dropped = torch.zeros(x.shape[0])
    for b, sequence in enumerate(x):
        for t, token in enumerate(sequence):
            odds = (module.router.weight @ token).softmax(0)
            best = sorted(range(shape.experts), key=lambda e: -float(odds[e]))[: shape.top_k]
            for e in best:
                if loads[b, e] >= shape.capacity(len(sequence)):
                    dropped[b] += 1
                    continue
                loads[b, e] += 1
                inner = F.silu(experts.gate_proj[e] @ token) * (experts.up_proj[e] @ token)
                y[b, t] += odds[e] / odds[best].sum() * (experts.down_proj[e] @ inner)
    return y, loads, dropped


@given(
    num_experts=st.integers(1, 6),
    top_k=st.integers(1, 3),
    factor=st.sampled_from([0.0, 0.3, 1.0, 1.5]),
    length=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_tokens_are_computed_by_their_experts(
    num_experts: int, top_k: int, factor: float, length: int, seed: int
) -> None:
    """Against the same done token by token; no expert is above its capacity in a sequence."""
    top_k = min(top_k, num_experts)
    module = mixture(num_experts, top_k, factor, seed)
    x = torch.randn(2, length, 8)
    y, figures = module(x, True)
    expected, loads, dropped = plainly(module, x)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    assert figures[:, DROPPED].tolist() == dropped.tolist()
    assert loads.max() <= module.shape.capacity(length)
    assert (loads.sum(1) + dropped).tolist() == [length * top_k] * 2  # kept + dropped = all
    if factor == 0:
        assert dropped.sum() == 0


@given(
    num_experts=st.integers(1, 8), top_k=st.integers(1, 8), length=st.integers(1, 9),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None)
def test_each_token_has_top_k_different_experts(
    num_experts: int, top_k: int, length: int, seed: int
) -> None:
    top_k = min(top_k, num_experts)
    module = mixture(num_experts, top_k, 0.0, seed)
    chosen = module.router(torch.randn(3, length, 8)).topk(top_k).indices
    marks = chosen_experts(chosen, num_experts)
    assert marks.sum(-1).unique().tolist() == [top_k]
    assert marks.max() == 1


@pytest.mark.parametrize(
    ("factor", "length", "capacity"), [(1.0, 16, 8), (1.25, 16, 10), (0.3, 7, 2), (0.0, 16, 16)]
)
def test_capacity(factor: float, length: int, capacity: int) -> None:
    assert mixture(4, 2, factor).shape.capacity(length) == capacity


def test_the_tokens_that_come_later_are_dropped() -> None:
    """All tokens alike want the same two experts, which take the first ones."""
    module = mixture(4, 2, 1.0)
    x = torch.randn(1, 1, 8).expand(2, 16, 8)
    y, figures = module(x, True)
    assert figures[:, DROPPED].tolist() == [16.0, 16.0]
    assert y[:, :8].abs().amin(1).amax() > 0
    assert (y[:, 8:] == 0).all()
    assert (module(x, False)[0][:, 8:] == y[:, :1]).all()


def test_the_balance_loss_is_that_of_the_paper() -> None:
    """DeepSeek-V3, equations 17–20, in loops."""
    module = mixture(4, 2, 0.0)
    x = torch.randn(3, 10, 8)
    _, figures = module(x, True)
    odds = module.router(x)
    for b in range(3):
        total = 0.0
        for e in range(4):
            chosen = sum(e in odds[b, t].topk(2).indices.tolist() for t in range(10))
            f = 4 / (2 * 10) * chosen
            total += f * float(odds[b, :, e].detach().sum()) / 10
        assert float(figures[b, BALANCE].detach()) == pytest.approx(total, rel=1e-5)


def test_the_least_balance_is_one_per_layer() -> None:
    module = mixture(4, 1, 0.0)
    with torch.no_grad():
        module.router.weight.copy_(torch.eye(4, 8) * 1e-3)
    x = torch.eye(4, 8)[None].repeat(1, 5, 1)  # each expert is the choice of five tokens
    _, figures = module(x, True)
    assert float(figures[0, BALANCE]) == pytest.approx(1.0)
    assert float(figures[0, LOAD]) == pytest.approx(1.0)
    _, skewed = module(x[:, :1].expand(1, 20, 8), True)
    assert float(skewed[0, LOAD]) == pytest.approx(4.0)
    assert skewed[0, BALANCE] > figures[0, BALANCE]


@pytest.mark.parametrize("parts", [(1, 3), (2, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("factor", [0.0, 0.75])
def test_the_loss_does_not_depend_on_how_a_batch_is_divided(
    parts: tuple[int, ...], factor: float
) -> None:
    moe = job(capacity_factor=factor, balance=0.5)
    torch.manual_seed(0)
    model = moe.model()
    whole = batch_of(4)
    total, weight = moe.loss(model, whole)
    total.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    losses = [moe.loss(model, {"tokens": t}) for t in whole["tokens"].split(parts)]
    sum(t for t, _ in losses).backward()
    assert sum(int(w) for _, w in losses) == int(weight)
    assert sum(float(t.detach()) for t, _ in losses) == pytest.approx(float(total.detach()), 1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4)


def test_the_balance_loss_is_part_of_the_loss() -> None:
    model = job().model()
    batch = batch_of(3)
    without, weight = job(balance=0.0).loss(model, batch)
    with_it, _ = job(balance=0.5).loss(model, batch)
    scores = scores_of(job(), model, batch)
    assert scores["balance"] >= 0.99  # of a layer
    per_token = float((with_it - without).detach()) / int(weight)
    assert per_token == pytest.approx(0.5 * 2 * scores["balance"], rel=1e-4)


def scores_of(moe: MoEGPT, model: Any, batch: dict[str, Tensor]) -> dict[str, float]:
    prepared = moe.prepare(batch)
    positional, named = moe.arguments(prepared)
    with torch.no_grad():
        scores = moe.scores(model(*positional, **named), prepared)
    return {name: float(total) / float(weight) for name, (total, weight) in scores.items()}


def test_scores() -> None:
    torch.manual_seed(0)
    model = job().model()
    scores = scores_of(job(), model, batch_of(3))
    assert scores.keys() == {"accuracy", "balance", "dropped", "load_max"}
    assert scores["dropped"] == 0
    assert 1 <= scores["load_max"] <= 2  # at most every token: 4 experts / 2 of them each
    capped = job(capacity_factor=0.5)
    capped_model = capped.model()
    capped_model.load_state_dict(model.state_dict())
    # Half an even share each: at least half of the choices find no room.
    assert 0.5 <= scores_of(capped, capped_model, batch_of(3))["dropped"] < 1


def test_answers_do_not_depend_on_the_capacity() -> None:
    torch.manual_seed(0)
    model = job().model().eval()
    capped = job(capacity_factor=0.25)
    capped_model = capped.model().eval()
    capped_model.load_state_dict(model.state_dict())
    requests = [{"prompt": "import os", "max_tokens": 5}, {"prompt": "x", "max_tokens": 3}]
    with torch.inference_mode():
        answers = job().answer(model, requests)
        assert capped.answer(capped_model, requests) == answers
        alone = [job().answer(model, [request])[0] for request in requests]
    assert alone == answers
    assert [answer["num_tokens"] for answer in answers] == [5, 3]


def test_with_a_cache_a_text_is_predicted_as_without() -> None:
    from jobs.llama import LayerCache

    torch.manual_seed(0)
    moe = job()
    model = moe.model().eval()
    assert isinstance(model, MixtureLlama)
    tokens = batch_of(2)["tokens"][:, :12]
    shape = moe.shape()
    with torch.no_grad():
        whole, _ = model(tokens)
        caches = [LayerCache(2, 12, shape, whole) for _ in range(shape.layers)]
        for start, end in ((0, 7), (7, 8), (8, 12)):
            mask = torch.arange(end)[None] <= torch.arange(start, end)[:, None]
            positions = torch.arange(start, end)[None]
            logits, _ = model(tokens[:, start:end], None, positions, mask[None, None], caches)
            torch.testing.assert_close(logits, whole[:, start:end], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [[5, 0, 12, 3], [0, 0, 20, 0]])
def test_one_kernel_for_all_experts_computes_the_same(
    dtype: torch.dtype, counts: list[int]
) -> None:
    if not hasattr(F, "grouped_mm"):
        pytest.skip("this torch has no grouped_mm")
    tokens = torch.randn(20, 16).to(dtype).requires_grad_()
    matrices = torch.randn(4, 8, 16, requires_grad=True)
    numbers, weight = torch.tensor(counts), torch.randn(20, 8).to(dtype)
    found = []
    for multiply in (one_by_one, grouped):
        tokens.grad = matrices.grad = None
        given = matrices.to(dtype) if multiply is one_by_one else matrices
        out = multiply(tokens, given, numbers)
        (out * weight).sum().backward()
        assert tokens.grad is not None
        assert matrices.grad is not None
        found.append((out.detach(), tokens.grad.clone(), matrices.grad.clone()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert not can_group(tokens)  # on a CPU the loop is as fast


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"top_k": 5}, r"top_k=5 must be from 1 to experts=4"),
        ({"top_k": 0}, r"top_k=0 must be"),
        ({"capacity_factor": -1.0}, r"capacity_factor=-1.0 must be at least 0"),
        ({"balance": -0.1}, r"balance=-0.1 must be at least 0"),
        ({"heads": 5}, r"hidden=32 must be a multiple"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        job(**options)


def test_the_split_describes_the_model() -> None:
    split = job().split()
    model = job().model()
    for pattern in (*split.tensor, split.experts, *split.first, *split.last):
        assert matching(model, pattern)
    assert split.tensor["model.layers.*.mlp"] == "moe"
    assert split.divisible["expert"] == {"experts": 4}
    assert not any("gate_proj" in path for path in split.tensor)
    experts = [module for _, module in matching(model, split.experts)]
    assert len(experts) == 2
    for module in experts:
        assert {p.shape[0] for p in module.parameters()} == {4}
        assert {name for name, _ in module.named_parameters()} == set(module.hidden_dims)


def test_more_parameters_for_the_same_work() -> None:
    """One expert of two takes what a GPT of its width takes; attention is the same."""
    moe, dense = job(experts=1, top_k=1), GPT(**OPTIONS)
    torch.manual_seed(0)
    mixed, plain = moe.model(), dense.model()
    state = mixed.state_dict()
    for name, parameter in plain.state_dict().items():
        layer, found, matrix = name.partition(".mlp.")
        source = f"{layer}.mlp.experts.{matrix.removesuffix('.weight')}" if found else name
        parameter.copy_(state[source].reshape(parameter.shape))
    tokens = batch_of(2)["tokens"][:, :-1]
    torch.testing.assert_close(mixed(tokens)[0], plain(tokens), rtol=1e-4, atol=1e-5)
    count = sum(p.numel() for p in plain.parameters())
    assert math.isclose(sum(p.numel() for p in mixed.parameters()), count + 2 * 32)


def test_it_cannot_be_exported() -> None:
    with pytest.raises(TypeError, match="transformers has no model"):
        job().huggingface_config()

"""Text in, text out: windows, loss, generation with and without a cache, bad requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from jobs.generate import Request, generate
from jobs.gpt import BOS, EOS, GPT, PAD, VOCAB, encode

pytestmark = pytest.mark.unit

JOB = GPT(layers=2, hidden=32, heads=4, kv_heads=2, ffn=48, seq_len=12)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Untrained, but with weights large enough for its choices to be clear."""
    torch.manual_seed(0)
    built = JOB.model().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return built


def windows(text: str) -> np.ndarray[Any, Any]:
    samples = list(JOB.samples({"path": "x", "text": text}))
    return np.stack([sample["tokens"] for sample in samples])


@given(st.text(max_size=60))
@settings(deadline=None)
def test_every_byte_is_predicted_once(text: str) -> None:
    cut = windows(text)
    assert cut.dtype == np.uint16
    assert cut.shape[1] == 13
    predicted = cut[:, 1:].reshape(-1)
    assert predicted[predicted != PAD].tolist() == [*text.encode(), EOS]
    assert cut[0, 0] == BOS
    assert (cut[1:, 0] == cut[:-1, -1]).all()


def test_padding_counts_for_nothing(model: nn.Module) -> None:
    cut = torch.from_numpy(windows("a text of three windows, nearly"))
    total, weight = JOB.loss(model, {"tokens": cut})
    assert int(weight) == len("a text of three windows, nearly") + 1
    expected = 0.0
    for window in cut.long():
        length = int((window != PAD).sum())
        logits = model(window[None, : length - 1])[0]
        expected += float(F.cross_entropy(logits, window[1:length], reduction="sum").detach())
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)


def test_accuracy_is_the_share_of_bytes_guessed_right() -> None:
    class Knows(nn.Module):
        def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
            return F.one_hot(torch.full_like(tokens, ord("a")), VOCAB).float()

    cut = torch.from_numpy(np.stack([windows("aabbaabbaab")[0], windows("aaa")[0]]))
    accuracy = JOB.metrics(Knows(), {"tokens": cut})["accuracy"]
    assert float(accuracy) == pytest.approx((6 + 3) / (12 + 4))


def without_cache(model: nn.Module, prompt: Sequence[int], request: Request) -> list[int]:
    """The whole text anew for each token, with the window as a mask."""
    tokens = [int(token) for token in prompt]
    while len(tokens) < len(prompt) + request.max_tokens:
        distance = torch.arange(len(tokens))[:, None] - torch.arange(len(tokens))[None]
        mask = ((distance >= 0) & (distance < JOB.seq_len))[None, None]
        logits = model(torch.tensor([tokens]), mask=mask)[0, -1]
        logits[[BOS, PAD]] = float("-inf")
        choice = int(logits.argmax())
        if choice == EOS:
            break
        tokens.append(choice)
    return tokens[len(prompt) :]


@torch.inference_mode()
def test_a_cached_batch_writes_what_each_prompt_writes_alone(model: nn.Module) -> None:
    """Prompts of several lengths, also longer than the window, and of several limits."""
    texts = ["", "def ", "import os\n\nimport sys", "é"]
    requests = [Request(text, max_tokens=20 - 3 * i) for i, text in enumerate(texts)]
    prompts = [encode(text)[:-1] for text in texts]
    together = generate(model, prompts, requests, window=12, end=EOS, never=(BOS, PAD))
    for prompt, request, written in zip(prompts, requests, together, strict=True):
        assert written == without_cache(model, prompt, request)
        assert len(written) <= request.max_tokens
    assert len({tuple(written) for written in together}) > 1


@torch.inference_mode()
def test_mask_of_a_short_text_is_the_causal_one(model: nn.Module) -> None:
    tokens = torch.randint(0, 256, (1, 10))
    mask = torch.ones(10, 10, dtype=torch.bool).tril()[None, None]
    torch.testing.assert_close(model(tokens, mask=mask), model(tokens))


class Script(nn.Module):
    """Writes a text, then ends, whatever the prompt."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.script = [*text, EOS]
        self.model = JOB.model().model
        self.calls = 0

    def forward(self, tokens: Tensor, *_: Any) -> Tensor:
        logits = torch.zeros(*tokens.shape, VOCAB)
        logits[..., self.script[self.calls]] = 1.0
        logits[..., [BOS, PAD]] = 2.0
        self.calls += 1
        return logits


@torch.inference_mode()
def test_an_answer_says_why_it_ended() -> None:
    answers = JOB.answer(
        Script("né".encode()), [{"prompt": "x", "max_tokens": 9}, {"prompt": "", "max_tokens": 2}]
    )
    assert answers == [
        {"completion": "né", "num_tokens": 3, "finish": "stop"},
        {"completion": "n\ufffd", "num_tokens": 2, "finish": "length"},
    ]


@torch.inference_mode()
def test_a_seed_makes_sampling_repeatable(model: nn.Module) -> None:
    def ask(**more: Any) -> str:
        request = {"prompt": "a", "max_tokens": 24, "temperature": 1.5, **more}
        return str(JOB.answer(model, [{"prompt": "other"}, request])[1]["completion"])

    assert ask(seed=1) == ask(seed=1)
    assert len({ask(seed=seed) for seed in range(4)}) > 1
    assert len({ask() for _ in range(4)}) > 1
    cold = ask(temperature=1e-9, seed=3)
    assert cold == ask(temperature=0)


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        ("text", "expected an object"),
        ({}, "prompt must be a string"),
        ({"prompt": 3}, "prompt must be a string"),
        ({"prompt": "x" * 4097}, "4097 bytes; at most 4096"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens must be"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens must be"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens must be"),
        ({"prompt": "x", "max_tokens": 1025}, "max_tokens must be"),
        ({"prompt": "x", "temperature": -1}, "temperature must be"),
        ({"prompt": "x", "temperature": float("nan")}, "temperature must be"),
        ({"prompt": "x", "temperature": "hot"}, "temperature must be"),
        ({"prompt": "x", "seed": -1}, "seed must be"),
        ({"prompt": "x", "sed": 1}, r"unknown fields \['sed'\]"),
    ],
)
def test_a_bad_request_is_named(model: nn.Module, request_body: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JOB.answer(model, [{"prompt": "fine"}, request_body])


def test_no_requests_no_answers(model: nn.Module) -> None:
    assert JOB.answer(model, []) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 30, "heads": 4}, "hidden=30 must be a multiple of 2·heads = 8"),
        ({"heads": 4, "kv_heads": 3}, "heads=4 must be a multiple of kv_heads=3"),
        ({"seq_len": 1}, "seq_len=1 must be at least 2"),
    ],
)
def test_bad_options_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPT(**options)


def test_cutting_text_needs_no_torch() -> None:
    """Importing it would cost every data task seconds."""
    code = (
        "import sys; from jobs.gpt import GPT; list(GPT().samples({'text': 'x'})); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=60)
    assert done.returncode == 0

"""Writing with a decoder: given prompts, which tokens follow?

Prompts of different lengths are answered in one batch: they are padded on the left, and each
step computes one token per prompt against cached keys and values. A token looks back at most
``window`` tokens, the length that the model was trained with; rotary positions are relative, so
a text may be longer than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jobs.llama import LayerCache, Shape

MAX_PROMPT_BYTES = 4096
MAX_TOKENS = 1024


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    prompt: str
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int | None = None


def parse_request(body: Any) -> Request:
    """A request from its JSON body. Raises ``ValueError`` saying what is wrong with it."""
    if not isinstance(body, Mapping):
        raise ValueError('expected an object such as {"prompt": "import os"}')
    unknown = set(body) - {"prompt", "max_tokens", "temperature", "seed"}
    if unknown:
        raise ValueError(
            f"unknown fields {sorted(unknown)}; known are prompt, max_tokens, temperature, seed"
        )
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise ValueError("prompt must be a string")
    num_bytes = len(prompt.encode("utf-8", errors="surrogatepass"))
    if num_bytes > MAX_PROMPT_BYTES:
        raise ValueError(f"prompt has {num_bytes} bytes; at most {MAX_PROMPT_BYTES} are taken")
    max_tokens = body.get("max_tokens", 64)
    if type(max_tokens) is not int or not 1 <= max_tokens <= MAX_TOKENS:
        raise ValueError(f"max_tokens must be a whole number from 1 to {MAX_TOKENS}")
    temperature = body.get("temperature", 0.0)
    if type(temperature) not in (int, float) or not 0 <= temperature <= 100:
        raise ValueError("temperature must be a number from 0 (the likeliest token) to 100")
    seed = body.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise ValueError("seed must be a whole number from 0 to 2**63 - 1")
    return Request(prompt, max_tokens, float(temperature), seed)


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    requests: Sequence[Request],
    *,
    window: int,
    end: int,
    never: Sequence[int] = (),
) -> list[list[int]]:
    """The tokens that follow each prompt, up to its ``max_tokens`` or the token ``end``.

    ``prompts`` are token ids, none empty; tokens in ``never`` are not produced. A request's
    outcome does not depend on the others in the batch, up to floating-point rounding.
    """
    if not prompts:
        return []
    weight = next(model.parameters())
    tokens, starts = _pad_left(prompts, weight.device)
    longest, limit = tokens.shape[1], max(request.max_tokens for request in requests)
    shape: Shape = model.model.shape
    caches = [LayerCache(len(prompts), longest + limit, shape, weight) for _ in range(shape.layers)]
    choose = _Chooser(requests, never, weight.device)
    outputs: list[list[int]] = [[] for _ in prompts]
    alive = set(range(len(prompts)))
    seen = 0
    while alive:
        index = torch.arange(seen, seen + tokens.shape[1], device=weight.device)
        seen += tokens.shape[1]
        positions = (index[None] - starts[:, None]).clamp(min=0)
        logits = model(tokens, positions, _visible(index, seen, starts, window), caches)
        chosen = choose(logits[:, -1].float(), alive)
        for row in sorted(alive):
            if chosen[row] == end:
                alive.discard(row)
                continue
            outputs[row].append(chosen[row])
            if len(outputs[row]) == requests[row].max_tokens:
                alive.discard(row)
        tokens = torch.tensor(chosen, device=weight.device)[:, None]
    return outputs


def _pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens ``[batch, longest]``, each prompt at the right edge, and where each begins."""
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.tensor([int(token) for token in prompt])
    starts = torch.tensor([longest - len(prompt) for prompt in prompts])
    return tokens.to(device), starts.to(device)


def _visible(queries: Tensor, num_keys: int, starts: Tensor, window: int) -> Tensor:
    """Who may look at whom: ``[batch, 1, queries, keys]``, true for yes.

    A query sees itself and the ``window - 1`` tokens before it, but no padding. Padding sees
    itself, so that no row is empty.
    """
    keys = torch.arange(num_keys, device=queries.device)
    distance = queries[:, None] - keys[None]
    near = (distance >= 0) & (distance < window)
    real = keys[None, None] >= starts[:, None, None]
    return (near & real | (distance == 0))[:, None]


class _Chooser:
    """Picks one token per row: the likeliest, or one drawn at the request's temperature."""

    def __init__(
        self, requests: Sequence[Request], never: Sequence[int], device: torch.device
    ) -> None:
        self.requests = requests
        self.never = torch.tensor(list(never), dtype=torch.long, device=device)
        self.generators = {
            row: _generator(request.seed)
            for row, request in enumerate(requests)
            if request.temperature > 0
        }

    def __call__(self, logits: Tensor, alive: set[int]) -> list[int]:
        """Logits ``[batch, vocab]`` → one token id per row."""
        logits = logits.index_fill(1, self.never, float("-inf"))
        chosen: list[int] = logits.argmax(-1).tolist()
        for row in self.generators.keys() & alive:
            scores = (logits[row] - logits[row].max()).cpu()  # so that no temperature overflows
            odds = torch.softmax(scores / self.requests[row].temperature, dim=-1)
            chosen[row] = int(torch.multinomial(odds, 1, generator=self.generators[row]))
        return chosen


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator

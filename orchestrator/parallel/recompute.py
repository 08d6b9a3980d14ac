"""What does the backward pass compute again instead of keeping?

Activation checkpointing (Chen et al. 2016) of each block. Changes memory and time, not results.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

_EXPENSIVE = frozenset(
    {
        torch.ops.aten.mm.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.bmm.default,
        torch.ops.aten._scaled_dot_product_flash_attention.default,
        torch.ops.aten._scaled_dot_product_efficient_attention.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
        torch.ops._c10d_functional.reduce_scatter_tensor.default,
        torch.ops._c10d_functional.all_to_all_single.default,
    }
)
"""Results that are kept with ``selective``: matrix products, attention, and what crossed wires."""


def recompute(blocks: Iterable[nn.Module], mode: Literal["none", "selective", "full"]) -> None:
    """Have each block's activations computed again in the backward pass, in place.

    The block's own ``forward`` is replaced, so that names of parameters stay as they are.
    """
    if mode == "none":
        return
    for block in blocks:
        block.forward = partial(_recomputed, block.forward, mode == "selective")


def _recomputed(forward: Any, selective: bool, *arguments: Any, **named: Any) -> Any:
    extra: dict[str, Any] = {"context_fn": _contexts} if selective else {}
    return checkpoint(forward, *arguments, use_reentrant=False, **extra, **named)


def _contexts() -> Any:
    modes = create_selective_checkpoint_contexts(_policy)  # type: ignore[no-untyped-call]
    for mode in modes:
        mode.__class__ = _blind_to_the_rest(type(mode))  # type: ignore[arg-type]
    return modes


@functools.cache
def _blind_to_the_rest(kind: Any) -> Any:
    """``kind``, which keeps no books of operations that are computed again.

    Torch wants all of them to be the same again. But experts within a block are sharded by
    themselves, and what gathering them takes depends on whether they still lie there.
    """

    class Blind(kind):  # type: ignore[misc]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func not in _EXPENSIVE:
                return func(*args, **(kwargs or {}))
            return super().__torch_dispatch__(func, types, args, kwargs)

    return Blind


def _policy(_context: Any, operation: Any, *_arguments: Any, **_named: Any) -> CheckpointPolicy:
    if operation in _EXPENSIVE:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE

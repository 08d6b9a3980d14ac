"""How long do the forward and the backward pass of a layer and of the output take?

Times of one micro-batch on one rank. A pass takes the longer of what the device does and what
the host needs to launch it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.planner.cost import constants as c
from orchestrator.planner.cost.case import BYTES_PER_ELEMENT, Case
from orchestrator.planner.cost.device import Device, SplitHost
from orchestrator.planner.cost.layer import LayerWork, layer_work
from orchestrator.planner.cost.matmul import Product, product_seconds


@dataclass(frozen=True, slots=True)
class Passes:
    """Seconds of one micro-batch on the device: forward, backward, and what is computed again.

    ``products``, ``attention`` and ``streaming`` split the device's time by operator class,
    all passes together; ``host`` is what the host needs to launch one whole pass, of which
    there are ``launches``.
    """

    forward: float
    backward: float
    again: float
    products: float
    attention: float
    streaming: float
    host: float
    launches: int

    def busy(self, shown: float = 0.0) -> float:
        """Seconds of all passes with ``shown`` seconds of communication among the kernels.

        Each pass takes the longer of the device, transfers included, and the host.
        """
        each = shown / self.launches
        seconds = max(self.host, self.forward + each) + max(self.host, self.backward + each)
        if self.launches == 3:
            return seconds + max(self.host, self.again + each)
        return seconds + self.again

    @property
    def forward_seconds(self) -> float:
        """Forward, launches included."""
        return max(self.host, self.forward)

    @property
    def backward_seconds(self) -> float:
        """Backward and what is computed again before it, launches included."""
        return max(self.host, self.backward) + (
            max(self.host, self.again) if self.launches == 3 else self.again
        )


def layer_passes(case: Case) -> Passes:
    """One layer."""
    work = layer_work(case)
    products = _products(case, work.products)
    attention, attention_back = _attention_seconds(case, work)
    streamed = _stream(case, work.streamed_bytes)
    forward = products[0] + attention + streamed
    # Elementwise kernels of the backward pass read the gradient beside what they saved.
    backward = products[1] + attention_back + 2 * streamed
    again, share = _recomputed(case, forward, attention)
    found = Passes(
        forward,
        backward,
        again,
        products[0] * (1 + share) + products[1],
        attention * (2 if again else 1) + attention_back,
        streamed * (3 + share),
        _host_seconds(case, work) + _around_seconds(case) / (2 + share),
        2 + share,
    )
    return _as_run(found, case.cluster.device)


def _as_run(found: Passes, device: Device) -> Passes:
    """The passes as real runs take them: a processor computes no operation before it has launched
    it, and ``refit`` says what runs took over what was predicted."""
    if device.kind == "cpu":
        found = replace(
            found,
            forward=found.forward + found.host,
            backward=found.backward + found.host,
            again=found.again + (found.host if found.launches == 3 else 0.0),
            host=0.0,
        )
    factor = device.refit.computation
    if factor == 1.0:
        return found
    names = ("forward", "backward", "again", "products", "attention", "streaming", "host")
    return replace(found, **{name: getattr(found, name) * factor for name in names})


def _recomputed(case: Case, forward: float, attention: float) -> tuple[float, int]:
    if case.work.recompute == "full":
        return forward, 1
    if case.work.recompute == "selective":
        return attention, 0
    return 0.0, 0


def _products(case: Case, products: tuple[Product, ...]) -> tuple[float, float]:
    """Seconds forward and backward of products with weights.

    In fp8 the input is cast before the forward product and the gradient before the backward
    ones; weights are cast once for all micro-batches of a step, which is not counted.
    """
    work, device = case.work, case.cluster.device
    width = BYTES_PER_ELEMENT[work.precision]
    forward = backward = 0.0
    for product in products:
        forward += product_seconds(product, device, work.precision, width)
        for part in product.backward:
            backward += product_seconds(part, device, work.precision, width)
        if work.precision == "fp8":
            elements = product.copies * product.rows
            forward += _seconds_of_bytes(case, c.FP8_CAST_BYTES * elements * product.inner)
            backward += _seconds_of_bytes(case, c.FP8_CAST_BYTES * elements * product.columns)
    return forward, backward


def _attention_seconds(case: Case, work: LayerWork) -> tuple[float, float]:
    """Seconds of the attention core, forward and backward."""
    device = case.cluster.device
    # Attention stays in 16 bits where products run in 8.
    precision = "bf16" if case.work.precision == "fp8" else case.work.precision
    if case.work.attention == "flash":
        peak = device.peak(precision) * head_efficiency(case.shape.head_size)
        # Five products instead of two: the scores are computed again (Dao 2022, section 3.1).
        forward = work.flash_flops / (peak * device.flash.forward)
        return forward, 2.5 * work.flash_flops / (peak * device.flash.backward)
    width = BYTES_PER_ELEMENT[precision]
    forward = backward = 0.0
    for product in work.score_products:
        forward += product_seconds(product, device, precision, width)
        backward += sum(
            product_seconds(part, device, precision, width) for part in product.backward
        )
    # Dropout and softmax read a gradient and a saved matrix and write one: 5.5 passes for 4.5.
    scores = _seconds_of_bytes(case, work.score_bytes)
    return forward + scores, backward + scores * 5.5 / 4.5


HEAD_HALF = 32
"""Head size at which fused attention loses half of its speed to everything but products."""


def head_efficiency(head_size: int) -> float:
    """Fused attention at a head size, relative to 128: d/(d + 32), so 0.83 at 64 (Dao 2023,
    figures 4 to 6: about 0.85)."""
    return min(1.0, head_size / (head_size + HEAD_HALF) * (128 + HEAD_HALF) / 128)


def _stream(case: Case, size: float) -> float:
    share = c.COMPILED_MEMORY_SHARE if case.work.compiled else 1.0
    return _seconds_of_bytes(case, size * share)


def _seconds_of_bytes(case: Case, size: float) -> float:
    return size / case.cluster.device.streaming_rate


def _host_seconds(case: Case, work: LayerWork) -> float:
    operations = c.HOST_OPERATIONS_DENSE
    if case.shape.experts:
        operations += c.HOST_OPERATIONS_EXPERTS
    operations += work.collectives * c.HOST_OPERATIONS_COLLECTIVE
    share = c.COMPILED_HOST_SHARE if case.work.compiled else 1.0
    return operations * case.cluster.device.host_seconds_per_operation * share


def _around_seconds(case: Case) -> float:
    """What splitting and recomputing a layer take of the host beyond its operations."""
    found: SplitHost = getattr(case.cluster.device.layer_host, case.work.recompute)
    seconds = found.alone
    if case.degrees.tp > 1:
        seconds += found.tensor
    if case.work.sharding == "full" and case.degrees.shard_group > 1:
        seconds += found.shard
    return seconds


LOGIT_PASSES = (38, 14)
"""Bytes read and written for each logit by the loss. Forward: conversion to fp32 (6), maximum
(4), its subtraction (8), exponential (8), sum (4) and normalisation (8); backward: scaling of the
gradient (8) and conversion (6). Counted over the kernels of a vocabulary-parallel loss."""


def output_passes(case: Case) -> Passes:
    """The output table and the loss, on the rank that holds the last layer."""
    shape, work, degrees = case.shape, case.work, case.degrees
    tokens = case.rank_tokens
    columns = -(-shape.vocab // degrees.tp)
    precision = "bf16" if work.precision == "fp8" else work.precision
    device, width = case.cluster.device, BYTES_PER_ELEMENT[work.precision]
    product = Product(tokens, columns, shape.hidden)
    forward = product_seconds(product, device, precision, width)
    backward = sum(product_seconds(p, device, precision, width) for p in product.backward)
    share = c.COMPILED_MEMORY_SHARE if work.compiled else 1.0
    logits = tokens * columns * share
    loss = [_seconds_of_bytes(case, logits * passes) for passes in LOGIT_PASSES]
    found = Passes(
        forward + loss[0], backward + loss[1], 0.0, forward + backward, 0.0, sum(loss), 0.0, 2
    )
    return _as_run(found, device)

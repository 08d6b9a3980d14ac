"""How many bytes of activations does one rank keep between forward and backward?

Korthikanti et al. 2022 (arXiv 2205.05198), equations 1 to 6, generalised to gated blocks,
grouped queries, experts and context parallelism: for a GPT layer without sequence
parallelism it gives their s·b·h·(10 + 24/t + 5·a·s/(h·t)).
"""

from __future__ import annotations

from orchestrator.planner.cost.case import BYTES_PER_ELEMENT, Case
from orchestrator.planner.cost.parameters import Stage

LOGIT_BYTES = 4
"""Bytes held for each logit at the loss: its fp32 copy, in which softmax and gradient are computed
in place (Megatron's vocabulary-parallel loss). Fused losses hold 2, plain PyTorch up to 14."""


def layer_activation_bytes(case: Case) -> float:
    """Bytes that one layer keeps for one micro-batch, before recomputation drops any."""
    return _outside(case) + _inside(case) + _scores(case)


def kept_layer_bytes(case: Case) -> float:
    """The same with ``recompute`` applied: everything, all but the scores, or the input."""
    if case.work.recompute == "full":
        return _split(case, 2.0 * case.rank_tokens * case.shape.hidden * _scale(case))
    if case.work.recompute == "selective":
        return _outside(case) + _inside(case)
    return layer_activation_bytes(case)


def _scale(case: Case) -> float:
    """Widths below are bytes at 16 bits."""
    return BYTES_PER_ELEMENT[case.work.precision] / 2


def _split(case: Case, size: float) -> float:
    return size / case.degrees.tp if case.work.sequence_parallel else size


def _outside(case: Case) -> float:
    """Norm inputs, inputs of the first products, dropout masks: repeated by tensor ranks."""
    masks = 0.0 if case.shape.gated_ffn else 2.0
    width = (8.0 * _scale(case) + masks) * case.shape.hidden
    return _split(case, case.rank_tokens * width)


def _inside(case: Case) -> float:
    """Query, key, value, attention output and the feed-forward block: split by tensor ranks."""
    shape = case.shape
    attention = 4.0 * shape.query_width + 4.0 * shape.kv_width
    kept = 2 * _kept_ffn_tensors(case)
    if shape.experts:
        copies = shape.topk * (2.0 * shape.hidden + kept * shape.expert_ffn)
        block = copies + shape.shared_experts * kept * shape.expert_ffn
    else:
        block = kept * float(shape.ffn)
    return case.rank_tokens * (attention + block) * _scale(case) / case.degrees.tp


def _kept_ffn_tensors(case: Case) -> int:
    """Tensors of the block's inner width: what the non-linearity and what the last product read.
    With a gate its two factors as well; a compiler computes one of them, the activated gate, again.
    """
    if not case.shape.gated_ffn:
        return 2
    return 3 if case.work.compiled else 4


def _scores(case: Case) -> float:
    """The matrix of scores: softmax (2 bytes), dropout mask (1) and its output (2)."""
    shape, work = case.shape, case.work
    tokens = case.rank_tokens
    if work.attention == "flash":
        return 4.0 * tokens * shape.heads / case.degrees.tp
    bytes_each = 4.0 * _scale(case) + 1.0
    return bytes_each * shape.heads * work.seq_len * tokens / case.degrees.tp


def in_flight(case: Case) -> float:
    """Micro-batches whose activations the first stage keeps, in units of its own layers.

    GPipe keeps all m, 1F1B at most p, interleaving p + (p−1)/v (Korthikanti, section 4.2.3).
    """
    work, pp, count = case.work, case.degrees.pp, case.micro_batches
    if pp == 1:
        return 1.0
    if work.schedule == "gpipe":
        return float(count)
    if work.schedule == "interleaved":
        return min(count, pp + (pp - 1) / work.virtual_stages)
    return float(min(count, pp))


def kept_bytes(case: Case, stage: Stage) -> float:
    """Bytes that one rank of ``stage`` keeps between passes, all its micro-batches together."""
    # A stage keeps the more micro-batches the earlier it stands; the last keeps one.
    last = stage.output and case.degrees.pp > 1 and case.work.schedule != "gpipe"
    copies = 1.0 if last else in_flight(case)
    kept = stage.layers * kept_layer_bytes(case)
    if stage.embedding:
        kept += _split(case, 2.0 * _scale(case) * case.rank_tokens * case.shape.hidden)
    return copies * kept


def layer_working_bytes(case: Case) -> float:
    """What the backward pass of one layer needs beside what was kept: gradients of its
    activations, and what is computed again."""
    shape = case.shape
    width = shape.expert_ffn * shape.topk if shape.experts else shape.ffn
    gradients = 2.0 * _scale(case) * case.rank_tokens
    gradients *= 2 * shape.hidden + (shape.ffn_matrices - 1) * width / case.degrees.tp
    if case.work.recompute == "full":
        return gradients + layer_activation_bytes(case) - kept_layer_bytes(case)
    if case.work.recompute == "selective":
        return gradients + _scores(case)
    return gradients


def output_working_bytes(case: Case) -> float:
    """What the loss needs: the logits, the hidden states before and after the last norm, and their
    gradient. The product of a sequence-parallel rank reads the states of all its tensor ranks, and
    its gradient comes out for all of them."""
    tokens, shape, work = case.rank_tokens, case.shape, case.work
    logits = float(LOGIT_BYTES) * tokens * shape.vocab / case.degrees.tp
    hidden = 2.0 * _scale(case) * tokens * shape.hidden
    gathered = hidden if work.sequence_parallel and case.degrees.tp > 1 else 0.0
    return logits + 2.0 * _split(case, hidden) + gathered + hidden

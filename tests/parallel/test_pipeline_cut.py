"""Which layers does a stage keep, and what is refused?"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pipeline_cases import Net, Tower, samples
from torch import nn
from torch.distributed.pipelining import ScheduleGPipe, ScheduleInterleaved1F1B
from torch.distributed.pipelining.schedules import Schedule1F1B

from orchestrator.errors import InfeasibleError
from orchestrator.parallel.parts import Parts, tied_names
from orchestrator.parallel.pipeline_cut import PassThrough, Tied, cut, tied_over
from orchestrator.parallel.pipeline_layers import blocks_of, stage_indices
from orchestrator.parallel.pipeline_stage import MicroBatch, StageOf
from orchestrator.parallel.pipeline_tied import check_apart, peers, uncounted
from orchestrator.plan.mesh import Mesh, coordinate_of
from orchestrator.plan.pipelining import Schedule, microbatch_problem, num_stages

pytestmark = pytest.mark.unit

DEGREES = st.integers(1, 6)
SCHEDULES: st.SearchStrategy[Any] = st.sampled_from(["gpipe", "1f1b", "interleaved-1f1b"])


@given(DEGREES, SCHEDULES, st.integers(1, 4))
def test_every_stage_is_on_one_rank_and_its_neighbours_are_next_door(
    degree: int, schedule: Schedule, virtual: int
) -> None:
    ranks = [stage_indices(rank, degree, schedule, virtual) for rank in range(degree)]
    total = num_stages(schedule, degree, virtual)
    assert sorted(stage for rank in ranks for stage in rank) == list(range(total))
    rank_of = {stage: rank for rank, stages in enumerate(ranks) for stage in stages}
    assert all(rank_of[s + 1] == (rank_of[s] + 1) % degree for s in range(total - 1))


@given(st.integers(1, 12), st.integers(0, 40))
def test_blocks_are_dealt_out_in_order_and_evenly(stages: int, more: int) -> None:
    blocks = stages + more
    shares = [blocks_of(stage, stages, blocks) for stage in range(stages)]
    assert [block for share in shares for block in share] == list(range(blocks))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sizes[-1] == min(sizes)
    assert sizes[:-1] == sorted(sizes[:-1])


def test_numbers_outside_a_pipeline_are_refused() -> None:
    with pytest.raises(ValueError, match="3 blocks cannot fill 4 stages"):
        blocks_of(0, 4, 3)
    with pytest.raises(ValueError, match="stage 4 is outside a pipeline of 4 stages"):
        blocks_of(4, 4, 8)
    with pytest.raises(ValueError, match="rank 2 is outside a pipeline of 2"):
        stage_indices(2, 2, "1f1b", 1)


@given(DEGREES, st.integers(1, 3), st.integers(1, 20), SCHEDULES)
def test_torch_takes_exactly_the_micro_batches_that_are_not_refused(
    degree: int, virtual: int, micro_batches: int, schedule: Schedule
) -> None:
    problem = microbatch_problem(schedule, degree, virtual, micro_batches)
    if degree == 1:
        assert problem is None
        return
    stages: list[Any] = [
        SimpleNamespace(
            group_size=degree,
            group_rank=0,
            stage_index=index,
            num_stages=num_stages(schedule, degree, virtual),
            stage_index_to_group_rank={},
        )
        for index in stage_indices(0, degree, schedule, virtual)
    ]
    build: Any = {
        "gpipe": lambda: ScheduleGPipe(stages[0], micro_batches),
        "1f1b": lambda: Schedule1F1B(stages[0], micro_batches),
        "interleaved-1f1b": lambda: ScheduleInterleaved1F1B(stages, micro_batches),
    }[schedule]
    if problem is None:
        build()
        return
    with pytest.raises(ValueError, match=r"(?i)number of microbatches"):
        build()


def names(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters(remove_duplicate=False)}


@given(st.integers(1, 7), st.data())
def test_stages_share_out_a_model_and_keep_its_names(num_blocks: int, data: st.DataObject) -> None:
    stages = data.draw(st.integers(1, num_blocks))
    job = Tower(num_blocks=num_blocks, tie=False)
    model = job.model()
    parts = [cut(model, job.split(), stage, stages) for stage in range(stages)]
    kept = [names(part) for part in parts]
    assert set.union(*kept) == names(model)
    assert sum(map(len, kept)) == len(names(model))
    assert "embed.weight" in kept[0]
    assert {"norm.weight", "head.weight"} <= kept[-1]


def test_no_parameter_is_copied_and_containers_are_not_shared() -> None:
    model = Net(4, tie=True, sums=False, counts=False)
    held = {id(p) for p in model.parameters()}
    parts = [cut(model, Tower().split(), stage, 2) for stage in range(2)]
    assert {id(p) for part in parts for p in part.parameters()} == held
    assert parts[0].inner is not parts[1].inner
    assert not any(isinstance(module, PassThrough) for module in model.modules())


def test_stages_one_after_the_other_are_the_model() -> None:
    for sums in (False, True):
        model = Net(5, tie=True, sums=sums, counts=False)
        tokens, scale = torch.randint(31, (3, 6)), torch.rand(3, 6)
        handed: Any = (tokens,)
        for stage in range(3):
            part = cut(model, Tower(num_blocks=5).split(), stage, 3)
            for place in (m for m in part.modules() if isinstance(m, PassThrough) and m.is_block):
                place.num_tensors = 1 + sums
            out = part(*handed, scale=scale)
            handed = out if isinstance(out, tuple) else (out,)
        expected = model(tokens, scale=scale)
        torch.testing.assert_close(handed, expected if sums else (expected,))


def test_tied_parameters_are_found_with_the_stages_that_have_them() -> None:
    model = Net(4, tie=True, sums=False, counts=False)
    assert tied_over(model, Tower().split(), 4) == (Tied("embed.weight", (0, 3)),)
    assert tied_over(model, Tower().split(), 1) == ()
    last = cut(model, Tower().split(), 3, 4)
    assert "embed.weight" in Parts([last], tied_names(model)).parameters()


def layout(mesh: Mesh, rank: int) -> Any:
    return SimpleNamespace(mesh=mesh, coordinate=coordinate_of(mesh, rank))


def test_only_the_first_copy_of_a_tied_parameter_counts() -> None:
    tied, mesh = (Tied("w", (0, 3)),), Mesh(pipeline=2, replicate=2)
    assert [sorted(uncounted(tied, layout(mesh, rank))) for rank in range(4)] == [
        [],
        [],
        ["w"],
        ["w"],
    ]


def test_tied_blocks_on_one_rank_are_refused() -> None:
    check_apart((Tied("w", (0, 1)),), 2)
    with pytest.raises(InfeasibleError, match="w is used by stages 0, 2, of which a pipeline of 2"):
        check_apart((Tied("w", (0, 2)),), 2)


def test_peers_differ_in_their_stage_alone() -> None:
    mesh = Mesh(pipeline=3, replicate=2, tensor=2)
    groups = list(peers(mesh, (0, 2)))
    assert len(groups) == 4
    assert sorted(rank for group in groups for rank in group) == [0, 1, 2, 3, 8, 9, 10, 11]
    for group in groups:
        places = [coordinate_of(mesh, rank) for rank in group]
        assert [place.pop("pipeline") for place in places] == [0, 2]
        assert places[0] == places[1]


SPLIT = Tower().split()


@pytest.mark.parametrize(
    ("split", "stages", "error", "told"),
    [
        (replace(SPLIT, blocks=""), 2, InfeasibleError, "Job.split names none of Net"),
        (SPLIT, 5, InfeasibleError, "4 blocks .inner.blocks. cannot fill 5 pipeline stages"),
        (replace(SPLIT, first=()), 2, TypeError, "embed.weight of Net belong to no pipeline stage"),
        (replace(SPLIT, last=("norm",)), 2, TypeError, "head.weight of Net belong to no"),
        (replace(SPLIT, num_blocks=3), 2, TypeError, "num_blocks=3, but inner.blocks of Net has 4"),
        (replace(SPLIT, last=("norm", "neck")), 2, TypeError, "neck"),
        (replace(SPLIT, blocks="embed"), 2, TypeError, "is a Embedding, not a ModuleList"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_facts(
    split: Any, stages: int, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        cut(Net(4, tie=False, sums=False, counts=False), split, 0, stages)


def test_a_loss_in_one_piece_cannot_be_cut() -> None:
    class Whole(Tower):
        def loss(self, model: nn.Module, batch: Any) -> Any:
            return super().loss(model, batch)

    with pytest.raises(InfeasibleError, match="Whole defines loss as one piece"):
        StageOf(Whole(), nn.Identity(), 0, 2)


def test_a_block_elsewhere_must_be_given_its_tensors_in_order() -> None:
    place = PassThrough("layers.1", is_block=True)
    with pytest.raises(TypeError, match=r"layers\.1 belongs to another .* \['x'\]"):
        place(x=torch.zeros(1))


class Named(nn.Module):
    """Returns a dictionary."""

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> Any:
        return {"logits": tokens * scale}


def test_what_cannot_be_sent_to_the_next_stage_is_refused() -> None:
    stage = StageOf(Tower(), Named(), 0, 2)
    prepared = Tower().prepare(samples(0, 2))
    stage.work = [MicroBatch(prepared, (0,), nullcontext, lambda outputs, _: outputs)]
    with pytest.raises(TypeError, match="stage 0 of Named must hand on a tensor or a tuple of"):
        stage(micro_batch=torch.zeros(1, dtype=torch.int64))
    assert isinstance(stage.failure, TypeError)

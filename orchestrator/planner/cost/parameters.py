"""How many parameters does one rank hold, before any sharding over data ranks?

Tensor, pipeline and expert dimensions split the model itself; the first and the last stage of
a pipeline also hold the tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.planner.cost.case import Case


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pipeline: its layers, and which tables it holds."""

    layers: int
    embedding: bool
    output: bool


def stages(case: Case) -> tuple[Stage, ...]:
    """The kinds of stage that can decide time or memory: first, one between, last.

    Layers that do not divide evenly go to the stages between, away from the tables.
    """
    layers, pp = case.shape.layers, case.degrees.pp
    if pp == 1:
        return (Stage(layers, True, True),)
    least, rest = divmod(layers, pp)
    first = least + (1 if rest > pp - 2 else 0)
    last = least
    if pp == 2:
        return Stage(first, True, False), Stage(last, False, True)
    middle = least + (1 if rest else 0)
    return Stage(first, True, False), Stage(middle, False, False), Stage(last, False, True)


@dataclass(frozen=True, slots=True)
class StageParameters:
    """Parameters of one rank: those that every data rank repeats, and routed experts."""

    shared: float
    experts: float
    layer: float
    """Of them, in one layer."""
    table: float
    """Of them, in one table of the vocabulary; 0 on a stage that holds none."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.shared + self.experts


def stage_parameters(case: Case, stage: Stage) -> StageParameters:
    """What one rank of ``stage`` holds. Norms and biases are small and counted as split."""
    shape, degrees = case.shape, case.degrees
    split = shape.attention_parameters + shape.dense_ffn_parameters + shape.small_parameters
    layer = split / degrees.tp
    experts = shape.experts * shape.one_expert_parameters / (degrees.tp * degrees.ep)
    table = shape.embedding_parameters / degrees.tp
    tables = table * (stage.embedding + stage.output)
    if shape.tied and stage.embedding and stage.output:
        tables = table
    held = table if stage.embedding or stage.output else 0.0
    return StageParameters(
        stage.layers * layer + tables, stage.layers * experts, layer + experts, held
    )

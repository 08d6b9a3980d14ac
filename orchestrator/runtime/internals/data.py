"""How is Ray Data kept inside a reservation? By the scheduling strategy in its context."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from ray.data import DataContext
from ray.data.dataset import MaterializedDataset
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


def data_context(placement_group: PlacementGroup) -> DataContext:
    """A copy of Ray Data's context that keeps every task inside the reservation, in order,
    and silent."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current().copy()
    inside = PlacementGroupSchedulingStrategy(
        placement_group, placement_group_capture_child_tasks=True
    )
    with warnings.catch_warnings():
        # Deprecated in Ray 2.60 without a replacement that reaches every operator.
        warnings.simplefilter("ignore")
        context.scheduling_strategy = inside
        context.scheduling_strategy_large_args = inside
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    return context


def is_materialized(dataset: Any) -> bool:
    """Whether a Ray Dataset holds its blocks already, so that reading it starts no task."""
    return isinstance(dataset, MaterializedDataset)


def blocks_of(dataset: Any) -> list[tuple[Any, int]]:
    """The blocks of a materialized dataset in their order: object reference and rows."""
    return [
        (entry.ref, int(entry.metadata.num_rows or 0))
        for bundle in dataset.iter_internal_ref_bundles()
        for entry in bundle.blocks
    ]

"""The axis orchestrator: one YAML plan, carried out along six axes on one Ray cluster.

Public names are listed in ``__all__``; importing this package imports neither ray nor torch.
"""

from typing import TYPE_CHECKING, Any

from orchestrator.job import Batch, Job, Row, Sample
from orchestrator.split import Split
from orchestrator.transformer import Transformer

if TYPE_CHECKING:
    from orchestrator.parallel.context import sequence_counts, whole_length

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Job",
    "Row",
    "Sample",
    "Split",
    "Transformer",
    "__version__",
    "sequence_counts",
    "whole_length",
]


def __getattr__(name: str) -> Any:
    """What model code may ask about sequences that are cut; it has imported torch by then."""
    if name not in ("sequence_counts", "whole_length"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator.parallel import context

    return getattr(context, name)

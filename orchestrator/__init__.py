"""The axis orchestrator: one YAML plan, carried out along six axes on one Ray cluster.

Public names are listed in ``__all__``; importing this package imports neither ray nor torch.
"""

from orchestrator.job import Batch, Job, Row, Sample

__version__ = "0.1.0"

__all__ = ["Batch", "Job", "Row", "Sample", "__version__"]

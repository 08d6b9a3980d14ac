"""What should a workload be? Six questions answered in order, each by the one before.

``parse_workload`` reads a workload, ``design`` answers, and ``worksheet``, ``design_values``,
``radar_svg`` and ``plan_yaml`` tell the answer. Pure: text and values in, values and text out.
"""

from orchestrator.planner.design.defaults import Default
from orchestrator.planner.design.design import Design, Round, design
from orchestrator.planner.design.load import LoadedWorkload, parse_workload
from orchestrator.planner.design.plan_file import plan_yaml
from orchestrator.planner.design.radar import radar_svg
from orchestrator.planner.design.values import design_values
from orchestrator.planner.design.verdict import verdict
from orchestrator.planner.design.workload import Workload
from orchestrator.planner.design.worksheet import worksheet

__all__ = [
    "Default",
    "Design",
    "LoadedWorkload",
    "Round",
    "Workload",
    "design",
    "design_values",
    "parse_workload",
    "plan_yaml",
    "radar_svg",
    "verdict",
    "worksheet",
]

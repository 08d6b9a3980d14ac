"""The six stages in order, and round again where a tax has become the ceiling.

``design`` is a pure function from a workload to everything that was decided, with its arithmetic;
how that is told to a person is asked elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.planner.design.answers import Answer, metric, mode, topology
from orchestrator.planner.design.back_edge import Taxes, Turn, judge
from orchestrator.planner.design.ceilings import Demand, demands
from orchestrator.planner.design.other_taxes import agents_tax, data_tax, serving_tax
from orchestrator.planner.design.pressures import MONTH_SECONDS, Pressure, pressures
from orchestrator.planner.design.sizing import Choice, Sizing, size_up
from orchestrator.planner.design.training_tax import training_tax
from orchestrator.planner.design.wording import figure
from orchestrator.planner.design.workload import Workload

MOST_ROUNDS = 8
"""More than there are remedies, so that a round that turns nothing is always reached."""


@dataclass(frozen=True, slots=True)
class Round:
    """One walk through the six stages."""

    choice: Choice
    demands: tuple[Demand, ...]
    """Stage 1: every ratio, the most pressing first."""
    sizing: Sizing
    pressures: tuple[Pressure, ...]
    """Stage 2."""
    topology: Answer
    mode: Answer
    metric: Answer
    taxes: Taxes
    """Stage 6."""
    turn: Turn | None
    """The back edge, if it was taken from here."""
    unmet: tuple[str, ...]
    """What is asked for and cannot be had, each with a way out."""

    @property
    def binding(self) -> Demand | None:
        """The highest ceiling; ``None`` where one machine is enough."""
        return next((demand for demand in self.demands if demand.binds), None)

    @property
    def distributed(self) -> tuple[Pressure, ...]:
        """The axes to distribute, the most pressed first."""
        found = [pressure for pressure in self.pressures if pressure.distribute]
        return tuple(sorted(found, key=lambda pressure: -pressure.ratio))


@dataclass(frozen=True, slots=True)
class Design:
    """All rounds; the last one is the design."""

    workload: Workload
    rounds: tuple[Round, ...]

    @property
    def final(self) -> Round:
        """The design that stands."""
        return self.rounds[-1]

    @property
    def feasible(self) -> bool:
        """Whether everything that was asked for can be had."""
        return not self.unmet

    @property
    def one_machine(self) -> bool:
        """Whether nothing binds, so that nothing is distributed."""
        return self.final.binding is None

    @property
    def cost_per_month(self) -> float | None:
        """Price of all machines for 30 days; ``None`` without a price."""
        price = self.workload.machine.price_per_hour
        return (
            None
            if price is None
            else self.final.sizing.num_machines * price * MONTH_SECONDS / 3600.0
        )

    @property
    def unmet(self) -> tuple[str, ...]:
        """What cannot be had, of time and of money."""
        budget, cost = self.workload.budget_per_month, self.cost_per_month
        if budget is None or cost is None or cost <= budget:
            return self.final.unmet
        machines = self.final.sizing.num_machines
        text = (
            f"{machines:,} machines cost {figure(cost)} a month, {figure(budget)} were planned; "
            "works: a later deadline, fewer requests, or a larger budget"
        )
        return (*self.final.unmet, text)


def design(workload: Workload) -> Design:
    """Walk the six stages until no tax is the ceiling, or no remedy is left."""
    rounds: list[Round] = []
    choice = Choice()
    for _ in range(MOST_ROUNDS):
        rounds.append(_walk(workload, choice))
        turn = rounds[-1].turn
        if turn is None:
            break
        choice = turn.choice
    return Design(workload, tuple(rounds))


def _walk(workload: Workload, choice: Choice) -> Round:
    found = demands(workload)
    sizing = size_up(workload, found, choice)
    decided = mode(workload, found)
    taxes = Taxes(
        training=training_tax(workload, sizing.training, choice) if sizing.training else None,
        serving=serving_tax(workload, sizing, choice),
        data=data_tax(workload, sizing.data_machines),
        agents=agents_tax(workload, choice),
    )
    verdict = judge(workload, taxes, sizing, choice)
    return Round(
        choice=choice,
        demands=found,
        sizing=sizing,
        pressures=pressures(workload, found, sizing),
        topology=topology(workload, sizing),
        mode=decided,
        metric=metric(workload, decided.choice, found),
        taxes=taxes,
        turn=verdict.turn,
        unmet=verdict.unmet,
    )

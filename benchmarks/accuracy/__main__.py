"""``python -m benchmarks.accuracy``: error tables by set, each beside the null model's."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.accuracy.collective_sets import one_node_pairs, peak_pairs, two_node_pairs
from benchmarks.accuracy.failure_sets import daly_pairs, ettr_pairs, mttf_pairs
from benchmarks.accuracy.memory_sets import fitted, profile_pairs, ratio_pairs, zero_pairs
from benchmarks.accuracy.published import absent, folder
from benchmarks.accuracy.scores import Pair, choice, null_pairs, score
from benchmarks.accuracy.training_sets import SETS

_HEAD = f"{'SET':<28}{'ROWS':>5}{'MEAN':>8}{'MEDIAN':>8}{'WORST':>8}{'BIAS':>8}{'RANK':>7}"
_NULL = f"{'NULL MEAN':>12}{'RANK':>7}"


def main() -> int:
    """Print everything; 0 where the tables are there, 2 where they are not."""
    if folder() is None:
        print(absent(), file=sys.stderr)
        return 2
    _training()
    _choices()
    _memory()
    _collectives()
    _failures()
    return 0


def _training() -> None:
    print("Step time. Null model: one constant MFU, the median of the set itself.\n")
    print(_HEAD + _NULL)
    for part in SETS:
        pairs = part.pairs()
        nothing = score(null_pairs(pairs))
        note = "calibration" if part.calibrates else ""
        note = f"  {note}{': ' if note and part.note else ''}{part.note}".rstrip()
        print(f"{_line(part.name, pairs)}{nothing.mean:>12.1%}{nothing.rank:>7.3f}{note}")


def _choices() -> None:
    pairs = [pair for part in SETS if part.single_node for pair in part.pairs()]
    print("\nChoice of a plan in the factorial set, by cells of equal shape, devices and batch.\n")
    print(f"{'':<28}{'CELLS':>6}{'BEST':>8}{'IN TOP 3':>10}{'MEAN REGRET':>13}{'WORST':>8}")
    for name, members in (("planner", pairs), ("null model", null_pairs(pairs))):
        made = choice(members)
        print(
            f"{name:<28}{made.cells:>6}{made.best_found:>8.1%}{made.within_three:>10.1%}"
            f"{made.mean_regret:>13.1%}{made.worst_regret:>8.1%}"
        )


def _memory() -> None:
    print("\nMemory.\n\n" + _HEAD)
    print(_line("ZeRO table 1, states", zero_pairs()))
    print(_line("Korthikanti fig. 7, ratios", ratio_pairs()))
    for name, pairs in profile_pairs().items():
        print(_line(f"Galvatron, {name}", pairs))
    runs = fitted()
    fitting = sum(found.fits for _, found in runs)
    shares = [f.memory.peak / f.case.cluster.device.memory_bytes for _, f in runs]
    print(
        f"\nllm-foundry, {len(runs)} runs that fitted: {fitting} are said to fit; "
        f"the largest estimate is {max(shares):.0%} of the device"
    )


def _collectives() -> None:
    print("\nCollectives.\n\n" + _HEAD)
    print(_line("all-reduce, one node", one_node_pairs()))
    print(_line("all-reduce, two nodes", two_node_pairs()))
    print(_line("bus bandwidth, one node", peak_pairs()))


def _failures() -> None:
    print("\nFailures.\n\n" + _HEAD)
    print(_line("Daly's optima, as printed", daly_pairs()))
    print(_line("mean time to failure", mttf_pairs()))
    print(_line("effective training time", ettr_pairs()))


def _line(name: str, pairs: Sequence[Pair]) -> str:
    found = score(pairs)
    return (
        f"{name:<28}{found.rows:>5}{found.mean:>8.1%}{found.median:>8.1%}{found.worst:>8.1%}"
        f"{found.bias:>+8.1%}{found.rank:>7.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())

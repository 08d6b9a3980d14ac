"""How fast are requests answered? The served app beside a bare Ray Serve deployment.

The same checkpoint is served twice behind one proxy, with the same replicas, CPUs and batching;
a process of its own asks one, then the other, over connections that stay open. Digits is a model
of a third of a millisecond, where what surrounds it counts; the GPT writes eight bytes.
"""

from __future__ import annotations

import json
from statistics import median, quantiles
from typing import Any

from benchmarks.comparison import Comparison, Outcome
from benchmarks.runs import Run, load_config, prepared, write_plan
from benchmarks.workplace import MeasurementFailed, Workplace, free_port, say

CONCURRENCIES = (1, 8, 32)
SIDES = ("axis", "by_hand")
RATE_GOAL, P99_GOAL = 0.95, 1.1
AGAINST = "bare Ray Serve"

Measured = dict[str, dict[int, list[float]]]
"""Side → concurrency → one figure per round."""


def measure(place: Workplace) -> Outcome:
    """Requests per second and 99th percentile of both."""
    comparisons: list[Comparison] = []
    counts: dict[str, Any] = {}
    for config, change in (("digits", {}), ("gpt-stdlib", {"max_tokens": 8})):
        request = {**load_config(config)["inference"]["example"], **change}
        rates, p99s, counts[config] = _measure_model(place, config, request)
        for concurrency in CONCURRENCIES:
            what = f"{config}, {concurrency} at once"
            pair = [rates[side][concurrency] for side in SIDES]
            comparisons.append(Comparison(what, "requests/s", pair[0], pair[1], AGAINST, RATE_GOAL))
            pair = [p99s[side][concurrency] for side in SIDES]
            comparisons.append(
                Comparison(f"{what}, p99", "ms", pair[0], pair[1], AGAINST, P99_GOAL, False)
            )
    return Outcome(
        "Serving: requests over HTTP",
        comparisons,
        settings={"replicas": 1, "cpu": 0.5, "seconds_per_round": _seconds(place)},
        extras={"median_requests_per_round": counts},
        notes=["both answer the same; what axis adds names the checkpoint in body and header"],
    )


def _seconds(place: Workplace) -> int:
    return place.size(4, 1)


def _measure_model(
    place: Workplace, config: str, request: dict[str, Any]
) -> tuple[Measured, Measured, dict[str, float]]:
    run = prepared(place, config)
    plan = _serving_plan(place, config)
    rounds = place.size(5, 2)
    rates: Measured = {side: {c: [] for c in CONCURRENCIES} for side in SIDES}
    p99s: Measured = {side: {c: [] for c in CONCURRENCIES} for side in SIDES}
    counts: list[int] = []
    with place.host("-m", "benchmarks.serving_host", plan, *_checkpoint(run)) as urls:
        _check_answers(place, urls, request)
        for turn in range(rounds):
            for concurrency in CONCURRENCIES:
                for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                    report = _load(place, urls[side], request, concurrency, _seconds(place))
                    latencies = report["latencies"]
                    counts.append(len(latencies))
                    rates[side][concurrency].append(len(latencies) / report["seconds"])
                    p99s[side][concurrency].append(1000 * p99(latencies))
                pair = [rates[side][concurrency][-1] for side in SIDES]
                say(f"{config}, {concurrency} at once: {pair[0]:.0f}, {pair[1]:.0f} requests/s")
    return rates, p99s, {"all": median(counts)}


def p99(latencies: list[float]) -> float:
    """The time within which 99 of 100 requests were answered."""
    return quantiles(latencies, n=100, method="inclusive")[98]


def _serving_plan(place: Workplace, config: str) -> str:
    source = load_config(config)
    plan = {
        **source,
        "name": f"served-{config}",
        "storage": str(place.folder / "runs"),
        "inference": {**source["inference"], "port": free_port()},
    }
    return str(write_plan(place, plan))


def _checkpoint(run: Run) -> tuple[str, str]:
    return str(run.folder), run.checkpoint


def _load(
    place: Workplace, url: str, request: dict[str, Any], concurrency: int, seconds: float
) -> dict[str, Any]:
    out = place.python(
        "-m", "benchmarks.http_load", url, json.dumps(request), str(concurrency), str(seconds)
    )
    report: dict[str, Any] = json.loads(out)
    if len(report["latencies"]) < 10:
        raise MeasurementFailed(f"{url} answered {len(report['latencies'])} requests only")
    return report


def _check_answers(place: Workplace, urls: dict[str, str], request: dict[str, Any]) -> None:
    """Both must answer the same, and have their first requests behind them."""
    axis, by_hand = (_load(place, urls[side], request, 8, 1)["answer"] for side in SIDES)
    if _rounded(axis["answer"]) != _rounded(by_hand):
        raise MeasurementFailed(f"answers differ: {axis['answer']} and {by_hand}")


def _rounded(answer: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in answer.items()}

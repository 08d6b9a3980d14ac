"""How is published memory asked of the planner: ratios, profiles, runs that fitted or did not?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.accuracy.published import Row, count, number, rows
from benchmarks.accuracy.scores import Pair
from orchestrator.planner.cost.activations import kept_layer_bytes
from orchestrator.planner.cost.estimate import Estimate, estimate, parse_specs
from orchestrator.planner.cost.resolve import resolve
from orchestrator.planner.cost.states import state_bytes

TABLE = "memory_runs.csv"
MIB = 2**20


def zero_pairs() -> list[Pair]:
    """The ZeRO table: gigabytes of model states."""
    stages = {"ZeRO-1": "optimizer", "ZeRO-2": "gradients", "ZeRO-3": "full"}
    return [
        Pair(
            row["id"],
            state_bytes(
                number(row, "params_b") * 1e9,
                count(row, "dp"),
                stages[row["sharding"]],  # type: ignore[arg-type]
            ).total
            / 1e9,
            number(row, "mem"),
        )
        for row in rows(TABLE, "zero_paper_table1")
    ]


def ratio_pairs() -> list[Pair]:
    """Activations of a layer as a percentage of plain tensor parallelism (Korthikanti)."""
    found = []
    for row in rows(TABLE, "korthikanti_fig7"):
        kept, plain = (_layer(row, how) for how in (row["recompute"], "none"))
        found.append(Pair(row["id"], 100.0 * kept / plain, number(row, "mem")))
    return found


def _layer(row: Row, how: str) -> float:
    recompute = "full" if "full" in how else "selective" if "selective" in how else "none"
    training = {
        "seq_len": count(row, "seq_len"),
        "global_batch": 1,
        "precision": "fp16",
        "attention": "unfused",
        "recompute": recompute,
        "sequence_parallel": "sequence" in how,
    }
    spec = _spec(row, training, {"tp": count(row, "tp")})
    return kept_layer_bytes(resolve(parse_specs(spec)[0]).case)


def _spec(row: Row, training: dict[str, Any], mesh: dict[str, int]) -> dict[str, Any]:
    hidden = count(row, "hidden")
    gated = "llama" in row["model"].lower()
    model = {
        "layers": count(row, "layers"),
        "hidden": hidden,
        "heads": count(row, "heads"),
        "kv_heads": count(row, "kv_heads", count(row, "heads")),
        "ffn": count(row, "ffn", 4 * hidden),
        "vocab": count(row, "vocab", 51200),
        "gated_ffn": gated,
        "tied": False,
    }
    device = row["gpu"].split(" (")[0]
    return {"model": model, "training": training, "mesh": mesh, "hardware": {"device": device}}


def profile_pairs() -> dict[str, list[Pair]]:
    """Galvatron's profiles of one to four layers: states, activations, and their sum.

    A pair of rows is one run: what it holds, and what it needs above that. Rows of the last
    rank of a pipeline are its last stage, and the planner gives the stage that needs most, so
    runs with a pipeline are not asked.
    """
    found: dict[str, list[Pair]] = {"states": [], "activations": [], "peak": []}
    for states, above in _profiled():
        if count(states, "pp") > 1:
            continue
        needed = estimate(parse_specs(_profile_spec(states))[0]).memory
        held = (needed.parameters + needed.gradients + needed.optimizer) / MIB
        free = (needed.activations + needed.buffers) / MIB
        measured = number(states, "mem"), number(above, "mem")
        found["states"].append(Pair(states["id"], held, measured[0]))
        found["activations"].append(Pair(above["id"], free, measured[1]))
        found["peak"].append(Pair(states["id"], held + free, sum(measured)))
    return found


def _profiled() -> Iterator[tuple[Row, Row]]:
    listed = rows(TABLE, "galvatron_profile")
    yield from zip(listed[::2], listed[1::2], strict=True)


def _profile_spec(row: Row) -> dict[str, Any]:
    training = {
        "seq_len": count(row, "seq_len"),
        "global_batch": count(row, "global_batch"),
        "micro_batch": count(row, "micro_batch"),
        "recompute": row["recompute"],
        "sequence_parallel": "Megatron SP" in row["sharding"],
        "sharding": "full",
    }
    mesh = {"tp": count(row, "tp"), "pp": count(row, "pp"), "fsdp": count(row, "fsdp")}
    if mesh["fsdp"] == 1:
        training["sharding"] = "none"
    return _spec(row, training, mesh)


def fitted() -> list[tuple[Row, Estimate]]:
    """Runs of llm-foundry, each a proof that it fits."""
    from benchmarks.accuracy.training_sets import llm_foundry

    found = []
    for row in rows("training_runs.csv", "llm_foundry"):
        found.append((row, estimate(parse_specs(llm_foundry(row))[0], row["id"])))
    return found

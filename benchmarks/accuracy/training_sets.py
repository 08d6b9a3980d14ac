"""How is a published run asked of the planner, set by set?

Each set says what its source says about the run and, where a table leaves something out, what
is assumed. Nothing here is fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy.published import Row, count, number, rows
from benchmarks.accuracy.scores import Pair
from orchestrator.planner.cost.estimate import estimate, parse_specs
from orchestrator.planner.cost.shape import model_flops_per_token

RUNS = "training_runs.csv"
FACTORIAL = "training_runs_single_node_factorial.csv"


@dataclass(frozen=True)
class RunSet:
    """One set: its rows as specifications with measured seconds, and its part in calibration.

    ``single_node`` rows are plans among which a choice is scored.
    """

    name: str
    table: str
    group: str
    ask: Callable[[Row], dict[str, Any] | None]
    note: str = ""
    calibrates: bool = False
    single_node: bool = False

    def pairs(self) -> list[Pair]:
        """Predicted beside measured seconds of every row that can be asked."""
        asked = ((row, self.ask(row)) for row in rows(self.table, self.group))
        return [_pair(row, spec) for row, spec in asked if spec is not None]


def _pair(row: Row, spec: dict[str, Any]) -> Pair:
    found = estimate(parse_specs(spec)[0], row["id"])
    case = found.case
    flops = model_flops_per_token(case.shape, case.work.seq_len)
    tokens = case.work.seq_len * case.work.global_batch / case.degrees.size
    work = flops * tokens / case.cluster.device.peak(case.work.precision)
    shape = case.shape
    cell = (shape.layers, shape.hidden, case.degrees.size, case.work.global_batch)
    return Pair(row["id"], found.step_seconds, measured_seconds(row, found.case), work, cell)


def measured_seconds(row: Row, case: Any) -> float:
    """Seconds of a step, from what the row prints: itself, tokens per second, or a rate.

    "hardware" rates count 96·B·s·l·h²·(1 + s/6h + V/16lh) (Narayanan et al. 2021, eq. 3),
    "model" rates 3/4 of the layers of that.
    """
    if row["iter_time_s"]:
        return number(row, "iter_time_s")
    work, shape = case.work, case.shape
    tokens = work.global_batch * work.seq_len
    if row["tokens_per_s_per_gpu"]:
        return tokens / (number(row, "tokens_per_s_per_gpu") * case.degrees.size)
    layers = 24.0 * shape.layers * shape.hidden**2 * (1 + work.seq_len / (6 * shape.hidden))
    passes = 4 if row["tflops_kind"].startswith("hardware") else 3
    flops = tokens * (passes * layers + 6.0 * shape.vocab * shape.hidden)
    return flops / (number(row, "tflops_per_gpu") * 1e12 * case.degrees.size)


def asked(row: Row, mesh: dict[str, int], **training: Any) -> dict[str, Any]:
    """The specification that every set starts from."""
    hidden = count(row, "hidden")
    model = {
        "layers": count(row, "layers"),
        "hidden": hidden,
        "heads": count(row, "heads"),
        "kv_heads": count(row, "kv_heads", count(row, "heads")),
        "ffn": count(row, "ffn", 4 * hidden),
        "vocab": count(row, "vocab", 51200),
        "gated_ffn": row["model"].lower().startswith("llama"),
        "tied": not row["model"].lower().startswith("llama"),
    }
    base = {
        "seq_len": count(row, "seq_len"),
        "global_batch": count(row, "global_batch"),
        "micro_batch": count(row, "micro_batch", 1),
    }
    hardware = {"device": row["gpu"].split(" (")[0], "devices": count(row, "gpus")}
    return {
        "model": model,
        "training": base | training,
        "mesh": mesh,
        "hardware": hardware,
    }


def _three_dimensions(row: Row) -> dict[str, int]:
    return {name: count(row, name, 1) for name in ("dp", "tp", "pp", "cp")}


def shows_the_host(row: Row) -> bool:
    """Rows in which the host decides and nothing else is distributed: the smallest width, one
    sample at a time, no tensor or pipeline dimension. No other table shows the host's time."""
    smallest = count(row, "hidden") == 1024 and count(row, "micro_batch") == 1
    return smallest and count(row, "tp") == 1 and count(row, "pp") == 1


def factorial(row: Row) -> dict[str, Any]:
    """Megatron-DeepSpeed in fp16 without flash; gradients reduced after the last micro-batch."""
    return asked(
        row,
        _three_dimensions(row),
        precision="fp16",
        recompute="full",
        attention="unfused",
        overlap=False,
    )


def sc21_table_1(row: Row) -> dict[str, Any]:
    """Megatron-LM of 2021: unfused attention. Its torch DDP (up to 18 billion parameters)
    overlaps gradients, its local DDP does not, as the source says."""
    virtual = count(row, "vpp", 1)
    schedule = {"schedule": "interleaved", "virtual_stages": virtual} if virtual > 1 else {}
    return asked(
        row,
        _three_dimensions(row),
        precision="fp16",
        recompute="full",
        attention="unfused",
        overlap=number(row, "params_b") < 19,
        **schedule,
    )


def sc21_table_2(row: Row) -> dict[str, Any]:
    """The same software; ZeRO-3 rows are DeepSpeed of 2021, sharded over all devices."""
    common = {"precision": "fp16", "recompute": "full", "attention": "unfused"}
    if row["sharding"].startswith("ZeRO-3"):
        return asked(row, {"fsdp": count(row, "gpus")}, **common)
    return asked(row, _three_dimensions(row), overlap=False, **common)


def megatron_core(row: Row) -> dict[str, Any]:
    """Megatron-Core 0.8 on H100. Micro-batch, virtual stages and recomputation are not
    printed: all 4 samples of a rank at once without a pipeline and 1 otherwise, the most
    chunks up to 8 that divide a stage's layers, nothing recomputed."""
    pp = count(row, "pp")
    layers = count(row, "layers") // pp
    virtual = max(v for v in range(1, 9) if layers % v == 0) if pp > 1 else 1
    schedule = {"schedule": "interleaved", "virtual_stages": virtual} if virtual > 1 else {}
    mesh = {name: count(row, name, 1) for name in ("dp", "tp", "pp")}
    spec = asked(
        row,
        mesh,
        sharding="optimizer",
        sequence_parallel=mesh["tp"] > 1,
        **schedule,
    )
    spec["training"]["micro_batch"] = 4 if pp == 1 else 1
    return spec


def llm_foundry(row: Row) -> dict[str, Any]:
    """Composer with FSDP; MP=PURE is bf16 throughout."""
    device = count(row, "gpus")
    sharding = "gradients" if "ZeRO-2" in row["sharding"] else "full"
    precision = "fp8" if row["precision"].startswith("fp8") else "bf16"
    return asked(
        row,
        {"fsdp": device},
        sharding=sharding,
        precision=precision,
        recompute=row["recompute"] or "none",
    )


def fms_fsdp(row: Row) -> dict[str, Any] | None:
    """torch.compile and FSDP. "selective" recomputes a share of whole layers that is not
    printed; rows without a share are asked as none."""
    if not row["layers"] or row["recompute"] != "none":
        return None
    spec = asked(row, {"dp": count(row, "gpus") // 8, "fsdp": 8}, compiled=True)
    spec["hardware"]["inter"] = {"bandwidth": row["interconnect"].split("/")[0]}
    return spec


def nemo(row: Row) -> dict[str, Any] | None:
    """NeMo 24.07 with fp8; LoRA is another kind of training and left out."""
    if not row["layers"] or "LoRA" in row["model"]:
        return None
    mesh = _three_dimensions(row)
    virtual = count(row, "vpp", 1) if mesh["pp"] > 1 else 1
    schedule = {"schedule": "interleaved", "virtual_stages": virtual} if virtual > 1 else {}
    return asked(
        row,
        mesh,
        precision="fp8",
        sharding="optimizer",
        sequence_parallel=mesh["tp"] > 1,
        **schedule,
    )


def mt_nlg(row: Row) -> dict[str, Any]:
    """Megatron-DeepSpeed on Selene; unfused attention, full recomputation."""
    return sc21_table_2({**row, "sharding": "none"})


def deepspeed_azure(row: Row) -> dict[str, Any]:
    """ZeRO-3 with states in host memory, which the planner does not model."""
    return asked(
        row,
        {"fsdp": count(row, "gpus")},
        precision="fp16",
        recompute="full",
        attention="unfused",
    )


def paxml(row: Row) -> dict[str, Any]:
    """PaxML under XLA, which compiles; "TE" rows have fused attention. The 175B model
    recomputes, as it would not fit otherwise."""
    devices = count(row, "gpus")
    fused = row["precision"].startswith("TE")
    return asked(
        row,
        {"fsdp": devices} if row["sharding"] == "FSDP" else {"dp": devices},
        precision="fp8" if "fp8" in row["precision"] else "bf16",
        attention="flash" if fused else "unfused",
        recompute="full" if "175B" in row["model"] else "none",
        compiled=True,
    )


SETS: tuple[RunSet, ...] = (
    RunSet(
        "factorial, one node",
        FACTORIAL,
        "vtrain_single_node",
        lambda row: None if shows_the_host(row) else factorial(row),
        single_node=True,
    ),
    RunSet(
        "factorial, host rows",
        FACTORIAL,
        "vtrain_single_node",
        lambda row: factorial(row) if shows_the_host(row) else None,
        "host_seconds_per_operation is fixed on these",
        calibrates=True,
        single_node=True,
    ),
    RunSet("SC'21 table 1", RUNS, "megatron_sc21_table1", sc21_table_1, calibrates=True),
    RunSet(
        "SC'21 table 2, 3D",
        RUNS,
        "megatron_sc21_table2",
        lambda row: None if row["sharding"].startswith("ZeRO") else sc21_table_2(row),
    ),
    RunSet(
        "SC'21 table 2, ZeRO-3",
        RUNS,
        "megatron_sc21_table2",
        lambda row: sc21_table_2(row) if row["sharding"].startswith("ZeRO") else None,
        "DeepSpeed of 2021 gathers without prefetching well",
    ),
    RunSet("Megatron-Core H100", RUNS, "megatron_core_h100_weak", megatron_core, calibrates=True),
    RunSet("MT-NLG", RUNS, "mt_nlg", mt_nlg),
    RunSet(
        "llm-foundry, several nodes",
        RUNS,
        "llm_foundry",
        lambda row: llm_foundry(row) if count(row, "gpus") > 8 else None,
    ),
    RunSet(
        "llm-foundry, one node",
        RUNS,
        "llm_foundry",
        lambda row: llm_foundry(row) if count(row, "gpus") <= 8 else None,
        "to 64k tokens with the attention kernels of 2023",
    ),
    RunSet("FMS FSDP", RUNS, "fms_fsdp", fms_fsdp),
    RunSet("NeMo 24.07", RUNS, "nemo_24.07", nemo, "fp8"),
    RunSet("PaxML", RUNS, "jax_toolbox_paxml", paxml, "shapes from memory, not a gate"),
    RunSet(
        "DeepSpeed Azure",
        RUNS,
        "deepspeed_azure_zero3",
        deepspeed_azure,
        "states in host memory: outside of the model",
    ),
)
"""Every set of the tables that says enough to be asked; T5X (encoder and decoder, no sequence
length) and the FSDP paper (no batch) do not."""

"""Small plans over the shipped jobs, the stores they train on, and a channel that remembers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.feed.build import build_shard_from_rows
from orchestrator.feed.corpus import build_manifest
from orchestrator.feed.write import commit_store
from orchestrator.job import Job, Row
from orchestrator.parallel.channel import EvalRecord, Note, Own, Started, StepRecord, StuckReport
from orchestrator.parallel.loop import train
from orchestrator.parallel.manifest import CheckpointManifest, write_manifest
from orchestrator.parallel.setup import TrainResult, TrainSetup
from orchestrator.plan.load import parse_plan
from orchestrator.plan.plan import Plan
from orchestrator.storage import Storage

GPT_OPTIONS = "{layers: 2, hidden: 32, heads: 4, kv_heads: 2, ffn: 64, seq_len: 24}"

DIGITS = """
name: digits
job: jobs.digits:Digits
options: {channels: 8}
data: {source: {kind: python, target: "jobs.digits:dataset"}, holdout: 0.2}
training:
  workers: [1, 4]
  global_batch: 16
  steps: 20
  optimizer: {lr: 3e-3}
  schedule: {warmup: 4}
  evaluate: {samples: 30}
coordination: {checkpoint: {every: 10}}
"""

GPT = f"""
name: gpt
job: jobs.gpt:GPT
options: {GPT_OPTIONS}
data: {{source: {{kind: text, path: .}}, holdout: 0.1}}
training:
  workers: [1, 4]
  global_batch: 16
  steps: 20
  optimizer: {{lr: 3e-3}}
  schedule: {{warmup: 4}}
  evaluate: {{samples: 9}}
coordination: {{checkpoint: {{every: 10}}}}
"""


def plan_of(text: str, *overrides: str) -> Plan:
    """A plan from YAML text and overrides."""
    return parse_plan(text, overrides).plan


@dataclass(frozen=True)
class Stores:
    """Folders of sample stores."""

    digits: str
    gpt: str


def make_stores(folder: Path) -> Stores:
    """200 digits; texts of many lengths, so that windows weigh differently."""
    from sklearn.datasets import load_digits

    from jobs.digits import Digits
    from jobs.gpt import GPT

    data = load_digits()
    digits = [
        {"pixels": pixels, "label": int(label)}
        for pixels, label in zip(data.data[:200], data.target[:200], strict=True)
    ]
    source = Path(__file__).read_text()
    texts = [{"text": source[start : start + 7 + start % 61]} for start in range(0, 3000, 20)]
    gpt = GPT(**plan_of(globals()["GPT"]).options)
    return Stores(
        digits=make_store(folder / "digits", Digits(), digits),
        gpt=make_store(folder / "gpt", gpt, texts),
    )


def make_store(folder: Path, job: Job, rows: Iterable[Row]) -> str:
    """A finished sample store of a Job's samples; returns its folder."""
    storage = Storage.open(str(folder))
    result = build_shard_from_rows(rows, job, storage)
    manifest = build_manifest(
        [result], key="k", plan_hash="p", code_hash="c", source={}, num_files=1
    )
    commit_store(storage, manifest)
    return str(folder)


class Work(NamedTuple):
    """What a step took on one worker."""

    step: int
    step_seconds: float
    busy_seconds: float | None
    data_seconds: float
    guessed_seconds: float


class MemoryChannel:
    """Remembers everything; on this worker's behalf stops after ``stop_after`` steps, and wants to
    leave with a checkpoint from ``leave_after`` steps on."""

    def __init__(
        self, run: Storage, stop_after: int | None = None, leave_after: int | None = None
    ) -> None:
        self.run, self.stop_after, self.leave_after = run, stop_after, leave_after
        self.starts: list[Started] = []
        self.records: list[StepRecord] = []
        self.evaluations: list[EvalRecord] = []
        self.manifests: list[CheckpointManifest] = []
        self.notes: list[Note] = []
        self.works: list[Work] = []
        self.reports: list[StuckReport] = []

    def started(self, info: Started) -> None:
        self.starts.append(info)

    def report(self, record: StepRecord) -> None:
        self.records.append(record)

    def worked(self, step: int, step_seconds: float, own: Own | None, data_seconds: float) -> None:
        busy_seconds, guessed = (own.seconds, own.guessed_seconds) if own else (None, 0.0)
        self.works.append(Work(step, step_seconds, busy_seconds, data_seconds, guessed))

    def evaluated(self, record: EvalRecord) -> None:
        self.evaluations.append(record)

    def saving(self) -> None:
        """Nothing is held back."""

    def note(self, note: Note) -> None:
        self.notes.append(note)

    def stuck(self, report: StuckReport) -> None:
        self.reports.append(report)

    def whereabouts_wanted(self) -> bool:
        return False

    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.records) + 1 >= self.stop_after

    def leave_at_checkpoint(self) -> bool:
        return self.leave_after is not None and len(self.records) + 1 >= self.leave_after

    def commit(self, manifest: CheckpointManifest) -> None:
        write_manifest(self.run, manifest)
        self.manifests.append(manifest)

    @property
    def losses(self) -> list[float]:
        return [record.loss for record in self.records]

    def ids(self) -> list[tuple[int, list[int]]]:
        return [(record.step, record.ids.tolist()) for record in self.records]


def run_here(
    plan: Plan,
    job: Job,
    store: str,
    run: str,
    *,
    attempt: int = 1,
    resume: str | None = None,
    channel: Any = None,
    micro_batch: int | None = None,
) -> tuple[TrainResult, Any]:
    """Train in this process, in whatever group it is; the result and the channel."""
    storage = Storage.open(run)
    channel = channel or MemoryChannel(storage)
    setup = TrainSetup(
        plan=plan,
        job=job,
        store=Storage.open(store),
        run=storage,
        attempt=attempt,
        resume=resume,
        micro_batch=micro_batch,
    )
    return train(setup, channel), channel

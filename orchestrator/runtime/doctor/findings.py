"""What do measurements of a machine mean: well, doubtful, or of no use, and what mends it?

Pure: from what was measured (``facts``) to findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from packaging.version import InvalidVersion, Version

from orchestrator.observe.wording import format_bytes, format_seconds
from orchestrator.runtime.doctor.facts import MachineFacts, StorageFacts, TokenFacts
from orchestrator.runtime.submit.reach import NEWER_THAN_KNOWN_RAY, OLDEST_RAY

Level = Literal["ok", "warn", "fail"]

OLDEST_PYTHON = Version("3.11")
OLDEST_TORCH = Version("2.8")

ENOUGH_SHM_BYTES = 2 * 2**30
"""Ray keeps objects there and puts them on disk, slowly, where it is smaller than it wants."""
ENOUGH_DISK_BYTES = 10 * 2**30
LITTLE_DISK_BYTES = 1 * 2**30
ENOUGH_FILES = 65_536
FEW_FILES = 4_096
"""A raylet with a hundred workers holds some thousands of sockets and files."""
SLOW_STORAGE_SECONDS = 1.0
SKEW_WARN_SECONDS = 1.0
SKEW_FAIL_SECONDS = 30.0
"""Tokens of storage services are refused beyond minutes; logs are unreadable long before."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: how it is, what was looked at, and the ``fix`` where it is ill."""

    level: Level
    what: str
    text: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"kind": "finding", **asdict(self)}


def judge_versions(facts: MachineFacts, where: str = "") -> list[Finding]:
    """Python, Ray and torch against what this project works with."""
    ranges = (
        ("python", facts.python, OLDEST_PYTHON, None),
        ("ray", facts.ray, OLDEST_RAY, NEWER_THAN_KNOWN_RAY),
        ("torch", facts.torch, OLDEST_TORCH, None),
    )
    return [_version(name, text, low, high, where) for name, text, low, high in ranges]


def judge_machine(facts: MachineFacts, where: str = "") -> list[Finding]:
    """Shared memory, disk, open files and devices of one machine."""
    return [
        _shared_memory(facts, where),
        _disk(facts, where),
        _open_files(facts, where),
        _devices(facts, where),
    ]


def judge_alike(own: MachineFacts, other: MachineFacts, place: str) -> list[Finding]:
    """Whether two machines can work on one run: what one pickles, the other must understand."""
    found = []
    if _minor(own.python) != _minor(other.python):
        text = f"{place} has Python {other.python}, here it is {own.python}"
        found.append(Finding("fail", "python", text, "one image, or one environment, for both"))
    if own.ray != other.ray:
        text = f"{place} has Ray {other.ray}, here it is {own.ray}"
        found.append(Finding("fail", "ray", text, f"pip install 'ray[default]=={other.ray}'"))
    if own.axis != other.axis:
        text = f"{place} has axis-orchestrator {other.axis}, here it is {own.axis}"
        found.append(Finding("fail", "axis", text, "the same version on all machines"))
    if own.torch != other.torch:
        text = f"{place} has torch {other.torch}, here it is {own.torch}"
        found.append(Finding("warn", "torch", text, "the same version wherever workers run"))
    return found


def judge_clock(asked: float, said: float, answered: float, place: str) -> Finding:
    """A node that said its time between a question and its answer must have said one between."""
    skew = said - answered if said > answered else said - asked if said < asked else 0.0
    if abs(skew) <= SKEW_WARN_SECONDS:
        return Finding("ok", "clock", f"{place} agrees within {answered - asked:.1f} s")
    level: Level = "fail" if abs(skew) > SKEW_FAIL_SECONDS else "warn"
    way = "ahead" if skew > 0 else "behind"
    text = f"{place} is at least {format_seconds(abs(skew))} {way}"
    return Finding(level, "clock", text, "run chrony or systemd-timesyncd there")


def judge_storage(facts: StorageFacts, where: str = "") -> Finding:
    """Whether a run's folder can be written, and how long a small file takes."""
    if facts.trouble:
        fix = "a folder or bucket that can be written to from there; for a bucket, its credentials"
        return Finding("fail", "storage", f"{facts.name}{where}: {facts.trouble}", fix)
    text = (
        f"{facts.name}{where}: write, rename, read and delete in {facts.write_seconds * 1e3:.0f} "
        f"ms, list in {facts.list_seconds * 1e3:.0f} ms"
    )
    if facts.write_seconds > SLOW_STORAGE_SECONDS:
        fix = "storage nearer by; each event of a run is made durable there before it counts"
        return Finding("warn", "storage", text, fix)
    return Finding("ok", "storage", text)


def judge_token(facts: TokenFacts) -> Finding:
    """Whether there is a token, and who may read it."""
    if facts.trouble:
        return Finding("fail", "token", facts.trouble, "RAY_AUTH_TOKEN_PATH=<a file you can read>")
    if facts.mode == "disabled":
        fix = "unset RAY_AUTH_MODE, or RAY_AUTH_MODE=token"
        return Finding("warn", "token", "RAY_AUTH_MODE=disabled: clusters here are open", fix)
    if facts.path is None:
        if facts.said_by:
            return Finding("ok", "token", f"in {facts.said_by}")
        return Finding("ok", "token", "none; a private cluster makes one for itself")
    if facts.permissions is not None and facts.permissions & 0o077:
        text = f"{facts.path} can be read by others (mode {facts.permissions:04o})"
        return Finding("warn", "token", text, f"chmod 600 {facts.path}")
    return Finding("ok", "token", f"{facts.path}, yours alone")


def tally(findings: Sequence[Finding]) -> dict[Level, int]:
    """How many there are of each level."""
    levels: tuple[Level, ...] = ("ok", "warn", "fail")
    return {level: sum(each.level == level for each in findings) for level in levels}


def _version(name: str, text: str, low: Version, high: Version | None, where: str) -> Finding:
    works = f"≥ {low}" + (f", < {high}" if high else "")
    try:
        version = Version(text)
    except InvalidVersion:
        return Finding("fail", name, f"{text or 'not installed'}{where}", f"install {name} {works}")
    if version >= low and (high is None or version < high):
        return Finding("ok", name, f"{text}{where}")
    return Finding("fail", name, f"{text}{where}; this axis works with {works}", f"install {works}")


def _shared_memory(facts: MachineFacts, where: str) -> Finding:
    text = f"/dev/shm{where} has {format_bytes(facts.shm_bytes)}"
    if facts.shm_bytes >= ENOUGH_SHM_BYTES:
        return Finding("ok", "shared memory", text)
    fix = (
        f"at least {format_bytes(ENOUGH_SHM_BYTES)}: docker run --shm-size, or in Kubernetes an "
        "emptyDir of medium Memory at /dev/shm"
    )
    return Finding("warn", "shared memory", text, fix)


def _disk(facts: MachineFacts, where: str) -> Finding:
    text = f"{facts.disk_path}{where} has {format_bytes(facts.disk_free_bytes)} left"
    fix = f"free some, or point Ray elsewhere (--temp-dir, RAY_TMPDIR): {facts.disk_path} is Ray's"
    if facts.disk_free_bytes < LITTLE_DISK_BYTES:
        return Finding("fail", "disk", text, fix)
    level: Level = "ok" if facts.disk_free_bytes >= ENOUGH_DISK_BYTES else "warn"
    return Finding(level, "disk", text, "" if level == "ok" else fix)


def _open_files(facts: MachineFacts, where: str) -> Finding:
    text = f"{facts.open_files:,} allowed{where}"
    fix = f"ulimit -n {ENOUGH_FILES}; for services LimitNOFILE, for containers --ulimit nofile"
    if facts.open_files < FEW_FILES:
        return Finding("fail", "open files", text, fix)
    level: Level = "ok" if facts.open_files >= ENOUGH_FILES else "warn"
    return Finding(level, "open files", text, "" if level == "ok" else fix)


def _devices(facts: MachineFacts, where: str) -> Finding:
    if facts.num_devices == facts.num_devices_of_ray:
        text = f"{facts.num_devices} visible{where}" if facts.num_devices else f"none{where}"
        return Finding("ok", "GPUs", text)
    text = f"{facts.num_devices} there{where}, and Ray counts {facts.num_devices_of_ray}"
    fix = "start Ray with --num-gpus, and look at CUDA_VISIBLE_DEVICES and the device plugin"
    return Finding("warn", "GPUs", text, fix)


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])

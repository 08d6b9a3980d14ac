"""What of the working directory is sent to the cluster, and is it too much?

One zip file of known content: the same files make the same bytes, so that a cluster that has them
is not sent them again. Looks at no cluster.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InfeasibleError, Problem
from orchestrator.observe.wording import counted, format_bytes
from orchestrator.plan.data import PythonSource
from orchestrator.plan.plan import Plan
from orchestrator.runtime.submit.ignore import File, included_files, who_ignores

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SHOWN = 10


@dataclass(frozen=True)
class Package:
    """The files of a working directory that go along."""

    root: Path
    files: tuple[File, ...]

    @property
    def size_bytes(self) -> int:
        """How much they are together, before they are compressed."""
        return sum(file.size_bytes for file in self.files)

    @property
    def text(self) -> str:
        """``42 files, 1.2 MB``."""
        return f"{counted(len(self.files), 'file')}, {format_bytes(self.size_bytes)}"

    def holds(self, relative: str) -> bool:
        """Whether a file or folder is in it, or a part of it."""
        prefix = "" if relative in ("", ".") else f"{relative}/"
        return any(file.path == relative or file.path.startswith(prefix) for file in self.files)

    def write(self, target: Path) -> None:
        """Write the zip file."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in self.files:
                path = self.root / file.path
                info = zipfile.ZipInfo(file.path, _EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (path.stat().st_mode & 0xFFFF) << 16
                with path.open("rb") as source, archive.open(info, "w") as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)


def pack(root: Path, always: Sequence[Path] = ()) -> Package:
    """The files of ``root`` that go along; those in ``always`` do whatever the rules say."""
    root = root.resolve()
    files = {file.path: file for file in included_files(root)}
    for path in always:
        relative = path.resolve().relative_to(root).as_posix()
        files.setdefault(relative, File(relative, path.stat().st_size))
    return Package(root, tuple(sorted(files.values(), key=lambda file: file.path)))


def check_size(package: Package, limit_bytes: int) -> None:
    """Raise ``InfeasibleError`` with what takes most room, where Ray would not take it all."""
    if package.size_bytes < limit_bytes:
        return
    rows = [f"    {size / 1e6:>10,.1f} MB  {path}" for path, size in largest(package.files)]
    raise InfeasibleError(
        f"the working directory {package.root} is too large to send: {package.text}, and Ray takes "
        f"less than {limit_bytes / 1e6:,.1f} MB\n  the largest entries:\n" + "\n".join(rows) + "\n"
        "  works: a line for each that the run does not need in .axisignore (as in .gitignore), "
        "data in a bucket or on a volume that the nodes have, or --working-dir"
    )


def largest(files: Sequence[File], shown: int = _SHOWN) -> list[tuple[str, int]]:
    """The entries that take most room: files, and folders at the top with all that is in them."""
    sizes: Counter[str] = Counter()
    for file in files:
        sizes[file.path] += file.size_bytes
        head, slash, _ = file.path.partition("/")
        if slash:
            sizes[f"{head}/"] += file.size_bytes
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:shown]


def missing(plan: Plan, package: Package) -> list[Problem]:
    """What the plan names and the working directory holds, but the package does not."""
    found = [_left_out("job", plan.job, package)]
    source = plan.data.source
    if isinstance(source, PythonSource):
        found.append(_left_out("data.source.target", source.target, package))
    elif "://" not in source.path and not source.path.startswith("python:"):
        found.append(_data_left_out(source.path, package))
    return [problem for problem in found if problem is not None]


def _left_out(where: str, target: str, package: Package) -> Problem | None:
    stem = target.partition(":")[0].replace(".", "/")
    for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
        path = package.root / candidate
        if path.is_file():
            return None if package.holds(candidate) else _ignored(where, candidate, package)
    return None  # an installed package: the image has it, or importing it will tell


def _data_left_out(text: str, package: Package) -> Problem | None:
    path = Path(text).expanduser()
    if path.is_absolute():
        return None  # a volume of the nodes; whether they have it is asked there
    inside = (package.root / path).resolve()
    if not inside.is_relative_to(package.root):
        return Problem(
            "data.source.path",
            f"{text} lies outside the working directory {package.root}, which is all that is sent",
            works="a folder inside it, a path that all nodes have, or a URI such as s3://…",
        )
    relative = inside.relative_to(package.root).as_posix()
    if not inside.exists() or package.holds(relative):
        return None  # what is not there at all is told by the check of the plan
    return _ignored("data.source.path", relative, package)


def _ignored(where: str, relative: str, package: Package) -> Problem:
    by = who_ignores(package.root, package.root / relative)
    return Problem(
        where,
        f"{relative} does not go along: {by or 'the rules'} leaves it out",
        works=f"a line !{relative} in .axisignore, which has the last word",
    )

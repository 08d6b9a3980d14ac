"""Which files of a working directory go along? What ``.gitignore`` and ``.axisignore`` leave.

The rules are git's: patterns hold from the folder of their file downwards, deeper files and later
lines win, ``!`` takes a file back in, and what lies in an ignored folder is never looked at. At
one level ``.axisignore`` has the last word, so it can take along data that git must not have. Ray's
``.rayignore`` counts as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from orchestrator.errors import StorageError

IGNORE_FILES = (".gitignore", ".rayignore", ".axisignore")
"""Read in this order; a later one has the last word."""

NEVER = (".git", ".venv", "venv", "__pycache__")
"""Names that Ray leaves out as well; ``!venv/`` in ``.axisignore`` takes one back in."""


@dataclass(frozen=True)
class Rules:
    """The patterns of one file, and the folder from which they hold."""

    folder: Path
    name: str
    spec: GitIgnoreSpec

    def verdict(self, path: Path, is_dir: bool) -> bool | None:
        """Whether the file says that ``path`` is ignored; ``None`` where it says nothing.

        The last line that means ``path`` itself counts. A line that means a folder around it has
        been heard when that folder was come by, and says nothing of what a later one took back in.
        """
        relative = path.relative_to(self.folder).as_posix() + ("/" if is_dir else "")
        for pattern in reversed(self.spec.patterns):
            if pattern.include is not None and _means(pattern, relative):
                return bool(pattern.include)
        return None


def _means(pattern: GitIgnoreSpecPattern, path: str) -> bool:
    """Whether a line means ``path`` and not a folder around it. Its expression ends with the slash
    behind what it names, or at the end of the path; that of ``folder/**`` before what it names."""
    matches = list(pattern.regex.finditer(path)) if pattern.regex is not None else []
    if not matches:
        return False
    if "ps_d" not in matches[0].groupdict():
        return not (path.endswith("/") and matches[0].end() == len(path))
    return matches[-1].end() == len(path) or matches[-1]["ps_d"] is None


@dataclass(frozen=True)
class File:
    """A file that goes along; ``path`` is relative to the working directory."""

    path: str
    size_bytes: int


def included_files(root: Path) -> list[File]:
    """The files of ``root`` that are not ignored, sorted by path. Links are followed, but never
    in a circle.

    Raises ``StorageError`` where a folder or a rule cannot be read.
    """
    root = root.resolve()
    found = list(_walk(root, root, [*_above(root)], (root,)))
    return sorted(found, key=lambda file: file.path)


def who_ignores(root: Path, path: Path) -> str:
    """The file whose rule leaves ``path`` out, or ``""`` where none does."""
    root = root.resolve()
    rules = [*_above(root), *_rules_in(root)]
    here = root
    for part in path.relative_to(root).parts:
        here = here / part
        by = _ignored_by(here, here.is_dir(), rules)
        if by is not None:
            return by
        if here.is_dir():
            rules = [*rules, *_rules_in(here)]
    return ""


def _walk(
    root: Path, folder: Path, rules: Sequence[Rules], seen: tuple[Path, ...]
) -> Iterator[File]:
    rules = [*rules, *_rules_in(folder)]
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise StorageError(f"cannot list {folder}: {error.strerror}") from error
    for entry in entries:
        path = folder / entry.name
        is_dir = entry.is_dir()
        if _ignored_by(path, is_dir, rules) is not None:
            continue
        if is_dir:
            real = path.resolve()
            if real not in seen:
                yield from _walk(root, path, rules, (*seen, real))
        elif entry.is_file():
            yield File(path.relative_to(root).as_posix(), entry.stat().st_size)


def _ignored_by(path: Path, is_dir: bool, rules: Sequence[Rules]) -> str | None:
    never = path.name in NEVER
    for each in reversed(rules):
        if never and each.name != IGNORE_FILES[-1]:
            continue
        verdict = each.verdict(path, is_dir)
        if verdict is not None:
            return str(each.folder / each.name) if verdict else None
    return "the names that never go along" if never else None


def _rules_in(folder: Path) -> list[Rules]:
    found = []
    for name in IGNORE_FILES:
        try:
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"cannot read {folder / name}: {error}") from error
        found.append(Rules(folder, name, GitIgnoreSpec.from_lines(lines)))
    return found


def _above(root: Path) -> Iterator[Rules]:
    """The rules of the folders around ``root``, up to the top of its git repository."""
    top = next((each for each in (root, *root.parents) if (each / ".git").exists()), root)
    between = [each for each in root.parents if each == top or top in each.parents]
    for folder in reversed(between if top != root else []):
        yield from _rules_in(folder)

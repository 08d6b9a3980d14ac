"""A small text corpus through the whole pipeline: good files, bad files, none at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.axis_command import Axis

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

TINY = (
    "options.layers=1",
    "options.hidden=16",
    "options.heads=2",
    "options.kv_heads=1",
    "options.ffn=32",
    "options.seq_len=32",
    "training.steps=4",
    "training.global_batch=8",
    "data.holdout=0.2",
    "inference=null",
)


def _corpus(folder: Path) -> Path:
    folder.mkdir()
    for number in range(6):
        (folder / f"poem-{number}.txt").write_text(f"line {number} of a poem\n" * 40)
    (folder / "broken.txt").write_bytes(b"caf\xe9 \xff\xfe not utf-8\n" * 20)
    return folder


def _plan(axis: Axis, folder: Path) -> tuple[str, ...]:
    source = f"data.source={{kind: text, path: '{folder}', glob: '*.txt'}}"
    return ("run", "configs/gpt-stdlib.yaml", f"storage={axis.storage}", source, *TINY)


@pytest.mark.slow
def test_a_corrupt_file_is_named_and_counted_and_the_rest_is_used(
    axis: Axis, tmp_path: Path
) -> None:
    folder = _corpus(tmp_path / "corpus")
    done = axis(*_plan(axis, folder))
    assert done.code == 0, done
    assert "broken.txt" in done.out, "the summary names it"
    assert "1 file" in done.out
    store = axis.events("gpt-stdlib", "store-ready")[0]["store"]
    assert store["num_bad_files"] == 1
    manifest = next((axis.storage / "_stores").glob("*/store.json"))
    assert json.loads(manifest.read_text())["num_rows_read"] == 6

    # The same corpus again, but not one bad file is allowed: refused, and nothing is lost.
    before = sorted(p.name for p in (axis.storage / "gpt-stdlib" / "checkpoints").iterdir())
    strict = axis(*_plan(axis, folder), "data.max_bad_files=0", "name=strict")
    assert strict.code == 2, strict
    assert "broken.txt" in strict.out + strict.err
    assert "max_bad_files" in strict.out + strict.err
    after = sorted(p.name for p in (axis.storage / "gpt-stdlib" / "checkpoints").iterdir())
    assert before == after


def test_an_empty_corpus_is_refused(axis: Axis, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "nothing.txt").write_text("")
    empty = axis(*_plan(axis, folder))
    assert empty.code == 2, empty
    assert "empty corpus" in empty.out + empty.err

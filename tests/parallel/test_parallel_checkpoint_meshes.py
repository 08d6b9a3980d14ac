"""What was saved on one mesh is loaded on every other, bit by bit, and written once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from checkpoint_cases import MESHES, SIZES, Net, draft
from gloo_gang import Gang
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.parallel.manifest import read_manifest
from orchestrator.parallel.pieces import Holding, deal_out
from orchestrator.storage import Storage

Saved = dict[str, str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("meshes"))


@pytest.fixture(scope="module")
def saved(gang: Gang, run: str) -> Saved:
    """The same state saved on every mesh; each mesh with its folder."""
    folders = {}
    for step, kind in enumerate(MESHES, start=1):
        gang.run("checkpoint_cases:save_case", SIZES[kind], kind, run, step)
        folders[kind] = draft(step).folder
    return folders


@pytest.mark.gloo
@pytest.mark.parametrize("kind", MESHES)
def test_every_mesh_loads_what_any_other_saved(
    gang: Gang, run: str, saved: Saved, kind: str
) -> None:
    folders = list(saved.values())
    for found in gang.run("checkpoint_cases:load_case", SIZES[kind], kind, run, folders):
        assert found == {folder: [] for folder in folders}


@pytest.mark.gloo
def test_every_byte_is_written_once_and_by_several_workers(run: str, saved: Saved) -> None:
    """Whatever the mesh, files hold one copy; a tensor in a file costs 1 to 2 kB around it."""
    sizes = {}
    for kind, folder in saved.items():
        manifest = read_manifest(Storage.open(run).child(folder))
        data = {f.name: f.size_bytes for f in manifest.files if f.name.endswith(".distcp")}
        assert len(data) == SIZES[kind], "every worker writes a part"
        assert max(data.values()) < 2.5 * min(data.values()), (kind, data)
        sizes[kind] = sum(data.values())
    assert sizes["copies"] == pytest.approx(sizes["whole"], rel=0.01)
    assert sizes["pp"] == pytest.approx(sizes["whole"], rel=0.01)


@pytest.mark.gloo
def test_another_model_on_one_stage_is_refused_by_all(gang: Gang, run: str, saved: Saved) -> None:
    told = gang.run("checkpoint_cases:other_model_case", 2, "pp", run, saved["fsdp4"])
    assert told[0] == told[1]
    assert told[0].startswith("ResumeRefused")
    assert "model/norm.bias is [7] here and [6] there" in told[0]


@pytest.mark.gloo
@pytest.mark.parametrize("kind", ["fsdp2", "copies", "pp"])
def test_training_goes_on_while_a_checkpoint_is_written(
    gang: Gang, tmp_path: Path, kind: str
) -> None:
    told = gang.run("checkpoint_cases:asynchronous_case", SIZES[kind], kind, str(tmp_path))
    folders = [draft(1).folder, draft(2).folder]
    for rank, each in enumerate(told):
        assert each["committed_early"] is None, "begin returned before the gate was opened"
        assert each["folders"] == folders
        assert each["same_memory"]
        assert each["released"]
        assert each["savings"] == 2
        assert each["commits"] == ([1, 2] if rank == 0 else [])
        assert all(0 < stall < whole for stall, whole in each["times"])
        assert set(each["tensors"]) == {n for n in Net().state_dict() if n != "head.weight"}
    loaded = gang.run("checkpoint_cases:load_case", 1, "whole", str(tmp_path), folders)
    assert loaded == [{folder: [] for folder in folders}], "the state as it was, not as it became"
    if kind == "copies":  # each of four copies stages about a quarter
        assert max(each["staged_bytes"] for each in told) < 0.5 * told[0]["held_bytes"]


@pytest.mark.gloo
def test_a_synchronous_checkpoint_is_waited_for(gang: Gang, tmp_path: Path) -> None:
    for each in gang.run("checkpoint_cases:synchronous_case", 2, str(tmp_path)):
        assert each == {"committed": draft(3).folder, "staged_bytes": 0, "stalled": True}


@pytest.mark.gloo
@pytest.mark.parametrize(
    ("how", "words", "left"),
    [
        ("fenced", ["Fenced: attempt 1 is over"], [draft(4).folder]),
        ("saving", ["StorageError: worker 1: OSError: the wire is cut"], []),
        ("defect", ["StorageError: worker 0: KeyError: 'who wrote this?'"], [draft(4).folder]),
        (
            "full",
            ["StorageError: worker 1: cannot write", "No space left on device after", "are free"],
            [],
        ),
    ],
)
def test_what_goes_wrong_in_the_background_is_told_to_all(
    gang: Gang, tmp_path: Path, how: str, words: Sequence[str], left: Sequence[str]
) -> None:
    told = gang.run("checkpoint_cases:failing_case", 2, how, str(tmp_path))
    assert told[0]["told"] == told[1]["told"]
    for each in told:
        assert each["failed"]
        assert [word for word in words if word not in each["told"]] == []
        assert each["left"] == left
        assert each["after"] == draft(5).folder, "the next one is none the worse for it"


@pytest.mark.gloo
def test_waiting_has_a_deadline(gang: Gang, tmp_path: Path) -> None:
    for each in gang.run("checkpoint_cases:slow_case", 2, str(tmp_path)):
        assert each["told"].startswith(f"DeadlineExceeded: {draft(6).folder} was not written")
        assert each["later"] == draft(6).folder


@pytest.mark.gloo
def test_leaving_lets_a_checkpoint_come_to_its_end(gang: Gang, tmp_path: Path) -> None:
    assert gang.run("checkpoint_cases:leaving_case", 2, str(tmp_path)) == [draft(7).folder] * 2


HOLDINGS = st.lists(
    st.tuples(st.integers(0, 1000), st.sets(st.integers(0, 5), min_size=1)), max_size=20
)


@pytest.mark.unit
@given(HOLDINGS)
def test_every_piece_is_given_to_one_of_its_holders(pieces: list[tuple[int, set[int]]]) -> None:
    held = [
        [Holding(f"p{i}", (0,), size) for i, (size, ranks) in enumerate(pieces) if rank in ranks]
        for rank in range(6)
    ]
    given_out = deal_out(held)
    for index, (_, ranks) in enumerate(pieces):
        writers = [rank for rank in range(6) if f"p{index}" in given_out[rank]]
        assert len(writers) == 1
        assert writers[0] in ranks
    assert sum(map(len, given_out)) == len(pieces)


@pytest.mark.unit
@given(st.lists(st.integers(0, 10**9), max_size=30), st.integers(1, 8))
def test_copies_share_the_writing_evenly(sizes: list[int], num_ranks: int) -> None:
    holdings = [Holding(f"p{i}", (), size) for i, size in enumerate(sizes)]
    loads = [
        sum(sizes[int(name[1:])] for name in names) for names in deal_out([holdings] * num_ranks)
    ]
    assert sum(loads) == sum(sizes)
    assert max(loads) - min(loads) <= max(sizes, default=0)


@pytest.mark.unit
def test_shards_of_one_name_are_pieces_of_their_own() -> None:
    left, right = Holding("w", (0, 0), 8), Holding("w", (4, 0), 8)
    assert deal_out([[left], [right]]) == [{"w"}, {"w"}]
    assert deal_out([[left], [right], [left], [right]]) == [{"w"}, {"w"}, set(), set()]

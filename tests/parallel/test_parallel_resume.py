"""An interrupted run must go on as if nothing had happened, on any number of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gloo_gang import Gang
from small_runs import DIGITS, GPT, Stores

pytestmark = pytest.mark.gloo

TEXTS = {"digits": DIGITS, "gpt": GPT}


@pytest.mark.parametrize(("name", "after"), [("gpt", (2, 1, 4)), ("digits", (2, 4))])
def test_resumed_losses_are_those_of_an_uninterrupted_run(
    gang: Gang, stores: Stores, new_run: Callable[[], str], name: str, after: tuple[int, ...]
) -> None:
    """Stopped by one worker's wish after step 7 of 20; bit by bit at the same worker count."""
    text, store = TEXTS[name], getattr(stores, name)
    whole = gang.run("train_case", 2, text, (), store, new_run())[0]
    run = new_run()
    first = gang.run("train_case", 2, text, (), store, run, None, 1, {1: 7})
    for rank in first:
        assert rank["result"].stopped
        assert rank["result"].step == 7
        assert rank["evaluations"] == []
    for attempt, size in enumerate(after, start=2):
        rest = gang.run("train_case", size, text, (), store, run, first[0]["result"].checkpoint,
                        attempt)  # fmt: skip
        assert not rest[0]["result"].stopped
        losses = first[0]["losses"] + rest[0]["losses"]
        assert len(losses) == 20
        if size == 2:
            assert losses == whole["losses"]
            assert rest[0]["result"].metrics == whole["result"].metrics
        else:
            np.testing.assert_allclose(losses, whole["losses"], rtol=1e-5)


def test_every_sample_is_used_once_per_epoch(
    gang: Gang, stores: Stores, new_run: Callable[[], str]
) -> None:
    """160 samples to train on, 16 a step: two epochs in 20 steps, stopped in each of them."""
    run, used = new_run(), Counter[tuple[int, int]]()
    checkpoint = None
    for attempt, (size, stop) in enumerate(((4, 3), (1, 11), (2, None)), start=1):
        stops = {0: stop} if stop else None
        ranks = gang.run(
            "train_case", size, DIGITS, (), stores.digits, run, checkpoint, attempt, stops
        )
        for rank in ranks:
            count_ids(rank["ids"], used)
        checkpoint = ranks[0]["result"].checkpoint
    assert ranks[0]["result"].step == 20
    for epoch in (0, 1):
        ids = {sample: count for (e, sample), count in used.items() if e == epoch}
        assert len(ids) == 160
        assert set(ids.values()) == {1}
    assert {sample for e, sample in used if e == 0} == {sample for e, sample in used if e == 1}


def count_ids(steps: list[tuple[int, list[int]]], used: Counter[tuple[int, int]]) -> None:
    for step, ids in steps:
        epoch = (step - 1) * 16 // 160
        used.update((epoch, sample) for sample in ids)


def test_a_finished_run_has_nothing_to_do(
    gang: Gang, stores: Stores, new_run: Callable[[], str]
) -> None:
    run = new_run()
    done = gang.run("train_case", 2, DIGITS, (), stores.digits, run)[0]["result"]
    again = gang.run("train_case", 1, DIGITS, (), stores.digits, run, done.checkpoint, 2)[0]
    assert again["result"] == done
    assert again["losses"] == []
    assert again["manifests"] == []


def test_a_refused_commit_fences_every_worker(
    gang: Gang, stores: Stores, new_run: Callable[[], str]
) -> None:
    heard = gang.run("fenced_case", 2, DIGITS, stores.digits, new_run())
    assert heard == ["attempt 1 is over"] * 2


def test_damage_in_one_worker_s_share_is_heard_by_all(
    gang: Gang, stores: Stores, new_run: Callable[[], str]
) -> None:
    run = new_run()
    done: Any = gang.run("train_case", 2, DIGITS, (), stores.digits, run)[0]["result"]
    for name in ("__0_0.distcp", "__1_0.distcp"):
        path = Path(run, done.checkpoint, name)
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        heard = gang.run("damaged_case", 2, DIGITS, stores.digits, run, done.checkpoint)
        assert all(text.startswith("DamagedCheckpointError") and name in text for text in heard)
        path.write_bytes(sound)

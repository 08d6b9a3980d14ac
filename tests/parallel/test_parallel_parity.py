"""The number of workers must not change what is computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gloo_gang import Gang
from small_runs import DIGITS, GPT, Stores

pytestmark = pytest.mark.gloo

TEXTS = {"digits": DIGITS, "gpt": GPT}


@pytest.mark.parametrize("name", ["digits", "gpt"])
def test_losses_agree_for_1_2_and_4_workers(
    gang: Gang, stores: Stores, new_run: Callable[[], str], name: str
) -> None:
    """A scalar mean loss (digits) and a weighted one (gpt), 20 steps, float32."""
    store = getattr(stores, name)
    runs = {
        size: gang.run("train_case", size, TEXTS[name], (), store, new_run()) for size in (1, 2, 4)
    }
    alone = runs[1][0]
    assert alone["steps"] == list(range(1, 21))
    assert alone["losses"][-1] < alone["losses"][0]
    for size in (2, 4):
        for rank in runs[size]:
            np.testing.assert_allclose(rank["losses"], alone["losses"], rtol=1e-5)
            np.testing.assert_allclose(rank["norms"], alone["norms"], rtol=1e-4)
            for here, there in zip(rank["evaluations"], alone["evaluations"], strict=True):
                assert here["metrics"] == pytest.approx(there["metrics"], rel=1e-5)
                assert here["num_samples"] == there["num_samples"]


@pytest.mark.parametrize("name", ["digits", "gpt"])
def test_micro_batches_do_not_change_losses(
    gang: Gang, stores: Stores, new_run: Callable[[], str], name: str
) -> None:
    store = getattr(stores, name)
    cuts = {
        micro: gang.run(
            "train_case", 2, TEXTS[name], (f"training.micro_batch={micro}", "training.workers=2"),
            store, new_run(),
        )[0]["losses"]
        for micro in (8, 2)
    }  # fmt: skip
    np.testing.assert_allclose(cuts[2], cuts[8], rtol=1e-5)


@pytest.mark.parametrize("name", ["digits", "gpt"])
@pytest.mark.parametrize(("size", "accumulation"), [(1, 4), (2, 1), (4, 2)])
def test_averaged_partial_gradients_are_the_gradient(
    gang: Gang, stores: Stores, name: str, size: int, accumulation: int
) -> None:
    """In double precision, to 1e-6, on every rank."""
    store = getattr(stores, name)
    whole = gang.run("gradient_case", 1, TEXTS[name], store, 1)[0]
    parts = gang.run("gradient_case", size, TEXTS[name], store, accumulation)
    for rank in parts:
        assert rank.keys() == whole.keys()
        for parameter, gradient in whole.items():
            assert np.abs(gradient).max() > 0
            np.testing.assert_allclose(
                rank[parameter], gradient, rtol=1e-6, atol=1e-6 * np.abs(gradient).max()
            )


def test_dropout_does_not_depend_on_the_number_of_workers(
    gang: Gang, stores: Stores, new_run: Callable[[], str]
) -> None:
    """Random numbers belong to the position in the run; elastic plans have one micro-batch."""
    alone = gang.run("noisy_case", 1, (), DIGITS, stores.digits, new_run())[0]
    shared = gang.run("noisy_case", 4, (), DIGITS, stores.digits, new_run())[0]
    np.testing.assert_allclose(shared, alone, rtol=1e-5)
    other = gang.run("noisy_case", 1, ("seed=1",), DIGITS, stores.digits, new_run())[0]
    assert not np.allclose(other, alone, rtol=1e-3)


def test_buffers_are_the_first_worker_s_everywhere(gang: Gang) -> None:
    first, second = gang.run("buffers_case", 2)
    assert first[0] != second[0]
    assert first[1] == second[1] == first[0]


@pytest.mark.parametrize("size", [1, 2])
def test_a_parameter_without_a_gradient_is_named(
    gang: Gang, stores: Stores, new_run: Callable[[], str], size: int
) -> None:
    """Alike on any number of workers, though one could go on."""
    heard = gang.run("idle_case", size, DIGITS, stores.digits, new_run())
    for text in heard:
        assert text.startswith("the loss does not depend on idle.weight, idle.bias; use them")

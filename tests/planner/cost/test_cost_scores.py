"""Scores: errors, ranks, the null model and regret on numbers small enough to check."""

from __future__ import annotations

import math

import pytest

from benchmarks.accuracy.scores import Pair, choice, null_pairs, rank_correlation, score

pytestmark = pytest.mark.unit


def test_errors():
    found = score([Pair("a", 11, 10), Pair("b", 15, 20), Pair("c", 30, 30)])
    assert found.mean == pytest.approx((0.1 + 0.25 + 0) / 3)
    assert (found.median, found.worst) == (pytest.approx(0.1), pytest.approx(0.25))
    assert found.bias == pytest.approx((0.1 - 0.25) / 3)


def test_ranks_share_ties():
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(math.sqrt(3) / 2)
    assert math.isnan(rank_correlation([1, 1], [1, 2]))


def test_the_null_model_is_one_constant():
    pairs = [Pair("a", 0, 2, work=1), Pair("b", 0, 4, work=2), Pair("c", 0, 8, work=2)]
    # Shares 0.5, 0.5 and 0.25: the median is 0.5.
    assert [pair.predicted for pair in null_pairs(pairs)] == [2, 4, 4]


def test_regret_is_what_the_choice_costs_in_its_cell():
    pairs = [
        Pair("a", 1, 12, cell=(1,)),
        Pair("b", 2, 10, cell=(1,)),
        Pair("c", 1, 5, cell=(2,)),
        Pair("d", 2, 6, cell=(2,)),
        Pair("alone", 1, 1, cell=(3,)),
    ]
    made = choice(pairs)
    assert (made.cells, made.best_found, made.within_three) == (2, 0.5, 1.0)
    assert made.mean_regret == pytest.approx(0.1)
    assert made.worst_regret == pytest.approx(0.2)

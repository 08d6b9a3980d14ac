"""Sample stores, plans, and four processes that wait to be a process group."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # spawned processes import the cases by name

from gloo_gang import Gang
from mesh_runs import Outcome, train_on
from small_runs import Stores, make_stores

from orchestrator.plan.mesh import Mesh


@pytest.fixture(scope="session")
def gang() -> Iterator[Gang]:
    """Four processes with torch imported; ``gang.run(case, size, *arguments)``."""
    with Gang(4) as started:
        yield started


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """Sample stores of both shipped jobs, small."""
    return make_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[[], str]:
    """Names of run folders that nobody uses."""
    taken: list[Any] = []

    def name() -> str:
        taken.append(None)
        return str(tmp_path / f"run-{len(taken)}")

    return name


@pytest.fixture(scope="session")
def gang8() -> Iterator[Gang]:
    """Eight of them, for larger meshes."""
    with Gang(8) as started:
        yield started


@pytest.fixture(scope="session")
def alone(gang8: Gang, stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Twenty steps of the small GPT on one process."""
    return train_on(gang8, Mesh(), stores.gpt, str(tmp_path_factory.mktemp("alone")))

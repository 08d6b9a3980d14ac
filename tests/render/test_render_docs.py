"""The pages about Kubernetes and Slurm say what is so."""

from __future__ import annotations

import re

import pytest
import yaml

from orchestrator.plan.section import Section
from orchestrator.render.profile import Profile, load_profile
from orchestrator.render.slurm import SlurmProfile, load_slurm_profile
from tests.axis_command import Axis
from tests.render.kubernetes_schemas import ROOT

pytestmark = pytest.mark.unit

PAGES: dict[str, type[Section]] = {"kubernetes": Profile, "slurm": SlurmProfile}


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_the_table_has_each_field_and_what_it_says(name: str) -> None:
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| .*? \| (.*) \|$", page(name)))
    said = {
        field: " ".join((info.description or "").split()).replace("``", "`")
        for field, info in PAGES[name].model_fields.items()
    }
    assert {field: rows.get(field) for field in said} == said


def test_the_profiles_that_are_shown_are_profiles() -> None:
    for name in PAGES:
        for text in re.findall(r"(?s)```yaml\n(# ours\.yaml.*?)```", page(name)):
            assert yaml.safe_load(text)
            if name == "slurm":
                load_slurm_profile({"ours.yaml": text})
            else:
                load_profile(["gke", "spot", "ours.yaml"], {"ours.yaml": text})


def test_the_refusal_that_is_shown_is_real(axis: Axis) -> None:
    (shown,) = re.findall(r"```\n(error: .*?)```", page("kubernetes"), re.DOTALL)
    done = axis(
        "render", "configs/gpt-stdlib.yaml", "training.resources.gpu=1", "--profile", "kind"
    )
    assert done.err == shown, done


@pytest.mark.parametrize("name", PAGES)
def test_each_path_and_link_is_there(name: str) -> None:
    text = page(name)
    for path in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / "docs" / path).exists(), path
    for path in re.findall(r"(?:deploy|configs)/[\w.-]+", text):
        assert (ROOT / path).exists(), path

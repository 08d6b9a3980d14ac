"""Trees of values survive being written, whoever reads them; comments stand where they should."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from orchestrator.render.yaml_text import Note, document, documents, plain

pytestmark = pytest.mark.unit

KEYS = st.one_of(
    st.text(min_size=1, max_size=12),
    st.sampled_from(["on", "yes", "no", "~", "null", "1", "1:30", "a: b", "# c", "nvidia.com/gpu"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.text(max_size=60),
    KEYS,
    st.sampled_from(["two\nlines\n", "no\nend", " lead\n", "tab\tin\n", "0x1f", "0o17", "1e3", ""]),
)


def _noted(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    note = st.builds(Note, values, st.sampled_from(["why", "a comment # of two: parts " * 9]))
    return st.one_of(values, note)


NODES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(_noted(inner), max_size=4), st.dictionaries(KEYS, _noted(inner), max_size=4)
    ),
    max_leaves=12,
)
TREES = st.dictionaries(KEYS, _noted(NODES), min_size=1, max_size=5)


@given(TREES)
def test_what_is_written_is_read_back(tree: dict[str, Any]) -> None:
    text = document(tree, "a heading")
    assert yaml.safe_load(text) == plain(tree)  # YAML 1.1, as Kubernetes' tools read
    assert YAML(typ="safe", pure=True).load(text) == plain(tree)  # YAML 1.2
    assert document(tree, "a heading") == text


def test_comments_stand_above_what_they_are_about() -> None:
    tree = {
        "spec": Note(
            {"size": Note(0, "why zero"), "items": [{"name": Note("x", "first")}]}, "spec"
        ),
        "list": [Note("one", "the first"), "two"],
    }
    assert document(tree, "Head\n\nof two") == (
        "# Head\n#\n# of two\n# spec\nspec:\n  # why zero\n  size: 0\n  items:\n"
        "    # first\n    - name: x\nlist:\n  # the first\n  - one\n  - two\n"
    )


def test_long_comments_are_wrapped_and_long_values_are_not() -> None:
    text = document({"a": Note("b " * 90 + "b", "word " * 60)})
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(comments) > 1
    assert max(map(len, comments)) <= 100
    assert yaml.safe_load(text) == {"a": "b " * 90 + "b"}
    assert len(text.splitlines()) == len(comments) + 1


def test_documents_follow_one_another() -> None:
    stream = documents([document({"a": 1}), document({"b": 2}, "second")])
    assert list(yaml.safe_load_all(stream)) == [{"a": 1}, {"b": 2}]

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.plan.yaml_tree import read_tree

pytestmark = pytest.mark.unit


def value_of(text: str) -> Any:
    tree = read_tree(f"x: {text}\n", "f")
    assert tree.problems == []
    return tree.root["x"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("3e4", 3e4),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1", -1),
        ("+7", 7),
        ("1_000_000", 1_000_000),
        ("0x10", 16),
        ("0o17", 15),
        ("017", 17),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("50ms", "50ms"),
        ("'8'", "8"),
        ("_1", "_1"),
        ("=", "="),
        ("e4", "e4"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    parsed = value_of(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_anchors_and_merges() -> None:
    tree = read_tree("a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, y: 3}\nd: {<<: [*a, {z: 1}]}\n", "f")
    assert tree.problems == []
    assert tree.root["b"] == {"x": 1, "y": 2}
    assert tree.root["c"] == {"x": 1, "y": 3}
    assert tree.root["d"] == {"x": 1, "y": 2, "z": 1}
    tree.root["b"]["x"] = 9
    assert tree.root["a"]["x"] == 1


@pytest.mark.parametrize(
    ("text", "where", "what", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "a", "comes twice; it was set on line 1 already", 3),
        ("a:\n  x: 1\n  x: 1\n", "a.x", "comes twice; it was set on line 2 already", 3),
        ("a: {3: x}\n", "a.3", "is a key that is not text", 1),
        ("a: {true: x}\n", "a.true", "is a key that is not text", 1),
        ("a: {[1]: x}\n", "a", "has a list or a mapping as a key; keys are text", 1),
        ("a: .inf\n", "a", ".inf is not a finite number", 1),
        ("a: -.INF\n", "a", "-.INF is not a finite number", 1),
        ("a: .nan\n", "a", ".nan is not a finite number", 1),
        ("a: 1e999\n", "a", "1e999 is not a finite number", 1),
        ("b: 1\na: &a [*a]\n", "a.0", "contains itself through an alias", 2),
        ("a: {<<: 3}\n", "a", "<<: merges a mapping, such as *name of one", 1),
        ("a: !!python/object/apply:os.system [ls]\n", "a",
         "has the tag tag:yaml.org,2002:python/object/apply:os.system; "
         "a plan holds plain values only", 1),
        ("a: !mine 3\n", "a", "has the tag !mine; a plan holds plain values only", 1),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, where: str, what: str, line: int) -> None:
    tree = read_tree(text, "f")
    (problem,) = tree.problems
    assert (problem.where, problem.what, problem.line) == (where, what, line)


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 9):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    tree = read_tree("\n".join(lines), "f")
    assert any("more than 100000 values" in problem.what for problem in tree.problems)

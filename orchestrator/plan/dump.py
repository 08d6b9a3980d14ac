"""How is a plan written down: as YAML that reloads equal, as a hash, as a JSON Schema?"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from orchestrator import __version__
from orchestrator.plan.plan import Plan
from orchestrator.plan.section import Section
from orchestrator.plan.yaml_dialect import PlanDumper

PLAN_FILE = "plan.yaml"
"""The plan a run began with, resolved, in the run's folder."""

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def plan_values(plan: Plan) -> dict[str, Any]:
    """Every field of the plan as JSON-able values, quantities spelled with their units."""
    return plan.model_dump(mode="json")


def plan_hash(plan: Plan) -> str:
    """SHA-256, in hexadecimal, of the plan's values as JSON with sorted keys."""
    text = json.dumps(plan_values(plan), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def dump_plan(plan: Plan) -> str:
    """The plan as YAML, all defaults written out; ``load_plan`` reads it back equal."""
    body = yaml.dump(
        plan_values(plan),
        Dumper=PlanDumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=96,  # PyYAML breaks a line after the item that crosses it
    )
    return (
        f"# Axis plan, resolved by axis-orchestrator {__version__}: every default is written out.\n"
        f"# sha256 {plan_hash(plan)}\n"
        f"{body}"
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a plan, for editors: every field with type, default and description."""
    schema = Plan.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    sections: list[type[Section]] = [Plan, *Section.__subclasses__()]
    for section in sections:
        definition = schema if section is Plan else definitions.get(section.__name__)
        if definition is not None:
            _spell_out(definition, section)
    for definition in definitions.values():
        _require_kind(definition)
    _allow_default_kind(definitions["AdamW"])
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "Axis plan",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _spell_out(definition: dict[str, Any], section: type[Section]) -> None:
    """Write defaults the way a person would (``2m``, not 120.0), descriptions on one line."""
    defaults = section.model_construct()
    for name, entry in definition["properties"].items():
        entry["description"] = " ".join(entry["description"].split())
        if "default" in entry:
            entry["default"] = defaults.model_dump(mode="json", include={name})[name]


def _require_kind(definition: dict[str, Any]) -> None:
    # Two kinds of section share keys; without a required kind both would match.
    kind = definition["properties"].get("kind", {})
    if "const" in kind:
        definition["required"] = ["kind", *definition.get("required", [])]
        kind.pop("default", None)


def _allow_default_kind(definition: dict[str, Any]) -> None:
    # An optimizer without a kind is AdamW.
    definition["properties"]["kind"]["default"] = definition["properties"]["kind"]["const"]
    definition["required"].remove("kind")

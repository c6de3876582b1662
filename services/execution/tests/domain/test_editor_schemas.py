"""What editors are told of definition files is what saving them says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from execution.domain.agents import AGENT_KINDS
from execution.domain.editor_schemas import agent_schema, orchestration_schema
from execution.domain.orchestrations import PATTERNS

SAMPLES = sorted((Path(__file__).parents[4] / "samples").rglob("*.*.yaml"))
SCHEMAS = {"agent": agent_schema(), "orchestration": orchestration_schema()}


def faults(kind: str, document: Any) -> list[str]:
    validator = jsonschema_rs.Draft202012Validator(SCHEMAS[kind])
    return [error.message for error in validator.iter_errors(document)]


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_every_sample_fits(file: Path) -> None:
    kind = file.name.split(".")[-2]
    assert faults(kind, yaml.safe_load(file.read_text())) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("write.agent.yaml", {"kind": "wizard"}),
        ("write.agent.yaml", {"wish": 1}),
        ("write.agent.yaml", {"metadata": {"name": "x", "wish": 1}}),
        ("write.agent.yaml", {"limits": {"timeout": "soon"}}),
        ("write.agent.yaml", {"limits": {"timeout": 60}}),
        ("write.agent.yaml", {"flow": {"concurrency": {"limit": 0}}}),
        ("serve.orchestration.yaml", {"pattern": "wizardry"}),
        ("serve.orchestration.yaml", {"flow": {"rate": {"limit": 1}}}),
        ("serve.orchestration.yaml", {"steps": []}),
        ("serve.orchestration.yaml", {"agents": {"writer": {"version": "current"}}}),
    ],
)
def test_what_would_be_refused_is_marked(name: str, change: dict[str, Any]) -> None:
    file = next(each for each in SAMPLES if each.name == name)
    assert faults(name.split(".")[-2], yaml.safe_load(file.read_text()) | change)


def test_every_kind_and_pattern_is_offered() -> None:
    assert SCHEMAS["agent"]["properties"]["kind"]["enum"] == list(AGENT_KINDS)
    assert SCHEMAS["orchestration"]["properties"]["pattern"]["enum"] == list(PATTERNS)

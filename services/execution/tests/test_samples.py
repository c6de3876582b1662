"""The files people start with: each is accepted, applied twice without a change, and can be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from services.execution.tests.stage import Place, Stage

from execution.domain.orchestrations import PATTERNS

SAMPLES = Path(__file__).parents[3] / "samples"
AGENTS = sorted(SAMPLES.rglob("*.agent.yaml"))
ORCHESTRATIONS = sorted(SAMPLES.rglob("*.orchestration.yaml"))


def an_input(config_yaml: str) -> dict[str, Any]:
    """What a sample asks for: a short text for each property, or a list of them."""
    properties = (yaml.safe_load(config_yaml).get("input_schema") or {}).get("properties", {})
    return {name: ["tea", "water"] if schema["type"] == "array" else "tea" for name, schema in properties.items()}


def only_lends_tools(config_yaml: str) -> bool:
    """Whether the sample does nothing by itself."""
    config = yaml.safe_load(config_yaml)
    return config.get("kind") == "mcp" and "tools" in config


@pytest.mark.anyio
async def test_every_sample_is_applied_once_and_can_be_run(stage: Stage, place: Place) -> None:
    client = stage.client(place.caller("developer"))
    started = set()
    for kind, files in (("agent", AGENTS), ("orchestration", ORCHESTRATIONS)):
        for file in files:
            body = {"file": file.read_text()}
            first = await client.post(f"/v1/{kind}s/apply", body)
            assert (first.status, first.json()["changed"]) == (200, ["created"]), (file.name, first.body)
            assert (await client.post(f"/v1/{kind}s/apply", body)).json()["changed"] == []
            name = first.json()[kind]["name"]
            run = await client.post("/v1/runs", {kind: name, "input": an_input(body["file"])})
            if only_lends_tools(body["file"]):
                assert (run.status, run.json()["code"]) == (422, "only_tools"), run.body
                continue
            assert run.status == 202, run.body
            started.add(name)
    assert started >= {
        "contact",
        "greet",
        "summarize",
        "write",
        "http-agent",
        "brief",
        "compare",
        "route",
        "collect",
        "refine",
        "publish",
        "release",
        "remind",
        "serve",
        "team",
        "desk",
        "order",
    }
    patterns = {yaml.safe_load(file.read_text())["pattern"] for file in ORCHESTRATIONS}
    assert patterns == set(PATTERNS)


def test_samples_ask_little_of_the_embedded_model() -> None:
    for file in AGENTS:
        text = file.read_text()
        assert "provider: embedded" not in text or "max_output_tokens: 60" in text

from __future__ import annotations

from typing import Any

from chassis.ids import new_id
from execution.clients.agents import AgentCall
from execution.domain.agents import LlmAgent
from execution.domain.definitions import parse_agent

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def make_call(config_yaml: str, input: Any = None, **changes: Any) -> AgentCall:
    settled: dict[str, Any] = {
        "organization_id": new_id(),
        "run_id": new_id(),
        "node": "draft",
        "iteration": 0,
        "attempt": 1,
        "spec": parse_agent(config_yaml).spec,
        "input": input,
        "deadline_seconds": 20.0,
        "max_output_tokens": 500,
        "traceparent": TRACE,
    }
    settled |= changes
    if isinstance(settled["spec"], LlmAgent):
        settled.setdefault("max_tokens", settled["spec"].most_tokens(0, None))
    return AgentCall(**settled)

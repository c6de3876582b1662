"""What the two organizations run, and what each run must come to by the pure interpreter alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import orjson
from tests.agents.logging_agent import answer, completion

from execution.clients.agents import AgentErrorCode
from execution.clients.llm import prompt_of
from execution.domain.compiler import compile_agent, compile_orchestration
from execution.domain.definitions import parse_agent, parse_orchestration
from execution.domain.graph import Graph
from execution.domain.interpreter import Finished, next_work
from execution.domain.nodes import SubrunNode, Wait, WaitNode
from execution.domain.runs import RunStatus, StepStatus
from execution.domain.schemas import validate_input
from execution.domain.walk import Outcome, Ready, StepKey

PICKY = {
    "type": "object",
    "properties": {"step": {"type": "string"}, "text": {"type": "string", "pattern": "^[0-9]"}},
    "required": ["text"],
}
"""About three of eight answers do not fit: those steps fail, the same ones however often they are asked."""

_HTTP = "apiVersion: agent/v1\nkind: http\nhttp: {url: 'URL', timeout: 60s}\n"
_MCP = "apiVersion: agent/v1\nkind: mcp\nserver: {url: 'URLmcp'}\nlimits: {timeout: 60s}\n"
AGENTS = {
    "worker": _HTTP,
    "checker": _HTTP + f"retry: {{max: 1}}\noutput_schema: {orjson.dumps(PICKY).decode()}\n",
    "thinker": "apiVersion: agent/v1\nkind: llm\nmodel: {provider: embedded, max_output_tokens: 64}\n",
    "payer": _HTTP + "effects: write\n",
    "shelf": _MCP + "tools: [look]\neffects: read\n",
    "desk": _MCP + "tools: [take]\n",
}
PAYLOAD = {"text": "as agreed"}
"""What every signal says."""
ORCHESTRATIONS = {
    "sequence": """
pattern: sequential
steps:
  - {id: draft, agent: worker, in: {topic: "${input.topic}"}}
  - {id: think, agent: thinker, in: {text: "${steps.draft.output.text}"}}
  - {id: edit, agent: worker, in: {text: "${steps.think.output.text}", number: "${input.number}"}}
  - {id: polish, agent: worker}
""",
    "side_by_side": """
pattern: parallel
branches:
  - {id: left, agent: worker, in: {topic: "${input.topic}"}}
  - {id: right, agent: worker, in: {number: "${input.number}"}}
  - {id: middle, agent: thinker, in: {text: "${input.topic}"}}
merge: {agent: worker}
""",
    "picky": """
pattern: sequential
steps:
  - {id: draft, agent: worker, in: {topic: "${input.topic}"}}
  - {id: check, agent: checker}
  - {id: think, agent: thinker, in: {text: "${steps.check.output.text}"}}
""",
    "lenient": """
pattern: parallel
branches:
  - {id: first, agent: checker, in: {topic: "${input.topic}"}}
  - {id: second, agent: checker, in: {number: "${input.number}"}}
  - {id: third, agent: worker, in: {topic: "${input.topic}"}}
join: {mode: all, on_branch_error: skip}
merge: {agent: worker}
""",
    "routed": """
pattern: router
classifier: {expr: 'input.number % 2 == 0 ? "even" : "odd"'}
routes:
  even: {agent: worker}
  odd: {agent: checker, in: {number: "${input.number}"}}
""",
    "mapped": """
pattern: map_reduce
over: "${input.words}"
as: word
map: {agent: worker, in: {word: "${word}"}}
concurrency: 3
reduce: {agent: worker, in: {all: "${previous}"}}
""",
    "repeated": """
pattern: loop_until
body: {agent: worker, in: {before: "${previous}"}}
judge: {expr: 'steps.body.output.text < "4"'}
max_iterations: 4
on_exhausted: return_best
""",
    "paid": """
pattern: sequential
steps:
  - {id: draft, agent: worker}
  - {id: pay, agent: payer, in: {text: "${steps.draft.output.text}"}}
  - {id: book, agent: worker, in: {paid: "${steps.pay.output.text}"}}
""",
    "tools": """
pattern: sequential
steps:
  - {id: look, tool: {agent: shelf, name: look}, in: {topic: "${input.topic}"}}
  - {id: take, tool: {agent: desk, name: take}, in: {text: "${steps.look.output.text}"}}
  - {id: look_slowly, tool: {agent: shelf, name: look}, in: {text: "${steps.take.output.text}"}}
  - {id: book, agent: worker}
""",
    "approved": """
pattern: approval
before: {agent: payer}
approvers: {roles: [org_owner]}
bind: [topic]
""",
    "graph": """
pattern: graph
nodes:
  - {id: read, agent: worker, in: {topic: "${input.topic}"}}
  - {id: pause, timer: {for: 700ms}}
  - {id: agreed, signal: {name: agreed}}
  - {id: left, agent: worker, in: {agreed: "${steps.agreed.output.text}"}}
  - {id: right, agent: thinker, in: {text: "${steps.read.output.text}"}}
  - {id: sum, agent: worker}
edges:
  - {from: read, to: pause}
  - {from: pause, to: right}
  - {from: agreed, to: left}
  - {from: left, to: sum}
  - {from: right, to: sum, when: steps.right.output.text < "c"}
""",
    "nested": """
pattern: sequential
steps:
  - {id: draft, agent: worker, in: {topic: "${input.topic}"}}
  - {id: ask, orchestration: picky, in: {topic: "${steps.draft.output.text}"}}
  - {id: book, agent: worker, in: {asked: "${steps.ask.output.text}"}}
""",
    "nested_map": """
pattern: map_reduce
over: "${input.words}"
map: {orchestration: paid, in: {topic: "${item}"}}
concurrency: 2
item_error: skip
""",
    "long": """
pattern: graph
nodes:
  - {id: slowly, agent: worker, in: {topic: "${input.topic}"}}
  - {id: agreed, signal: {name: agreed}}
  - {id: pay_slowly, agent: payer, in: {text: "${steps.slowly.output.text}"}}
  - {id: beside, agent: worker, in: {agreed: "${steps.agreed.output.text}"}}
  - {id: sum, agent: worker}
edges:
  - {from: slowly, to: pay_slowly}
  - {from: agreed, to: beside}
  - {from: pay_slowly, to: sum}
  - {from: beside, to: sum}
""",
}
SLOWLY = {step: {"latency_ms": 2500} for step in ("slowly", "pay_slowly", "look_slowly")}
"""Steps that go on without their run, by the agent's clock; `DETACH_SECONDS` is when."""
DETACH_SECONDS = 1.0
ALONE = "worker"
"""The agent that is also run by itself."""


def agent_yaml(name: str, url: str) -> str:
    """An agent's `config_yaml`, its endpoint being at this URL."""
    return AGENTS[name].replace("URL", url)


def orchestration_yaml(name: str) -> str:
    """An orchestration's `config_yaml`."""
    return "apiVersion: orchestration/v1" + ORCHESTRATIONS[name]


@dataclass(frozen=True)
class PlannedRun:
    """One run to start: of what, with which input, under which key, and what it must come to."""

    organization: int
    subject: dict[str, str]
    input: dict[str, Any]
    key: str
    expected: Finished


def planned_runs(count: int, chance: random.Random) -> list[PlannedRun]:
    """So many runs of two organizations, in the order they are started."""
    kinds = [*ORCHESTRATIONS, ALONE]
    runs = []
    for number in range(count):
        kind = chance.choice(kinds)
        words = [f"word {chance.randrange(100)}" for _ in range(chance.randrange(5))]
        value = {"topic": f"topic {chance.randrange(1_000_000)}", "number": number, "words": words}
        subject = {"agent": kind} if kind == ALONE else {"orchestration": kind}
        runs.append(PlannedRun(number % 2, subject, value, f"chaos-{number}", expected(kind, value)))
    return runs


def expected(kind: str, value: dict[str, Any]) -> Finished:
    """The end that the interpreter gives when every agent answers as it always does."""
    graph, alone = _graph(kind), kind if kind == ALONE else None
    completed: dict[StepKey, Outcome] = {}
    while True:
        plan = next_work(graph, value, completed)
        completed.update((key, Outcome(StepStatus.SKIPPED)) for key in plan.skipped)
        if plan.finished is not None:
            return plan.finished
        for ready in plan.ready:
            completed[StepKey(ready.node.id, ready.iteration)] = _outcome(ready, alone)


def _graph(kind: str) -> Graph:
    if kind == ALONE:
        return compile_agent(parse_agent(agent_yaml(kind, "http://127.0.0.1:1/")))
    text = orchestration_yaml(kind)
    return compile_orchestration(parse_orchestration(text, aliases=tuple(AGENTS), orchestrations=tuple(ORCHESTRATIONS)))


def _outcome(ready: Ready, alone: str | None) -> Outcome:
    if isinstance(ready.node, WaitNode):
        said = {Wait.TIMER: ready.input, Wait.SIGNAL: PAYLOAD, Wait.APPROVAL: {"outcome": "approved"}}
        return Outcome(StepStatus.COMPLETED, said[ready.node.wait])
    if isinstance(ready.node, SubrunNode):
        child = expected(ready.node.orchestration, ready.input)
        if child.status == RunStatus.COMPLETED:
            return Outcome(StepStatus.COMPLETED, child.output)
        return Outcome(StepStatus.FAILED, None, f"child_{child.status}")
    agent = alone or ready.node.agent
    if agent == "thinker":
        return Outcome(StepStatus.COMPLETED, {"text": completion(prompt_of(ready.input))})
    output = answer(ready.node.id, ready.input)["output"]
    if agent == "checker" and validate_input(PICKY, output):
        return Outcome(StepStatus.FAILED, None, AgentErrorCode.INVALID_OUTPUT)
    return Outcome(StepStatus.COMPLETED, output)

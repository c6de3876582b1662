from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.agents import HttpAgent, LlmAgent, McpAgent
from execution.domain.compiler import compile_orchestration
from execution.domain.definitions import (
    agent_of,
    orchestration_of,
    parse_agent,
    parse_orchestration,
)
from execution.domain.nodes import Effects, SubrunNode
from execution.domain.orchestrations import Parallel, Sequential
from execution.domain.problems import MAX_PROBLEMS, DefinitionError
from execution.domain.retries import RetryPolicy

AGENT = """\
apiVersion: agent/v1
kind: llm
model: {provider: embedded, temperature: 0, max_output_tokens: 60}
instructions: "Write about ${input.topic}."
input_schema: {type: object, properties: {topic: {type: string}}, required: [topic]}
limits: {max_cost_usd: "0.50", max_tokens: 20000, max_tool_calls: 20, timeout: 60s}
retry: {max: 3, backoff: exponential, base: 1s, cap: 60s, jitter: full, not_on: [policy_denied, invalid_input]}
"""
HTTP = """\
apiVersion: agent/v1
kind: http
http: {url: "https://agents.example.com/run", headers: {X-Team: desk}, timeout: 30s}
effects: read
"""
MCP = """\
apiVersion: agent/v1
kind: mcp
server: {url: "https://tools.example.com/mcp", credential: desk}
tool: pages/search
effects: read
input_schema: {type: object}
limits: {timeout: 20s}
"""
SEQUENTIAL = """\
apiVersion: orchestration/v1
pattern: sequential
input_schema: {type: object, properties: {topic: {type: string}}}
limits: {max_cost_usd: "2.00", max_tokens: 200000, max_steps: 50, timeout: 15m, max_depth: 3}
defaults: {retry: {max: 5}, step_timeout: 120s}
flow: {priority: 3}
steps:
  - {id: draft, agent: writer, in: {topic: "${input.topic}"}}
  - {id: edit, agent: editor, in: {text: "${steps.draft.output.text}"}}
"""
PARALLEL = """\
apiVersion: orchestration/v1
pattern: parallel
branches: [{id: a, agent: legal}, {id: b, agent: risk}]
join: {mode: quorum, quorum: 2, on_branch_error: skip}
merge: {agent: summarizer}
"""


def refused(text: str, **options: Any) -> list[tuple[int, str, str]]:
    parse = parse_orchestration if "orchestration/v1" in text else parse_agent
    with pytest.raises(DefinitionError) as caught:
        parse(text, **options)
    return [(problem.line, problem.path, problem.code) for problem in caught.value.problems]


def test_an_llm_agent() -> None:
    definition = parse_agent(AGENT)
    spec = definition.spec
    assert isinstance(spec, LlmAgent)
    assert spec.limits.max_cost_usd == 500_000
    assert spec.timeout_seconds == 60
    assert spec.effects is Effects.READ
    assert spec.retry is not None
    assert spec.retry.policy() == RetryPolicy(not_on=frozenset({"policy_denied", "invalid_input"}))
    assert agent_of(definition.config) == spec


def test_an_agent_of_anthropic_with_and_without_an_address() -> None:
    for address in ("", ', base_url: "https://claude.example.com"'):
        model = f"provider: anthropic, name: claude-haiku-4-5, credential: mine{address}"
        spec = parse_agent(AGENT.replace("provider: embedded", model)).spec
        assert isinstance(spec, LlmAgent)
        assert (spec.model.base_url is None) == (address == "")


def test_further_models_answer_like_the_first_unless_they_say_otherwise() -> None:
    further = "[{provider: openai, name: a, credential: k}, {provider: embedded, temperature: 1, max_output_tokens: 5}]"
    spec = parse_agent(AGENT.replace("temperature: 0", f"temperature: 0.5, fallback: {further}")).spec
    assert isinstance(spec, LlmAgent)
    asked = [(model.provider, model.temperature, model.max_output_tokens) for model in spec.model.in_turn]
    assert asked == [("embedded", 0.5, 60), ("openai", 0.5, 60), ("embedded", 1, 5)]
    assert [(key.name, key.provider) for key in spec.keys] == [("k", "openai")]


def test_an_http_agent() -> None:
    spec = parse_agent(HTTP).spec
    assert isinstance(spec, HttpAgent)
    assert (spec.http.url, spec.http.headers, spec.timeout_seconds) == (
        "https://agents.example.com/run",
        {"X-Team": "desk"},
        30,
    )
    assert spec.effects is Effects.READ


def test_a_sequential_orchestration() -> None:
    definition = parse_orchestration(SEQUENTIAL, aliases=["writer", "editor"])
    spec = definition.spec
    assert isinstance(spec, Sequential)
    assert [step.id for step in spec.steps] == ["draft", "edit"]
    assert spec.limits.limits().max_cost_usd_micros == 2_000_000
    assert spec.flow.priority == 3
    assert orchestration_of(definition.config) == spec


def test_a_parallel_orchestration() -> None:
    spec = parse_orchestration(PARALLEL).spec
    assert isinstance(spec, Parallel)
    assert (spec.join.mode, spec.join.quorum) == ("quorum", 2)


def test_metadata_and_key_order_do_not_change_the_digest_and_everything_else_does() -> None:
    plain = parse_agent(AGENT)
    named = parse_agent(AGENT + 'metadata: {name: writer, workspace: staging, version: "1.2.0", risk_level: low}\n')
    assert named.digest == plain.digest
    assert named.metadata is not None
    assert (named.metadata.name, named.metadata.version) == ("writer", "1.2.0")
    assert "metadata" not in named.config
    turned = "".join(reversed(AGENT.splitlines(keepends=True)))
    assert parse_agent(turned).digest == plain.digest
    assert parse_agent(AGENT.replace("60}", "61}")).digest != plain.digest


def test_agents_of_a_file_are_checked_and_kept_apart() -> None:
    text = SEQUENTIAL + 'agents: {writer: {name: Writer, version: current}, editor: {name: Editor, version: "1.2.0"}}\n'
    definition = parse_orchestration(text)
    assert {alias: agent.version for alias, agent in definition.references.items()} == {
        "writer": "current",
        "editor": "1.2.0",
    }
    assert "agents" not in definition.config
    assert definition.digest == parse_orchestration(SEQUENTIAL).digest
    assert refused(text.replace("editor: {name", "other: {name")) == [(9, "steps[1].agent", "unknown_reference")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("apiVersion: agent/v1", "apiVersion: agent/v2"), [(1, "apiVersion", "invalid_value")]),
        (("kind: llm", "kind: robot"), [(2, "kind", "invalid_value")]),
        (("kind: llm\n", ""), [(1, "kind", "missing_key")]),
        (("kind: llm", "kind: a2a"), [(2, "kind", "not_supported_yet")]),
        (("provider: embedded", "provider: anthropic"), [(3, "model", "invalid_value")]),
        (("provider: embedded", 'provider: openai, name: x, base_url: "https://x.y"'), [(3, "model", "invalid_value")]),
        (("provider: embedded", "provider: oracle"), [(3, "model.provider", "invalid_value")]),
        (("provider: embedded", "provider: openai"), [(3, "model", "invalid_value")]),
        (("provider: embedded", "provider: openai-compatible, name: x"), [(3, "model", "invalid_value")]),
        (
            ("provider: embedded", "provider: embedded, fallback: [{provider: embedded}, {provider: openai}]"),
            [(3, "model.fallback[1]", "invalid_value")],
        ),
        (
            ("provider: embedded", "provider: embedded, fallback: [{provider: oracle, name: x, nmae: y}]"),
            [(3, "model.fallback[0].provider", "invalid_value"), (3, "model.fallback[0].nmae", "unknown_key")],
        ),
        (
            ("provider: embedded", "provider: embedded, fallback: [{provider: embedded, fallback: []}]"),
            [(3, "model.fallback[0].fallback", "unknown_key")],
        ),
        (
            ("provider: embedded", f"provider: embedded, fallback: [{', '.join(['{provider: embedded}'] * 5)}]"),
            [(3, "model.fallback", "invalid_value")],
        ),
        (("retry:", "strategy: json_action\nretry:"), [(7, "strategy", "invalid_value")]),
        (("retry:", "evals: [{name: smoke}]\nretry:"), [(7, "evals[0].expect", "missing_key")]),
        (("instructions:", "instruction:"), [(4, "instruction", "unknown_key")]),
        (("temperature: 0", "temperature: hot"), [(3, "model.temperature", "invalid_value")]),
        (("max_output_tokens: 60", 'max_output_tokens: "60"'), [(3, "model.max_output_tokens", "invalid_value")]),
        (("${input.topic}", "${input.secret}"), [(4, "instructions", "unknown_reference")]),
        (("${input.topic}", "${steps.x}"), [(4, "instructions", "invalid_expression")]),
        (("${input.topic}", "${input.topic + 'x'}"), [(4, "instructions", "invalid_expression")]),
        (
            ("{topic: {type: string}}", "{topic: {type: strin}}"),
            [(5, "input_schema.properties.topic.type", "invalid_schema")],
        ),
        (("timeout: 60s", "timeout: 60"), [(6, "limits.timeout", "invalid_value")]),
        (('"0.50"', '"-1"'), [(6, "limits.max_cost_usd", "invalid_value")]),
        (("max: 3", "max: 1000"), [(7, "retry.max", "invalid_value")]),
    ],
)
def test_each_fault_of_an_agent_is_named_with_its_place(change: tuple[str, str], expected: list[Any]) -> None:
    assert refused(AGENT.replace(*change)) == expected


def test_a_tool_agent() -> None:
    spec = parse_agent(MCP).spec
    assert isinstance(spec, McpAgent)
    assert (spec.server.url, spec.tool, spec.effects, spec.timeout_seconds) == (
        "https://tools.example.com/mcp",
        "pages/search",
        Effects.READ,
        20,
    )
    assert [(key.name, key.provider, key.base_url) for key in spec.keys] == [("desk", "mcp", spec.server.url)]
    assert parse_agent(MCP.replace("effects: read\n", "")).spec.effects is Effects.WRITE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"https://tools', '"ftp://tools'), [(3, "server.url", "invalid_value")]),
        (("credential: desk", "token: x"), [(3, "server.token", "unknown_key")]),
        (("tool: pages/search", "tool: pages search"), [(4, "tool", "invalid_value")]),
        (("tool: pages/search\n", ""), [(1, "", "invalid_value")]),
        (("effects: read", "effects: none"), [(5, "effects", "invalid_value")]),
        (("type: object", "type: objekt"), [(6, "input_schema.type", "invalid_schema")]),
    ],
)
def test_each_fault_of_a_tool_agent_is_named_with_its_place(change: tuple[str, str], expected: list[Any]) -> None:
    assert refused(MCP.replace(*change)) == expected


@pytest.mark.parametrize(
    "change",
    [
        ("https://agents.example.com/run", "ftp://agents.example.com/run"),
        ("https://agents.example.com/run", "https://user:secret@agents.example.com/"),
        ("https://agents.example.com/run", "https:///run"),
        ("https://agents.example.com/run", "https://[::1/run"),
        ("https://agents.example.com/run", "https://a.example.com:99999/"),
        ("https://agents.example.com/run", "https://a.example.com/#x"),
        ("X-Team: desk", "Authorization: Bearer x"),
        ("X-Team: desk", "Host: x"),
        ("X-Team: desk", '"X-Team": "a\\r\\nX-Admin: 1"'),
        ("X-Team: desk", '"X Team": a'),
        ("timeout: 30s", "method: DELETE"),
    ],
)
def test_each_fault_of_an_endpoint_is_refused(change: tuple[str, str]) -> None:
    changed = HTTP.replace(*change)
    assert changed != HTTP
    assert {code for _, _, code in refused(changed)} == {"invalid_value"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("id: edit", "id: draft"), [(9, "steps[1].id", "duplicate_id")]),
        (("id: edit", "id: Edit-1"), [(9, "steps[1].id", "invalid_value")]),
        (("agent: editor", "agent: nobody"), [(9, "steps[1].agent", "unknown_reference")]),
        (("steps.draft.output", "steps.edit.output"), [(9, "steps[1].in.text", "unknown_reference")]),
        (("steps.draft.output", "steps.draft.outputs"), [(9, "steps[1].in.text", "unknown_reference")]),
        (("${input.topic}", "${input.tpoic}"), [(8, "steps[0].in.topic", "unknown_reference")]),
        (("${input.topic}", "${input.topic"), [(8, "steps[0].in.topic", "invalid_expression")]),
        (("${input.topic}", "${input.topic +}"), [(8, "steps[0].in.topic", "invalid_expression")]),
        (("${input.topic}", "${size(steps)}"), [(8, "steps[0].in.topic", "invalid_expression")]),
        (("max_steps: 50", "max_steps: 1"), [(4, "limits.max_steps", "invalid_value")]),
        (
            ("flow: {priority: 3}", "flow: {concurrency: {limit: 10, key: input.x}}"),
            [(6, "flow.concurrency.key", "unknown_reference")],
        ),
        (("flow: {priority: 3}", "on_failure: {notify: [team_lead]}"), [(6, "on_failure.notify", "not_supported_yet")]),
        (("in: {topic", "inn: {topic"), [(8, "steps[0].inn", "unknown_key")]),
    ],
)
def test_each_fault_of_a_sequence_is_named_with_its_place(change: tuple[str, str], expected: list[Any]) -> None:
    assert refused(SEQUENTIAL.replace(*change), aliases=["writer", "editor"]) == expected


NESTED = """apiVersion: orchestration/v1
pattern: sequential
steps:
  - {id: draft, agent: writer}
  - {id: child, orchestration: below, in: {text: "${steps.draft.output.text}"}, timeout: 5m}
"""


def test_a_step_runs_an_agent_or_another_orchestration() -> None:
    text = NESTED + "agents: {writer: {name: Writer}}\norchestrations: {below: {name: Below, version: 1.0.0}}\n"
    definition = parse_orchestration(text)
    kinds = {alias: type(found).__name__ for alias, found in definition.references.items()}
    assert kinds == {"writer": "AgentReference", "below": "OrchestrationReference"}
    assert definition.digest == parse_orchestration(NESTED).digest
    node = compile_orchestration(definition).nodes["child"]
    assert isinstance(node, SubrunNode)
    assert (node.kind, node.orchestration, node.timeout_seconds) == ("subrun", "below", 300.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("orchestration: below", "orchestration: nobody"), [(5, "steps[1].orchestration", "unknown_reference")]),
        (("orchestration: below", "orchestration: writer"), [(5, "steps[1].orchestration", "unknown_reference")]),
        (("agent: writer", "agent: below"), [(4, "steps[0].agent", "unknown_reference")]),
        (("agent: writer", "agent: writer, orchestration: below"), [(4, "steps[0]", "invalid_value")]),
        (("timeout: 5m", "retry: {max: 2}"), [(5, "steps[1]", "invalid_value")]),
        (("steps.draft.output", "steps.none.output"), [(5, "steps[1].in.text", "unknown_reference")]),
    ],
)
def test_each_fault_of_a_child_is_named_with_its_place(change: tuple[str, str], expected: list[Any]) -> None:
    assert refused(NESTED.replace(*change), aliases=["writer"], orchestrations=["below"]) == expected


def test_an_alias_stands_for_one_thing() -> None:
    text = NESTED + "agents: {writer: {name: Writer}}\norchestrations: {writer: {name: Below}, below: {name: B}}\n"
    assert refused(text) == [(7, "orchestrations.writer", "duplicate_id")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("quorum: 2", "quorum: 3"), [(4, "join.quorum", "invalid_value")]),
        (("mode: quorum", "mode: any"), [(4, "join", "invalid_value")]),
        (("id: b", "id: a"), [(3, "branches[1].id", "duplicate_id")]),
        (("id: b", "id: merge"), [(3, "branches[1].id", "duplicate_id")]),
        (("agent: risk", 'agent: risk, in: "${steps.a.output}"'), [(3, "branches[1].in", "invalid_expression")]),
        (("agent: summarizer", 'agent: summarizer, in: "${steps.c.output}"'), [(5, "merge.in", "unknown_reference")]),
        (
            ("{id: b, agent: risk}", ", ".join(f"{{id: b{n}, agent: risk}}" for n in range(100))),
            [(3, "branches", "invalid_value")],
        ),
    ],
)
def test_each_fault_of_parallel_branches_is_named_with_its_place(change: tuple[str, str], expected: list[Any]) -> None:
    assert refused(PARALLEL.replace(*change)) == expected


def test_problems_are_all_said_at_once_in_the_order_of_the_text() -> None:
    text = (
        AGENT.replace("embedded", "oracle")
        .replace("60s}", "soon}")
        .replace("string}", "strin}")
        .replace("max: 3", "most: 3")
    )
    assert [line for line, _, _ in refused(text)] == [3, 5, 6, 7]


def test_problems_are_bounded_and_become_a_refusal_with_places() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_agent("apiVersion: agent/v1\nkind: http\n" + "".join(f"x{n}: 1\n" for n in range(200)))
    assert len(caught.value.problems) == MAX_PROBLEMS
    assert caught.value.status == 422
    assert caught.value.errors[0].keys() == {"line", "column", "path", "code", "message"}


# Every example of the product's documentation: what is supported is accepted, all else is refused as "not yet".
DOCUMENTED: dict[str, str | None] = {
    'pattern: sequential\nsteps: [{id: draft, agent: writer, in: {topic: "${input.topic}"}}, {id: edit, agent: editor, in: {text: "${steps.draft.output.text}"}}]': None,
    "pattern: parallel\nbranches: [{id: a, agent: legal}, {id: b, agent: risk}]\njoin: {mode: quorum, quorum: 2, on_branch_error: fail}\nmerge: {agent: summarizer}": None,
    "pattern: router\nclassifier: {agent: triage}\nroutes: {billing: {agent: bill}, tech: {agent: tech}}\notherwise: {agent: desk}": None,
    'pattern: supervisor\nsupervisor: lead\nworkers: [a, b]\nmax_rounds: 8\nstop_when: "true"': None,
    'pattern: map_reduce\nover: "${input.documents}"\nas: doc\nmap: {agent: reader}\nconcurrency: 8\nmax_items: 1000\nitem_error: skip\nreduce: {agent: merger, fan_in: 20}': None,
    "pattern: loop_until\nbody: {agent: coder}\njudge: {agent: reviewer}\nmax_iterations: 5\non_exhausted: fail": None,
    "pattern: handoff\nstart: triage\nedges: {triage: [sales, support]}\nmax_handoffs: 6\ncontext: full": None,
    "pattern: approval\nbefore: {agent: payer}\napprovers: {roles: [operator], count: 2, exclude_requester: true}\nbind: [amount]\nexpires: 24h\non_expire: reject": "approvers.count",
    "pattern: approval\nbefore: {agent: payer}\napprovers: {roles: [operator], exclude_requester: true}\nbind: [amount]\nexpires: 24h\non_expire: reject": None,
    "pattern: graph\nnodes: [{id: a, agent: writer}, {id: b, agent: editor}]\nedges: [{from: a, to: b}]": None,
}
COMMON = """\
apiVersion: orchestration/v1
input_schema: {type: object, properties: {topic: {type: string}, documents: {type: array}, amount: {type: number}}}
limits: {max_cost_usd: "2.00", max_tokens: 200000, max_steps: 50, timeout: 15m, max_depth: 3}
defaults: {retry: {max: 3, backoff: exponential, base: 1s, cap: 60s, jitter: full, not_on: [policy_denied, invalid_input]}, step_timeout: 120s}
flow: {priority: 0}
"""


@pytest.mark.parametrize(("example", "not_yet"), DOCUMENTED.items())
def test_every_documented_orchestration_is_accepted_or_not_supported_yet(example: str, not_yet: str | None) -> None:
    if not_yet is None:
        assert parse_orchestration(COMMON + example).digest.startswith("sha256:")
    else:
        assert [(path, code) for _, path, code in refused(COMMON + example)] == [(not_yet, "not_supported_yet")]


def test_the_documented_agent_without_what_is_to_come_is_accepted() -> None:
    later = (
        AGENT
        + "tools: [{connector: crm, operations: [read], objects: [Account], effects: read, mask: [email]}, {mcp: github, tools: [search], effects: read}]\n"
        + 'evals: [{name: smoke, input: {topic: x}, expect: "true"}]\n'
    )
    assert [(path, code) for _, path, code in refused(later)] == [
        ("tools[0]", "not_supported_yet"),
        ("tools[1]", "not_supported_yet"),
    ]
    assert parse_agent(AGENT + "tools: []\nevals: []\n").spec == parse_agent(AGENT).spec
    (case,) = parse_agent(AGENT + later.splitlines()[-1]).spec.evals
    assert (case.name, case.input, case.expect) == ("smoke", {"topic": "x"}, "true")


TOOLS = """\
apiVersion: agent/v1
kind: llm
model: {provider: openai, name: gpt-5-mini, credential: mine, max_output_tokens: 100}
tools:
  - {mcp: {url: "https://a.example.com/mcp", credential: a}, tools: [search, pages/read], effects: read}
  - {mcp: {url: "https://b.example.com/mcp"}, tools: [remove], effects: idempotent}
limits: {max_tokens: 20000, max_tool_calls: 5}
"""


def test_an_agent_with_tools() -> None:
    spec = parse_agent(TOOLS).spec
    assert isinstance(spec, LlmAgent)
    assert [(source.mcp.url, source.tools, source.effects) for source in spec.tools] == [
        ("https://a.example.com/mcp", ["search", "pages/read"], Effects.READ),
        ("https://b.example.com/mcp", ["remove"], Effects.IDEMPOTENT),
    ]
    assert (spec.strategy, spec.max_tool_calls, spec.effects) == ("native", 5, Effects.IDEMPOTENT)
    assert [(key.name, key.provider) for key in spec.keys] == [("mine", "openai"), ("a", "mcp")]
    written = parse_agent(TOOLS.replace(", effects: idempotent", "").replace(", max_tool_calls: 5", "")).spec
    assert isinstance(written, LlmAgent)
    assert (written.effects, written.max_tool_calls) == (Effects.WRITE, 20)


def test_what_an_agent_with_tools_may_use_is_its_limit_and_not_its_first_question() -> None:
    spec, plain = parse_agent(TOOLS).spec, parse_agent(AGENT).spec
    assert isinstance(spec, LlmAgent)
    assert isinstance(plain, LlmAgent)
    # Five calls of tools, an answer and two corrections are eight answers of a hundred tokens.
    assert spec.most_used(spec.model, 7, spec.most_tokens(7, None)) == [(19_200, 800), (20_000, 0)]
    assert plain.most_used(plain.model, 7, plain.most_tokens(7, None)) == [(7, 60)]
    # What is left of a run's tokens is enough while a first question fits in; else the run has to stop.
    assert [spec.most_tokens(7, left) for left in (30_000, 5_000, 107, 106)] == [20_000, 5_000, 107, 20_000]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("max_tokens: 20000, ", ""), [(7, "limits.max_tokens", "missing_key")]),
        (("tools: [remove]", "tools: [search]"), [(6, "tools[1].tools[0]", "duplicate_id")]),
        (("tools: [remove]", "tools: [pages_read]"), [(6, "tools[1].tools[0]", "duplicate_id")]),
        (("tools: [remove]", "tools: []"), [(6, "tools[1].tools", "invalid_value")]),
        (
            ("tools: [remove]", "tool: remove"),
            [(6, "tools[1].tool", "unknown_key"), (6, "tools[1].tools", "missing_key")],
        ),
        (('"https://b', '"mailto:b'), [(6, "tools[1].mcp.url", "invalid_value")]),
        (("effects: read", "effects: all"), [(5, "tools[0].effects", "invalid_value")]),
        (("limits:", "strategy: guess\nlimits:"), [(7, "strategy", "invalid_value")]),
        (
            ("provider: openai, name: gpt-5-mini, credential: mine", "provider: embedded"),
            [(5, "tools", "invalid_value")],
        ),
        (
            ("max_output_tokens: 100", "fallback: [{provider: embedded}]"),
            [(5, "tools", "invalid_value")],
        ),
    ],
)
def test_each_fault_of_tools_is_named_with_its_place(change: tuple[str, str], expected: list[Any]) -> None:
    assert sorted(refused(TOOLS.replace(*change))) == sorted(expected)


words = st.sampled_from(
    ["apiVersion", "agent/v1", "orchestration/v1", "kind", "llm", "http", "pattern", "sequential", "parallel", "model", "steps",
     "branches", "join", "merge", "limits", "timeout", "60s", "retry", "metadata", "agents", "id", "agent", "in", "${input.x}",
     "input_schema", "type", "flow", "tools", "tool", "server", "provider", "embedded", "name", "url", "headers", "", "0", "x"]
)  # fmt: skip
nested = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**6) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=6),
    max_leaves=25,
)


@given(nested, st.sampled_from(["llm", "http", "mcp", "sequential", "parallel"]))
def test_any_structure_is_a_definition_or_refused_with_places(value: Any, kind: str) -> None:
    if isinstance(value, dict):
        value = {"apiVersion": "agent/v1", "kind": kind, "pattern": kind, **value}
    text = yaml.safe_dump(value)
    for parse in (parse_agent, parse_orchestration):
        try:
            parse(text)
        except DefinitionError as error:
            found = error.problems
        else:
            continue
        assert 0 < len(found) <= MAX_PROBLEMS
        assert all(1 <= problem.line <= text.count("\n") + 1 for problem in found)


@given(st.text())
def test_any_text_is_a_definition_or_refused(text: str) -> None:
    for parse in (parse_agent, parse_orchestration):
        with pytest.raises(DefinitionError):
            parse(text)

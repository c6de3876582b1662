"""Steps that call a tool of an agent: wherever a step is, by the agent's alias and the server's name of the tool."""

from __future__ import annotations

import pytest
from services.execution.tests.domain.test_definitions import refused
from services.execution.tests.domain.test_patterns import graph_of

from execution.domain.agents import McpAgent
from execution.domain.definitions import parse_agent, parse_orchestration
from execution.domain.graph import Graph
from execution.domain.interpreter import next_work
from execution.domain.nodes import Effects, ToolNode
from execution.domain.problems import DefinitionError

HEAD = "apiVersion: orchestration/v1\n"
TOOL = "tool: {agent: desk, name: pages/search}"
EVERYWHERE = {
    "s": f"pattern: sequential\nsteps: [{{id: s, {TOOL}, in: {{q: '${{input.q}}'}}}}]\n",
    "b": f"pattern: parallel\nbranches: [{{id: b, {TOOL}}}]\n",
    "merge": f"pattern: parallel\nbranches: [{{id: b, agent: x}}]\nmerge: {{{TOOL}}}\n",
    "way": f"pattern: router\nclassifier: {{expr: '\"way\"'}}\nroutes: {{way: {{{TOOL}}}}}\n",
    "otherwise": f"pattern: router\nclassifier: {{agent: x}}\nroutes: {{way: {{agent: x}}}}\notherwise: {{{TOOL}}}\n",
    "map": f"pattern: map_reduce\nover: ${{input.pages}}\nmap: {{{TOOL}}}\n",
    "reduce": f"pattern: map_reduce\nover: ${{input.pages}}\nmap: {{agent: x}}\nreduce: {{{TOOL}, fan_in: 3}}\n",
    "body": f"pattern: loop_until\nbody: {{{TOOL}}}\njudge: {{expr: 'true'}}\nmax_iterations: 2\n",
    "act": f"pattern: approval\nbefore: {{{TOOL}}}\n",
    "n": f"pattern: graph\nnodes: [{{id: n, {TOOL}}}, {{id: m, agent: x}}]\nedges: [{{from: n, to: m}}]\n",
    "undo_s": f"pattern: sequential\nsteps: [{{id: s, agent: x}}]\non_failure: {{compensate: [{{step: s, {TOOL}}}]}}\n",
}
SERVER = 'server: {url: "https://tools.example.com/mcp", credential: desk}\n'
LENDING = f"apiVersion: agent/v1\nkind: mcp\n{SERVER}tools: [search, read]\neffects: read\n"
ALONE = "is for an agent that runs by itself, which one that lends tools does not"
MODEL = (
    "apiVersion: agent/v1\nkind: llm\nmodel: {provider: openai, name: gpt-5, credential: own}\n"
    'limits: {max_tokens: 1000}\ntools: [{mcp: {url: "https://tools.example.com/mcp"}, tools: [search]}]\n'
)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_a_step_of_any_pattern_may_call_a_tool(where: str) -> None:
    graph = graph_of(HEAD + EVERYWHERE[where])
    node = graph.nodes[where]
    assert isinstance(node, ToolNode)
    assert (node.agent, node.tool) == ("desk", "pages/search")
    assert "desk" in graph.aliases
    assert Graph.from_json(graph.to_json()) == graph


def test_its_input_is_the_tools_arguments() -> None:
    (ready,) = next_work(graph_of(HEAD + EVERYWHERE["s"]), {"q": "rivers"}, {}).ready
    assert (ready.node.id, ready.node.kind, ready.input) == ("s", "tool", {"q": "rivers"})


def test_a_step_of_its_own_may_be_retried_and_bounded() -> None:
    text = HEAD + EVERYWHERE["s"].replace("pages/search}", "pages/search}, timeout: 3s, retry: {max: 4}")
    node = graph_of(text).nodes["s"]
    assert isinstance(node, ToolNode)
    assert (node.timeout_seconds, node.retry and node.retry.max_attempts) == (3.0, 4)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (f"{{id: s, {TOOL}, agent: desk}}", ("steps[0]", "invalid_value")),
        (f"{{id: s, {TOOL}, orchestration: desk}}", ("steps[0]", "invalid_value")),
        (f"{{id: s, {TOOL}, signal: {{name: go}}}}", ("steps[0]", "invalid_value")),
        ("{id: s, tool: {agent: desk}}", ("steps[0].tool.name", "missing_key")),
        ("{id: s, tool: {name: search}}", ("steps[0].tool.agent", "missing_key")),
        ("{id: s, tool: {agent: desk, name: two words}}", ("steps[0].tool.name", "invalid_value")),
        ("{id: s, tool: desk}", ("steps[0].tool", "invalid_value")),
        ("{id: s, tool: {agent: nobody, name: search}}", ("steps[0].tool.agent", "unknown_reference")),
        (f"{{id: s, {TOOL}, in: '${{steps.t.output}}'}}", ("steps[0].in", "invalid_expression")),
    ],
)
def test_each_fault_is_named_with_its_place(steps: str, expected: tuple[str, str]) -> None:
    text = f"{HEAD}pattern: sequential\nsteps: [{steps}]\n"
    assert [(path, code) for _, path, code in refused(text, aliases=["desk"])] == [expected]


@pytest.mark.parametrize(
    ("undoing", "expected"),
    [
        (f"{TOOL}, agent: desk", ("on_failure.compensate[0]", "invalid_value")),
        ("in: 1", ("on_failure.compensate[0]", "invalid_value")),
        ("tool: {agent: nobody, name: search}", ("on_failure.compensate[0].tool.agent", "unknown_reference")),
    ],
)
def test_a_step_is_undone_by_an_agent_or_a_tool_that_is_there(undoing: str, expected: tuple[str, str]) -> None:
    text = EVERYWHERE["undo_s"].replace(TOOL, undoing)
    assert [(path, code) for _, path, code in refused(HEAD + text, aliases=["desk", "x"])] == [expected]


def test_a_file_says_whose_tool_it_is() -> None:
    text = f"{HEAD}agents: {{desk: {{name: docs}}}}\n{EVERYWHERE['act']}"
    assert parse_orchestration(text).references["desk"].name == "docs"


def test_tools_that_an_agent_of_a_server_lends() -> None:
    spec = parse_agent(LENDING).spec
    assert isinstance(spec, McpAgent)
    assert (spec.tool, spec.tools, spec.effects) == (None, ["search", "read"], Effects.READ)
    lent = spec.tool_named("read")
    assert lent is not None
    assert (lent.tool, lent.server, lent.effects, lent.keys) == ("read", spec.server, Effects.READ, spec.keys)
    assert spec.tool_named("remove") is None
    assert spec.use_problem("read") == ""
    assert spec.use_problem("remove") == "the agent lends no tool 'remove'; it lends search, read"
    assert spec.use_problem(None) == "the agent only lends tools, and a step names one: search, read"


def test_an_agent_of_one_tool_lends_it_as_it_is() -> None:
    spec = parse_agent(LENDING.replace("tools: [search, read]", "tool: search\ninput_schema: {type: object}")).spec
    assert spec.tool_named("search") is spec
    assert spec.use_problem(None) == spec.use_problem("search") == ""
    assert spec.tool_named("read") is None


@pytest.mark.parametrize("text", [MODEL, 'apiVersion: agent/v1\nkind: http\nhttp: {url: "https://x.example.com/"}\n'])
def test_other_agents_lend_nothing_not_even_what_their_model_may_call(text: str) -> None:
    spec = parse_agent(text).spec
    assert (spec.tool_named("search"), spec.lent_tools, spec.use_problem(None)) == (None, (), "")
    assert spec.use_problem("search") == "the agent lends no tool 'search'; it lends none"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("tools: [search, read]", ""), "an agent of kind mcp names its tool, or in tools several that it lends"),
        (
            ("tools: [search, read]", "tools: []"),
            "an agent of kind mcp names its tool, or in tools several that it lends",
        ),
        (("tools: ", "tool: search\ntools: "), "an agent of kind mcp has a tool or lends tools, not both"),
        (("effects: read", "input_schema: {type: object}"), f"input_schema {ALONE}"),
        (("effects: read", "output_schema: {type: object}"), f"output_schema {ALONE}"),
        (("effects: read", "flow: {concurrency: {limit: 2}}"), f"flow {ALONE}"),
    ],
)
def test_an_agent_has_one_tool_or_lends_several(change: tuple[str, str], message: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        parse_agent(LENDING.replace(*change))
    assert [problem.message for problem in refusal.value.problems] == [message]

"""What an agent is made of, by kind: a model with instructions, somebody's HTTP endpoint, a function, a tool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, model_validator

from execution.domain.endpoints import HttpEndpoint
from execution.domain.evals import Evals
from execution.domain.flows import Flow
from execution.domain.model_choices import KeyUse, ModelChoice, OneModel
from execution.domain.nodes import Effects
from execution.domain.shapes import AgentLimits, Retry, Shape
from execution.domain.tools import MAX_SOURCES, MAX_TOOLS, EffectsName, McpServer, ToolName, ToolSource, gravest

RISK_LEVELS = ("low", "medium", "high", "critical")
MAX_INSTRUCTIONS_CHARACTERS = 32_000
DEFAULT_TIMEOUT_SECONDS, DEFAULT_HTTP_SECONDS = 60.0, 30.0
DEFAULT_TOOL_CALLS = 20
HTTP_PROVIDER = "http"
"""Whom keys of `http` agents are stored for."""
CORRECTIONS = 2
"""How often in one attempt a model may be told that a call of its is none."""


def highest_risk(levels: Iterable[str]) -> str:
    """The gravest of these levels; low where there are none."""
    return max(levels, key=RISK_LEVELS.index, default=RISK_LEVELS[0])


class PythonFunction(Shape):
    """Which registered function does the step."""

    function: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]


class AgentShape(Shape):
    """What agents of every kind may say."""

    api_version: Annotated[Literal["agent/v1"], Field(alias="apiVersion")]
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    limits: AgentLimits = AgentLimits()
    retry: Retry | None = None
    evals: Evals = []
    flow: Flow = Flow()

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored keys it names."""
        return ()

    def tool_named(self, name: str) -> McpAgent | None:  # noqa: ARG002
        """What a step calls that names this tool of the agent; None where it lends none of the name."""
        return None

    @property
    def lent_tools(self) -> tuple[str, ...]:
        """The tools that steps may call by name."""
        return ()

    def use_problem(self, tool: str | None) -> str:
        """Why a step cannot call this tool of it, or (None) run it; empty when it can."""
        if tool is None or tool in self.lent_tools:
            return ""
        return f"the agent lends no tool {tool!r}; it lends {', '.join(self.lent_tools) or 'none'}"

    @property
    def said_timeout(self) -> float | None:
        """How long one attempt may take at most, if the definition says so."""
        return self.limits.timeout

    @property
    def timeout_seconds(self) -> float:
        """How long one attempt may take where no step says it."""
        return self.said_timeout or DEFAULT_TIMEOUT_SECONDS


class LlmAgent(AgentShape):
    """A language model with instructions, whose holes (`${input.topic}`) are filled from declared inputs only.

    Without `output_schema` its output is `{"text": ...}`; with one, the value the schema describes. With `tools` it may
    call them before it answers: by the provider's own tool calls (`strategy: native`), or, for models without, by
    answers forced into a schema (`json_action`).
    """

    kind: Literal["llm"]
    model: ModelChoice
    instructions: Annotated[str, Field(max_length=MAX_INSTRUCTIONS_CHARACTERS)] = ""
    tools: Annotated[list[ToolSource], Field(max_length=MAX_SOURCES)] = []
    strategy: Literal["native", "json_action"] = "native"

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored keys it names."""
        return (*self.model.keys, *(key for source in self.tools for key in source.mcp.keys))

    @property
    def effects(self) -> Effects:
        """A model changes nothing outside, its tools may: asking it twice may call each of them twice."""
        return gravest([source.effects for source in self.tools])

    @property
    def max_tool_calls(self) -> int:
        """How often one attempt may call tools."""
        limit = self.limits.max_tool_calls
        return DEFAULT_TOOL_CALLS if limit is None else limit

    @property
    def max_model_calls(self) -> int:
        """How often one attempt may ask a model."""
        return self.max_tool_calls + 1 + CORRECTIONS if self.tools else 1

    def most_tokens(self, asked: int, left: int | None) -> int:
        """The most that the requests of one attempt may use together; 0 for the one request of an agent without tools.

        It is the agent's limit, or what is `left` of the run's where at least the first question fits in there.
        """
        if not self.tools or self.limits.max_tokens is None:
            return 0
        first = asked + max(model.max_output_tokens for model in self.model.in_turn)
        return self.limits.max_tokens if left is None or left < first else min(self.limits.max_tokens, left)

    def most_used(self, model: OneModel, asked: int, most: int) -> list[tuple[int, int]]:
        """The most tokens of input and of output that an attempt may use; one of them is the dearest."""
        if not most:
            return [(asked, model.max_output_tokens)]
        answers = min(most, self.max_model_calls * model.max_output_tokens)
        return [(most - answers, answers), (most, 0)]


class HttpAgent(AgentShape):
    """Somebody's service that does the step: `http: {url, method: POST, headers: {...}, timeout: 30s, credential?}`.

    It is sent `{run_id, step, iteration, attempt, input}` and answers `{output, usage?: {input_tokens,
    output_tokens}}`. Each call carries `Idempotency-Key: run:node:iteration`, the same for every attempt. `effects`
    says what a repeated call does: `idempotent` (the default: the endpoint honours the key), `read`, or `write` (it
    does not: after a crash in the middle of a call the run waits for a person's decision).
    """

    kind: Literal["http"]
    http: HttpEndpoint
    effects_name: Annotated[EffectsName, Field(alias="effects")] = "idempotent"

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored key it names, if it does."""
        name = self.http.credential
        return (KeyUse(name, HTTP_PROVIDER, self.http.url),) if name is not None else ()

    @property
    def effects(self) -> Effects:
        """What a repeated call does to the world."""
        return Effects(self.effects_name)

    @property
    def said_timeout(self) -> float | None:
        """How long one attempt may take at most, if the definition says so."""
        said = [seconds for seconds in (self.http.timeout, self.limits.timeout) if seconds is not None]
        return min(said, default=None)

    @property
    def timeout_seconds(self) -> float:
        """How long one attempt may take where no step says it."""
        return self.said_timeout or DEFAULT_HTTP_SECONDS


class PythonAgent(AgentShape):
    """A function of the worker's own image that does the step: `python: {function: greet}`.

    Only what the operator has installed can be named: no code is ever taken from a definition. `effects` as for `http`.
    """

    kind: Literal["python"]
    python: PythonFunction
    effects_name: Annotated[EffectsName, Field(alias="effects")] = "idempotent"

    @property
    def effects(self) -> Effects:
        """What a repeated call does to the world."""
        return Effects(self.effects_name)


class McpAgent(AgentShape):
    """One tool of a server of tools: `server: {url, credential?}, tool: search`; or several, `tools: [search, read]`.

    Its input is the tool's arguments. Its output is what the tool says as data, else `{"text": ...}`. Whether a tool
    may be called twice only its author knows, so `effects` is `write` unless the definition says otherwise. One with
    `tools` does nothing by itself: steps of orchestrations call them.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["tool"]}, {"required": ["tools"]}]})

    kind: Literal["mcp"]
    server: McpServer
    tool: ToolName | None = None
    tools: Annotated[list[ToolName], Field(max_length=MAX_TOOLS)] = []
    effects_name: Annotated[EffectsName, Field(alias="effects")] = "write"

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored keys it names."""
        return self.server.keys

    @property
    def effects(self) -> Effects:
        """What a repeated call does to the world."""
        return Effects(self.effects_name)

    @property
    def lent_tools(self) -> tuple[str, ...]:
        """The tools that steps may call by name."""
        return (self.tool,) if self.tool is not None else tuple(self.tools)

    def use_problem(self, tool: str | None) -> str:
        """Why a step cannot call this tool of it, or (None) run it; empty when it can."""
        if tool is None and self.tool is None:
            return f"the agent only lends tools, and a step names one: {', '.join(self.tools)}"
        return super().use_problem(tool)

    def tool_named(self, name: str) -> McpAgent | None:
        """What a step calls that names this tool of the server; None where it lends none of the name."""
        if name == self.tool:
            return self
        return self.model_copy(update={"tool": name, "tools": []}) if name in self.tools else None

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.tool is None and not self.tools:
            raise ValueError("an agent of kind mcp names its tool, or in tools several that it lends")
        if self.tool is not None and self.tools:
            raise ValueError("an agent of kind mcp has a tool or lends tools, not both")
        alone = {"input_schema", "output_schema", "evals", "flow"} & self.model_fields_set
        if self.tools and alone:
            raise ValueError(f"{min(alone)} is for an agent that runs by itself, which one that lends tools does not")
        return self


AgentSpec: TypeAlias = LlmAgent | HttpAgent | PythonAgent | McpAgent
AGENT_KINDS: dict[str, type[AgentSpec]] = {"llm": LlmAgent, "http": HttpAgent, "python": PythonAgent, "mcp": McpAgent}
LATER_AGENT_KINDS = ("a2a",)
LATER_AGENT_PARTS: tuple[tuple[str, ...], ...] = ()

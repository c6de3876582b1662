"""What an agent is made of, by kind: a model with instructions, somebody's HTTP endpoint, a function, a tool."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from execution.domain.endpoints import HttpEndpoint
from execution.domain.model_choices import KeyUse, ModelChoice
from execution.domain.nodes import Effects
from execution.domain.shapes import AgentLimits, Retry, Shape
from execution.domain.tools import McpServer, ToolName

MAX_INSTRUCTIONS_CHARACTERS = 32_000
DEFAULT_TIMEOUT_SECONDS = 60.0

EffectsName: TypeAlias = Literal["read", "idempotent", "write"]


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

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored keys it names."""
        return ()


class LlmAgent(AgentShape):
    """A language model with instructions, whose holes (`${input.topic}`) are filled from declared inputs only.

    Without `output_schema` its output is `{"text": ...}`; with one, the value the schema describes.
    """

    kind: Literal["llm"]
    model: ModelChoice
    instructions: Annotated[str, Field(max_length=MAX_INSTRUCTIONS_CHARACTERS)] = ""

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored keys it names."""
        return self.model.keys

    @property
    def effects(self) -> Effects:
        """A model changes nothing outside: asking it twice costs twice and no more."""
        return Effects.READ

    @property
    def timeout_seconds(self) -> float:
        """How long one attempt may take."""
        return self.limits.timeout or DEFAULT_TIMEOUT_SECONDS


class HttpAgent(AgentShape):
    """Somebody's service that does the step: `http: {url, method: POST, headers: {...}, timeout: 30s}`.

    It is sent `{run_id, step, iteration, attempt, input}` and answers `{output, usage?: {input_tokens,
    output_tokens}}`. Each call carries `Idempotency-Key: run:node:iteration`, the same for every attempt. `effects`
    says what a repeated call does: `idempotent` (the default: the endpoint honours the key), `read`, or `write` (it
    does not: after a crash in the middle of a call the run waits for a person's decision).
    """

    kind: Literal["http"]
    http: HttpEndpoint
    effects_name: Annotated[EffectsName, Field(alias="effects")] = "idempotent"

    @property
    def effects(self) -> Effects:
        """What a repeated call does to the world."""
        return Effects(self.effects_name)

    @property
    def timeout_seconds(self) -> float:
        """How long one attempt may take."""
        return min(self.http.timeout, self.limits.timeout or self.http.timeout)


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

    @property
    def timeout_seconds(self) -> float:
        """How long one attempt may take."""
        return self.limits.timeout or DEFAULT_TIMEOUT_SECONDS


class McpAgent(AgentShape):
    """One tool of a server of tools: `server: {url, credential?}, tool: search`.

    Its input is the tool's arguments. Its output is what the tool says as data, else `{"text": ...}`. Whether a tool
    may be called twice only its author knows, so `effects` is `write` unless the definition says otherwise.
    """

    kind: Literal["mcp"]
    server: McpServer
    tool: ToolName
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
    def timeout_seconds(self) -> float:
        """How long one attempt may take."""
        return self.limits.timeout or DEFAULT_TIMEOUT_SECONDS


AgentSpec: TypeAlias = LlmAgent | HttpAgent | PythonAgent | McpAgent
AGENT_KINDS: dict[str, type[AgentSpec]] = {"llm": LlmAgent, "http": HttpAgent, "python": PythonAgent, "mcp": McpAgent}
LATER_AGENT_KINDS = ("a2a",)
LATER_AGENT_PARTS: tuple[tuple[str, ...], ...] = (("tools",), ("evals",))

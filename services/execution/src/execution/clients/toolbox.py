"""The tools that a model may call in one attempt, each held in its bounds; imported late, with their library."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from typing import NamedTuple

import orjson

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentCall, AgentError, AgentErrorCode
from execution.clients.mcp_library import ToolAnswer, ToolDescription, ToolServer, connected
from execution.domain.agents import LlmAgent
from execution.domain.documents import Json
from execution.domain.nodes import Effects
from execution.domain.schemas import schema_problems, validate_input
from execution.domain.tools import ToolSource, name_for_models

MAX_DESCRIPTION_CHARACTERS = 4_000


class ToolFaultError(Exception):
    """What a model is told instead of an answer: its call was none, or the tool reports an error."""

    def __init__(self, message: str, *, is_call_wrong: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.is_call_wrong = is_call_wrong


class Tool(NamedTuple):
    """A tool as models know it."""

    name: str
    description: str
    input_schema: dict[str, Json]
    effects: Effects
    own_name: str
    """What its server calls it."""
    server: ToolServer


class Toolbox:
    """Calls the tools of one attempt: only those named, only with what fits, and no more often than allowed."""

    def __init__(self, tools: Sequence[Tool], call: AgentCall, most_calls: int) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self.most_calls = self.calls_left = most_calls
        self.has_written = False
        """A tool was called that may not be called twice, so the attempt must not be repeated."""
        self._key = call.idempotency_key
        self._same: Counter[str] = Counter()

    async def call(self, name: str, arguments: Json) -> str:
        """What the tool says, as the model reads it; ToolFaultError where it is to be told otherwise."""
        tool = self.tools.get(name)
        if tool is None or not isinstance(arguments, dict):
            raise ToolFaultError("There is no such tool, or its arguments are no object.", is_call_wrong=True)
        if problems := validate_input(tool.input_schema, arguments):
            place = problems[0].path or "their root"
            raise ToolFaultError(f"The arguments do not fit at {place}: {problems[0].message}", is_call_wrong=True)
        if self.calls_left <= 0:
            raise AgentError(AgentErrorCode.MAX_TOOL_CALLS, "The model asked for more tool calls than it may make.")
        self.calls_left -= 1
        self.has_written = self.has_written or tool.effects is Effects.WRITE
        answer = await tool.server.call(tool.own_name, arguments, self._key_of(name, arguments))
        if answer.is_error:
            raise ToolFaultError(f"The tool reports an error: {_text(answer)}")
        return _text(answer)

    def _key_of(self, name: str, arguments: Json) -> str:
        """The same for the same call in every attempt, whatever else the model calls in between."""
        content = sha256(orjson.dumps([name, arguments], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
        self._same[content] += 1
        return f"{self._key}:{content}:{self._same[content]}"


@asynccontextmanager
async def open_toolbox(
    spec: LlmAgent, call: AgentCall, outbound: OutboundClient, seconds: float
) -> AsyncIterator[Toolbox]:
    """The agent's tools, with a session at each of their servers; AgentError when one cannot be had."""
    tools: list[Tool] = []
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(seconds):
                for source in spec.tools:
                    server = await stack.enter_async_context(connected(source.mcp, call, outbound, seconds))
                    tools += _chosen(source, server, await server.tools())
        except TimeoutError:
            raise AgentError(AgentErrorCode.TIMEOUT, "A server of tools did not answer in the step's time.") from None
        yield Toolbox(tools, call, spec.max_tool_calls)


def _chosen(source: ToolSource, server: ToolServer, listed: list[ToolDescription]) -> list[Tool]:
    known = {each.name: each for each in listed}
    if missing := [name for name in source.tools if name not in known]:
        raise AgentError(AgentErrorCode.UNKNOWN_TOOL, f"The server has no tool {missing[0]!r}.")
    return [_tool(source, server, known[name]) for name in source.tools]


def _tool(source: ToolSource, server: ToolServer, known: ToolDescription) -> Tool:
    # Most servers name an older draft; what they use of it means the same.
    schema = {key: value for key, value in known.input_schema.items() if key != "$schema"}
    if schema_problems(schema):
        raise AgentError(AgentErrorCode.UNKNOWN_TOOL, f"The tool {known.name!r} has no usable schema of its input.")
    description = known.description[:MAX_DESCRIPTION_CHARACTERS]
    return Tool(name_for_models(known.name), description, schema, source.effects, known.name, server)


def _text(answer: ToolAnswer) -> str:
    return answer.text if answer.data is None else orjson.dumps(answer.data).decode()

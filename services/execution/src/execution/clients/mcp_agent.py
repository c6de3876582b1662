"""Agents of kind `mcp`: one tool of a server of tools. What needs no library of the protocol happens here."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import orjson

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentCall, AgentError, AgentErrorCode, AgentResult
from execution.domain.agents import McpAgent
from execution.domain.documents import Json
from execution.domain.schemas import validate_input

if TYPE_CHECKING:
    from execution.clients.mcp_library import Connect, ToolAnswer

ONLY_TOOLS = "The agent has several tools: a step names one, tool: {agent: <alias>, name: <tool>}."
_CODE = re.compile(r"[a-z][a-z0-9_]{0,62}")


class McpRunner:
    """Calls one tool per step, in a session of its own; the protocol's library is loaded by the first call."""

    def __init__(self, outbound: OutboundClient) -> None:
        self._outbound = outbound

    async def run(self, call: AgentCall) -> AgentResult:
        """The tool's answer, or AgentError: `tool_failed`, or the `code` that the tool says in its data."""
        spec = call.spec
        if not isinstance(spec, McpAgent):
            raise AgentError(AgentErrorCode.NOT_SUPPORTED_YET, "This runner calls agents of kind mcp only.")
        if spec.tool is None:
            raise AgentError(AgentErrorCode.UNKNOWN_TOOL, ONLY_TOOLS)
        arguments = _arguments(spec, call.input)
        try:
            async with asyncio.timeout(call.deadline_seconds):
                answer = await _answer(spec, spec.tool, arguments, call, self._outbound)
        except TimeoutError:
            raise AgentError(AgentErrorCode.TIMEOUT, "The tool did not answer within the step's time.") from None
        return AgentResult(_output(spec, answer))


async def _answer(
    spec: McpAgent, tool: str, arguments: dict[str, Json], call: AgentCall, outbound: OutboundClient
) -> ToolAnswer:
    connected = await asyncio.to_thread(_load)
    async with connected(spec.server, call, outbound, call.deadline_seconds) as server:
        return await server.call(tool, arguments, call.idempotency_key)


def _load() -> Connect:
    from execution.clients.mcp_library import connected  # noqa: PLC0415  (half a second that only this kind needs)

    return connected


def _arguments(spec: McpAgent, value: Json) -> dict[str, Json]:
    arguments = {} if value is None else value
    if not isinstance(arguments, dict):
        raise AgentError(AgentErrorCode.INVALID_INPUT, "The input of a tool is an object: its arguments by name.")
    if problems := validate_input(spec.input_schema, arguments):
        place = problems[0].path or "its root"
        raise AgentError(AgentErrorCode.INVALID_INPUT, f"The input does not fit input_schema at {place}.")
    return arguments


def _output(spec: McpAgent, answer: ToolAnswer) -> Json:
    if answer.is_error:
        raise _failure(spec, answer)
    output = answer.data
    if output is None and answer.has_other and not answer.text:
        raise AgentError(AgentErrorCode.INVALID_OUTPUT, "The tool answered with neither data nor text.")
    if output is None:
        output = {"text": answer.text} if spec.output_schema is None else _parsed(answer.text)
    if problems := validate_input(spec.output_schema, output):
        place = problems[0].path or "its root"
        raise AgentError(AgentErrorCode.INVALID_OUTPUT, f"The tool's answer does not fit output_schema at {place}.")
    return output


def _parsed(text: str) -> Json:
    """Data as older servers send it: JSON in a text; anything else is a text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"text": text}


def _failure(spec: McpAgent, answer: ToolAnswer) -> AgentError:
    """What the tool says of its error may repeat its arguments, so only a code of it is told."""
    wanted = answer.data.get("code") if isinstance(answer.data, dict) else None
    code = wanted if isinstance(wanted, str) and _CODE.fullmatch(wanted) else AgentErrorCode.TOOL_FAILED
    return AgentError(code, f"The tool {spec.tool!r} reported an error.", retryable=True)

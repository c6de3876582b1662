"""Everything that knows the client of the Model Context Protocol; imported late, because it is slow to import."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import NamedTuple, Protocol, cast

import httpx2
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    EmbeddedResource,
    Implementation,
    PaginatedRequestParams,
    RequestParamsMeta,
    TextContent,
    TextResourceContents,
)
from pydantic import ValidationError

from chassis.outbound import MAX_BYTES, OutboundClient
from execution.clients.agents import AgentCall, AgentError, AgentErrorCode
from execution.clients.failures import outbound_error, status_error
from execution.clients.library_transport import OutboundTransport
from execution.domain.documents import Json
from execution.domain.tools import McpServer

IDEMPOTENCY_KEY = "remit/idempotency_key"
"""Where in a call's `_meta` the key stands that is the same for every attempt."""
MAX_LIST_PAGES = 20
_CLIENT = Implementation(name="remit", version="1")
_NO_PROTOCOL = "The tool's server answers with what is not of the protocol."
_REASONS = {
    INVALID_PARAMS: (AgentErrorCode.INVALID_INPUT, "The tool's server has no such tool or refuses the input."),
    METHOD_NOT_FOUND: (AgentErrorCode.REJECTED, "The server has no tools."),
    PARSE_ERROR: (AgentErrorCode.INVALID_OUTPUT, _NO_PROTOCOL),
    INVALID_REQUEST: (AgentErrorCode.INVALID_OUTPUT, _NO_PROTOCOL),
}
# It logs what it cannot read, and that is somebody's answer; what went wrong reaches the step as an error.
logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)


class ToolDescription(NamedTuple):
    """A tool as its server describes it."""

    name: str
    description: str
    input_schema: dict[str, Json]


class ToolAnswer(NamedTuple):
    """What a tool answered: what it says as data, its texts, and whether it calls that an error."""

    data: Json
    text: str
    has_other: bool
    """There is something in it that is no text: an image, a sound, a link."""
    is_error: bool


class ToolServer:
    """One session with a server of tools."""

    def __init__(self, session: ClientSession, transport: OutboundTransport) -> None:
        self._session, self._transport = session, transport

    async def tools(self) -> list[ToolDescription]:
        """The tools it has, as it lists them now."""
        found: list[ToolDescription] = []
        cursor = None
        for _ in range(MAX_LIST_PAGES):
            with _translated(self._transport):
                page = await self._session.list_tools(params=PaginatedRequestParams(cursor=cursor))
            found += [ToolDescription(each.name, each.description or "", each.input_schema) for each in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def call(self, tool: str, arguments: dict[str, Json], key: str) -> ToolAnswer:
        """What the tool answers to these arguments; the key is the same for every attempt at this call."""
        meta = cast("RequestParamsMeta", {IDEMPOTENCY_KEY: key})
        parameters = CallToolRequestParams(name=tool, arguments=arguments, meta=meta)
        # Not by `call_tool`, which lists the tools and runs the server's own schema, in Python, over the answer.
        with _translated(self._transport):
            result = await self._session.send_request(CallToolRequest(params=parameters), CallToolResult)
        texts = list(_texts(result))
        return ToolAnswer(
            result.structured_content, "\n".join(texts), len(texts) < len(result.content), result.is_error
        )


class Connect(Protocol):
    """How a session with a server is had for one attempt."""

    def __call__(
        self, server: McpServer, call: AgentCall, outbound: OutboundClient, seconds: float
    ) -> AbstractAsyncContextManager[ToolServer]:
        """Open the session; what goes wrong in it leaves as AgentError."""
        ...


@asynccontextmanager
async def connected(
    server: McpServer, call: AgentCall, outbound: OutboundClient, seconds: float
) -> AsyncIterator[ToolServer]:
    """A session with the server for one attempt; whatever goes wrong in it leaves as AgentError."""
    key = call.credentials.get(server.credential or "")
    own = {"Authorization": f"Bearer {key}"} if key else {}
    transport = OutboundTransport(outbound, seconds=seconds, traceparent=call.traceparent, own=own, is_told=False)
    with _translated(transport):
        async with (
            httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None) as http,
            streamable_http_client(server.url, http_client=http, max_sse_event_size=MAX_BYTES) as (read, write),
            ClientSession(read, write, client_info=_CLIENT) as session,
        ):
            await _agree(session)
            transport.failure = None
            yield ToolServer(session, transport)


@contextmanager
def _translated(transport: OutboundTransport) -> Iterator[None]:
    """Whatever the library raises leaves as AgentError, and what is ours as it is."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (the library's tasks end in groups of whatever broke them)
        causes = list(_leaves(error))
        raise next(filter(_is_ours, causes), None) or _reason(causes, transport) from None


async def _agree(session: ClientSession) -> None:
    """Agree on a version: servers from 2026 on need no handshake, older ones know nothing else."""
    try:
        await session.discover()
    except (MCPError, ValidationError, RuntimeError):
        await session.initialize()


def _texts(result: CallToolResult) -> Iterator[str]:
    for block in result.content:
        if isinstance(block, TextContent):
            yield block.text
        elif isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
            yield block.resource.text


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in nested groups: the library's tasks wrap whatever passes through them."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, AgentError | TimeoutError)


def _reason(causes: list[BaseException], transport: OutboundTransport) -> AgentError:
    """The port's error; what the server wrote stays out of it."""
    if transport.failure is not None:
        return outbound_error(transport.failure)
    said = next((error.code for error in causes if isinstance(error, MCPError)), 0)
    if transport.status >= 400 and said != INVALID_PARAMS:
        return status_error(transport.status, transport.headers)
    if said in _REASONS:
        return AgentError(*_REASONS[said])
    if said:
        return AgentError(AgentErrorCode.UNAVAILABLE, f"The tool's server answered with the error {said}.")
    return AgentError(AgentErrorCode.INVALID_OUTPUT, _NO_PROTOCOL)

"""Agents of kind `mcp`, through the protocol's own client, at servers over real HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
import uvicorn
from services.execution.tests.clients.calls import TRACE, make_call
from services.execution.tests.scripted_mcp import SESSION, Said, ScriptedMcp, scripted_mcp

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentError
from execution.clients.mcp_agent import McpRunner
from execution.clients.mcp_library import IDEMPOTENCY_KEY

pytestmark = pytest.mark.anyio
FOUND = "output_schema: {type: object, properties: {found: {type: string}}, required: [found]}\n"


@pytest.fixture
async def server(anyio_backend: object) -> AsyncIterator[ScriptedMcp]:
    async with scripted_mcp() as server:
        yield server


@pytest.fixture
async def runner(anyio_backend: object) -> AsyncIterator[McpRunner]:
    client = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    yield McpRunner(client)
    await client.close()


def config(url: str, more: str = "", *, tool: str = "search") -> str:
    return f'apiVersion: agent/v1\nkind: mcp\nserver: {{url: "{url}", credential: own}}\ntool: {tool}\n{more}'


async def failure(runner: McpRunner, text: str, value: Any = None, **changes: Any) -> AgentError:
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(text, {"q": "x"} if value is None else value, **changes))
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is None
    return failed.value


async def test_a_tool_is_called_after_a_handshake(server: ScriptedMcp, runner: McpRunner) -> None:
    call = make_call(config(server.url), {"q": "rivers"}, credentials={"own": "the-token"})
    result = await runner.run(call)
    assert result.output == {"text": "found it"}
    assert (result.input_tokens, result.output_tokens, result.model) == (0, 0, "")
    assert server.calls == [
        {"name": "search", "arguments": {"q": "rivers"}, "_meta": {IDEMPOTENCY_KEY: call.idempotency_key}}
    ]
    assert [message["method"] for message in server.messages] == [
        "server/discover", "initialize", "notifications/initialized", "tools/call",
    ]  # fmt: skip
    last = server.headers[server.methods.index("DELETE") - 1]
    assert (last["authorization"], last["traceparent"], last["mcp-session-id"]) == ("Bearer the-token", TRACE, SESSION)
    # What the server would push is not asked for, and the session is ended.
    assert (server.methods.count("GET"), server.methods.count("DELETE")) == (0, 1)


async def test_nothing_of_this_machine_is_sent(server: ScriptedMcp, runner: McpRunner) -> None:
    await runner.run(make_call(config(server.url), {"q": "x"}))
    for headers in server.headers:
        assert "authorization" not in headers
        assert headers["user-agent"] == "remit"
        assert {name for name in headers if not name.startswith("mcp-")} <= {
            "accept", "accept-encoding", "content-length", "content-type", "host", "traceparent", "user-agent",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "more", "output"),
    [
        (Said("a text", data={"found": "b"}), "", {"found": "b"}),
        (Said("a text", streamed=True), "", {"text": "a text"}),
        (Said(content=[{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]), "", {"text": "one\ntwo"}),
        (Said(content=[]), "", {"text": ""}),
        (Said(None), "", {"text": ""}),
        (Said('{"found": "in a text"}'), FOUND, {"found": "in a text"}),
        (Said('{"found": "in a text"}'), "", {"text": '{"found": "in a text"}'}),
        (
            Said(content=[{"type": "resource", "resource": {"uri": "file:///x", "text": "inside"}}]),
            "",
            {"text": "inside"},
        ),
        # Thirty letters and a stop would keep the server's own pattern busy for minutes in a naive validator.
        (Said("", data={"found": "a" * 30 + "!"}), "", {"found": "a" * 30 + "!"}),
    ],
)
async def test_what_it_answers_is_the_output(
    server: ScriptedMcp, runner: McpRunner, said: Said, more: str, output: Any
) -> None:
    server.answers = [said]
    assert (await runner.run(make_call(config(server.url, more), {"q": "x"}))).output == output


@pytest.mark.parametrize(
    ("said", "code", "retryable"),
    [
        (Said("the secret broke", is_error=True), "tool_failed", True),
        (Said("the secret broke", data={"code": "no_such_page"}, is_error=True), "no_such_page", True),
        (Said("x", data={"code": "Not a code!"}, is_error=True), "tool_failed", True),
        (Said(error_code=-32602), "invalid_input", False),
        (Said(error_code=-32601), "rejected", False),
        (Said(error_code=-32603), "unavailable", True),
        (Said(status=400), "rejected", False),
        (Said(status=401), "unauthorized", False),
        (Said(status=404), "rejected", False),
        (Said(status=413), "too_large", False),
        (Said(status=429), "rate_limited", True),
        (Said(status=503), "unavailable", True),
        (Said(status=302, headers={"Location": "/elsewhere"}), "unavailable", False),
        (Said(streamed=True, breaks_off=True), "unavailable", True),
        (Said(body={"secret": "no protocol"}), "invalid_output", True),
        (Said(content="secret"), "invalid_output", True),
        (Said("x" * 5 * 1024 * 1024), "too_large", False),
        (Said("x" * 5 * 1024 * 1024, streamed=True), "too_large", False),
        (Said(content=[{"type": "image", "data": "aGk=", "mimeType": "image/png"}]), "invalid_output", True),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_each_way_to_fail_has_its_code(
    server: ScriptedMcp, runner: McpRunner, said: Said, code: str, *, retryable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answers = [said]
    failed = await failure(runner, config(server.url), credentials={"own": "secret"})
    assert (failed.code, failed.retryable) == (code, retryable)
    assert "secret" not in caplog.text
    assert len(server.calls) == 1


async def test_an_answer_that_breaks_the_schema_is_not_used(server: ScriptedMcp, runner: McpRunner) -> None:
    for said in (Said("no data"), Said("", data={"found": 5})):
        server.answers = [said]
        assert (await failure(runner, config(server.url, FOUND))).code == "invalid_output"


async def test_how_long_to_stay_away_is_passed_on(server: ScriptedMcp, runner: McpRunner) -> None:
    server.answers = [Said(status=503, headers={"Retry-After": "7"})]
    assert (await failure(runner, config(server.url))).retry_after_seconds == 7


async def test_an_input_that_is_none_is_not_sent(server: ScriptedMcp, runner: McpRunner) -> None:
    schema = "input_schema: {type: object, properties: {q: {type: string}}, required: [q]}\n"
    for value in ("a text", ["a", "list"], {"q": 5}, {"p": "x"}):
        assert (await failure(runner, config(server.url, schema), value)).code == "invalid_input"
    assert server.messages == []


async def test_a_slow_tool_times_out(server: ScriptedMcp, runner: McpRunner) -> None:
    await runner.run(make_call(config(server.url), {"q": "x"}))
    server.answers = [Said(delay_seconds=30)]
    failed = await failure(runner, config(server.url), deadline_seconds=0.5)
    assert (failed.code, failed.retryable) == ("timeout", True)
    server.answers = [Said(delay_seconds=30)]
    assert (await failure(runner, config(server.url, "limits: {timeout: 500ms}\n"))).code == "timeout"


async def test_cancelling_a_call_ends_it_at_once(server: ScriptedMcp, runner: McpRunner) -> None:
    server.answers = [Said(delay_seconds=30)]
    asked = asyncio.create_task(runner.run(make_call(config(server.url), {"q": "x"})))
    await server.called.wait()
    asked.cancel()
    async with asyncio.timeout(3):
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_a_server_that_is_not_there_is_unavailable(runner: McpRunner) -> None:
    failed = await failure(runner, config("http://127.0.0.1:1/mcp"))
    assert (failed.code, failed.retryable) == ("unavailable", True)


async def test_a_private_address_is_refused_unless_the_operator_opened_it(server: ScriptedMcp) -> None:
    strict = OutboundClient("execution")
    failed = await failure(McpRunner(strict), config(server.url))
    await strict.close()
    assert (failed.code, failed.retryable) == ("url_refused", False)
    assert server.messages == []


@asynccontextmanager
async def reference_server(*, stateless: bool, json: bool) -> AsyncIterator[str]:
    """A server written with the protocol's own library; it knows its newest version and the handshake."""
    from mcp.server.mcpserver import MCPServer

    tools = MCPServer("reference")

    @tools.tool()
    def add(a: int, b: int) -> dict[str, int]:
        """Adds two numbers."""
        return {"sum": a + b}

    @tools.tool()
    def fail() -> str:
        """Fails."""
        raise ValueError("the secret broke")

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = tools.streamable_http_app(stateless_http=stateless, json_response=json)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize(("stateless", "json"), [(True, True), (True, False), (False, True), (False, False)])
async def test_servers_of_the_protocols_own_library(runner: McpRunner, *, stateless: bool, json: bool) -> None:
    async with reference_server(stateless=stateless, json=json) as url:
        result = await runner.run(make_call(config(url, tool="add"), {"a": 2, "b": 3}))
        assert result.output == {"sum": 5}
        assert (await failure(runner, config(url, tool="fail"), {})).code == "tool_failed"
        assert (await failure(runner, config(url, tool="none"), {})).code in ("invalid_input", "tool_failed")

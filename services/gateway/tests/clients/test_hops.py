from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from services.gateway.tests.factories import EdgeStage, Played
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.clients.hops import HttpHop
from spine.server import bind, make_server

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _served(app: ASGIApp) -> AsyncIterator[str]:
    listener = bind("127.0.0.1", 0)
    server = make_server(app, graceful_seconds=1)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.stop()
        await serving


@asynccontextmanager
async def _two_processes(stage: EdgeStage, service: ASGIApp) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """The edge on a port, before a service on another one."""
    async with AsyncExitStack() as stack:
        hop = HttpHop("execution", await stack.enter_async_context(_served(service)))
        stack.push_async_callback(hop.close)
        stage.play(execution=hop)
        edge = await stack.enter_async_context(_served(stage.edge))
        yield edge, await stack.enter_async_context(aiohttp.ClientSession())


class _Streaming:
    """A service that sends one event whenever it is told to, for ever; it notices when its caller leaves."""

    def __init__(self) -> None:
        self.more, self.left = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        watching = asyncio.create_task(self._watch(receive))
        await send({
            "type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")],
        })  # fmt: skip
        while not self.left.is_set():
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            waits = [asyncio.create_task(self.more.wait()), asyncio.create_task(self.left.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            self.more.clear()
        watching.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


async def test_request_and_answer_pass_unchanged(stage: EdgeStage) -> None:
    service = Played({"/v1/agents/a b": (201, {"id": "ü"})})
    holder = await stage.holder()
    async with _two_processes(stage, service) as (edge, session):
        headers = {"Authorization": f"Bearer {holder.key}", "If-Match": '"3"'}
        async with session.post(f"{edge}/v1/agents/a%20b?q=%C3%BC", json={"a": 1}, headers=headers) as answer:
            assert answer.status == 201
            assert await answer.json() == {"id": "ü"}
            assert answer.headers["x-content-type-options"] == "nosniff"
    asked = service.asked[0]
    assert (asked["method"], asked["path"], asked["query"], asked["body"]) == (
        "POST", "/v1/agents/a b", "q=%C3%BC", b'{"a": 1}',
    )  # fmt: skip
    assert asked["headers"]["if-match"] == '"3"'
    assert stage.caller_of(asked["headers"], "execution").organization_id == holder.organization_id


async def test_large_and_chunked_bodies_stream_and_are_limited(stage: EdgeStage) -> None:
    service = Played()
    holder = await stage.holder()

    def chunks(count: int) -> Callable[[], AsyncIterator[bytes]]:
        async def make() -> AsyncIterator[bytes]:
            for _ in range(count):
                yield b"x" * 65536

        return make

    headers = {"Authorization": f"Bearer {holder.key}"}
    async with _two_processes(stage, service) as (edge, session):
        async with session.post(f"{edge}/v1/agents", data=chunks(15)(), headers=headers) as answer:
            assert answer.status == 200
        async with session.post(f"{edge}/v1/agents", data=b"y" * 900_000, headers=headers) as answer:
            assert answer.status == 200
        assert [len(asked["body"]) for asked in service.asked] == [15 * 65536, 900_000]
        async with session.post(f"{edge}/v1/agents", data=chunks(20)(), headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (413, "too_large")


async def test_events_arrive_as_they_happen_and_leaving_is_noticed(stage: EdgeStage) -> None:
    service = _Streaming()
    holder = await stage.holder()
    async with _two_processes(stage, service) as (edge, session):
        headers = {"Authorization": f"Bearer {holder.key}"}
        async with session.get(f"{edge}/v1/runs/1/events", headers=headers) as answer:
            async with asyncio.timeout(10):
                assert await answer.content.readline() == b"data: 1\n"
                await answer.content.readline()
                service.more.set()
                assert await answer.content.readline() == b"data: 1\n"
            answer.close()
        async with asyncio.timeout(10):
            await service.left.wait()


async def test_a_service_that_breaks_off_is_not_taken_for_whole(stage: EdgeStage) -> None:
    async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("gone")

    holder = await stage.holder()
    async with _two_processes(stage, breaking) as (edge, session):
        headers = {"Authorization": f"Bearer {holder.key}"}
        async with session.get(f"{edge}/v1/runs", headers=headers) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()


async def test_head_of_a_stream_ends(stage: EdgeStage) -> None:
    service = _Streaming()
    holder = await stage.holder()
    async with _two_processes(stage, service) as (edge, session):
        async with (
            asyncio.timeout(10),
            session.head(f"{edge}/v1/runs/1/events", headers={"Authorization": f"Bearer {holder.key}"}) as answer,
        ):
            assert answer.headers["content-type"] == "text/event-stream"
        async with asyncio.timeout(10):
            await service.left.wait()


async def test_nobody_there_is_a_503(stage: EdgeStage) -> None:
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    hop = HttpHop("execution", f"http://127.0.0.1:{port}")
    stage.play(execution=hop)
    holder = await stage.holder()
    try:
        answer = await stage.get(holder.key, "/v1/runs")
    finally:
        await hop.close()
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "hop_down", "1")


async def test_a_real_service_in_another_process_believes_the_token(stage: EdgeStage) -> None:
    holder = await stage.holder("viewer")
    async with AsyncExitStack() as stack:
        hop = HttpHop("gateway", await stack.enter_async_context(_served(stage.stage.service)))
        stack.push_async_callback(hop.close)
        stage.play()
        stage.edge.hops = {"gateway": hop}
        listed = (await stage.get(holder.key, "/v1/gateways")).json()["items"]
        assert [each["organization_id"] for each in listed] == [str(holder.organization_id)]
        client = stage.client(holder.key)
        refused = await client.patch(f"/v1/gateways/{listed[0]['id']}", {"name": "x"}, headers={"If-Match": '"1"'})
        assert (refused.status, refused.code) == (403, "missing_permission")

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from chassis.outbound import OutboundClient, OutboundFailedError, OutboundRefusedError

LOOPBACK = (ip_network("127.0.0.0/8"),)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class ScriptedResolver(AbstractResolver):
    """Answers each question with the next address of its list, as a rebinding name server does."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        address = self.addresses.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class Site:
    """A real HTTP server with one answer for everything, which it remembers being asked for."""

    def __init__(self) -> None:
        self.seen: list[tuple[web.Request, bytes]] = []
        self.answer: Callable[[web.Request], Any] = lambda _: web.Response(text="hello")
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request, await request.read()))
        answered = self.answer(request)
        result: web.StreamResponse = await answered if asyncio.iscoroutine(answered) else answered
        return result

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
async def site(anyio_backend: object) -> AsyncIterator[Site]:
    site = Site()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", site.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[OutboundClient]:
    client = OutboundClient("test", allow=LOOPBACK, max_bytes=1000)
    yield client
    await client.close()


async def post(client: OutboundClient, url: str, *, body: bytes = b"{}", seconds: float = 10, **headers: str) -> Any:
    return await client.request("POST", url, headers=headers, body=body, seconds=seconds, traceparent=TRACE)


@pytest.mark.anyio
async def test_an_answer_comes_back_whole_and_the_trace_goes_on(site: Site, client: OutboundClient) -> None:
    answer = await post(client, site.url("/a?b=c"), body=b"question", **{"X-Own": "1", "Host": "elsewhere"})
    assert (answer.status, answer.body) == (200, b"hello")
    request, body = site.seen[0]
    assert (request.path_qs, body, request.headers["X-Own"]) == ("/a?b=c", b"question", "1")
    assert request.headers["traceparent"] == TRACE
    assert request.headers["Host"] == f"127.0.0.1:{site.port}"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://user:secret@example.com/",
        "http:///nowhere",
        "not a url",
        "http://[::1",
        "http://example.com:99999/",
        "http://127.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433/",
        "http://127.1/",
    ],
)
async def test_what_must_not_be_called_is_refused_before_anything_is_sent(url: str) -> None:
    client = OutboundClient("test")
    try:
        with pytest.raises((OutboundRefusedError, OutboundFailedError)) as refused:
            await post(client, url)
        assert refused.value.code == "url_refused"
        assert "secret" not in str(refused.value)
    finally:
        await client.close()


@pytest.mark.anyio
async def test_a_name_that_leads_inside_is_refused(site: Site) -> None:
    client = OutboundClient("test")
    with pytest.raises(OutboundRefusedError):
        await post(client, f"http://localhost:{site.port}/")
    await client.close()
    assert site.seen == []


@pytest.mark.anyio
async def test_the_operator_opens_one_host_and_port(site: Site) -> None:
    client = OutboundClient("test", allow=[f"127.0.0.1:{site.port}"])
    assert (await post(client, site.url())).status == 200
    with pytest.raises(OutboundRefusedError):
        await post(client, f"http://127.0.0.1:{site.port + 1}/")
    await client.close()


@pytest.mark.anyio
async def test_one_connection_asks_for_its_address_once_and_the_next_one_is_judged_again(site: Site) -> None:
    resolver = ScriptedResolver("127.0.0.1", "10.0.0.1")
    client = OutboundClient("test", allow=LOOPBACK, resolver=resolver)
    site.answer = lambda _: web.Response(text="bye", headers={"Connection": "close"})
    url = f"http://rebinding.example:{site.port}/"
    assert (await post(client, url)).body == b"bye"
    assert resolver.asked == 1
    with pytest.raises(OutboundRefusedError):
        await post(client, url)
    await client.close()
    assert len(site.seen) == 1


@pytest.mark.anyio
async def test_a_redirect_is_not_followed(site: Site, client: OutboundClient) -> None:
    site.answer = lambda _: web.Response(status=302, headers={"Location": "/elsewhere"})
    with pytest.raises(OutboundFailedError) as failed:
        await post(client, site.url())
    assert (failed.value.code, failed.value.retryable) == ("redirected", False)
    assert len(site.seen) == 1


@pytest.mark.anyio
async def test_sizes_are_bounded_both_ways(site: Site, client: OutboundClient) -> None:
    site.answer = lambda _: web.Response(body=b"x" * 1000)
    assert len((await post(client, site.url(), body=b"y" * 1000)).body) == 1000
    site.answer = lambda _: web.Response(body=b"x" * 1001)
    with pytest.raises(OutboundFailedError, match="too_large"):
        await post(client, site.url())
    asked = len(site.seen)
    with pytest.raises(OutboundFailedError, match="too_large"):
        await post(client, site.url(), body=b"y" * 1001)
    assert len(site.seen) == asked


@pytest.mark.anyio
async def test_a_compressed_answer_is_refused_because_its_real_size_is_unknown(
    site: Site, client: OutboundClient
) -> None:
    site.answer = lambda _: web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
    with pytest.raises(OutboundFailedError, match="encoded"):
        await post(client, site.url())


@pytest.mark.anyio
async def test_the_time_bounds_the_head_and_the_body(site: Site, client: OutboundClient) -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        await asyncio.sleep(30)
        return response

    for slow in (never, half):
        site.answer = slow
        with pytest.raises(OutboundFailedError) as failed:
            await post(client, site.url(), seconds=0.3)
        assert (failed.value.code, failed.value.retryable) == ("timeout", True)


@pytest.mark.anyio
async def test_a_closed_port_and_a_cut_answer_may_be_tried_again(site: Site, client: OutboundClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OutboundFailedError) as failed:
            await post(client, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert (failed.value.code, failed.value.retryable) == ("unreachable", True)

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    site.answer = cut
    with pytest.raises(OutboundFailedError) as failed:
        await post(client, site.url())
    assert (failed.value.code, failed.value.retryable) == ("broken", True)


@pytest.mark.anyio
async def test_a_header_that_smuggles_another_one_is_not_sent(site: Site, client: OutboundClient) -> None:
    with pytest.raises(OutboundFailedError) as failed:
        await post(client, site.url(), **{"X-Own": "1\r\nX-Other: 2"})
    assert (failed.value.code, failed.value.retryable) == ("invalid_request", False)
    assert site.seen == []


@pytest.mark.anyio
async def test_an_answer_can_be_read_while_it_arrives(site: Site, client: OutboundClient) -> None:
    second = asyncio.Event()

    async def two_parts(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        await second.wait()
        await response.write(b"two")
        return response

    site.answer = two_parts
    stream = await client.open("GET", site.url(), headers={}, body=b"", seconds=10)
    chunks = stream.chunks()
    assert await anext(chunks) == b"one"
    second.set()
    assert [chunk async for chunk in chunks] == [b"two"]
    stream.close()


@pytest.mark.anyio
async def test_an_address_in_an_old_spelling_is_judged_by_what_it_becomes() -> None:
    client = OutboundClient("test", resolver=ScriptedResolver("127.0.0.1"))
    with pytest.raises(OutboundRefusedError):
        await post(client, "http://0x7f000001/")
    await client.close()

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from services.execution.tests.cut_proxy import cut_proxy

from chassis.ids import new_id
from execution.clients.live_line import BEHIND, LiveLine
from remit_local.testing import Servers
from spine.topology import declare_topology

pytestmark = pytest.mark.anyio


async def test_it_comes_back_and_says_so_and_what_was_said_meanwhile_is_lost(servers: Servers) -> None:
    await declare_topology(servers.amqp_url, {})
    where, key, opened, heard = (
        urlsplit(servers.amqp_url),
        f"execution.test.{new_id().hex}",
        [0],
        asyncio.Queue[bytes](),
    )
    async with cut_proxy(where.hostname or "", where.port or 5672) as proxy:
        url = servers.amqp_url.replace(f"{where.hostname}:{where.port}", f"127.0.0.1:{proxy.port}")
        assert url != servers.amqp_url

        def count() -> None:
            opened[0] += 1

        line = LiveLine(url, "test", heard.put_nowait, count)
        running = asyncio.create_task(line.run(key))
        async with asyncio.timeout(20):
            await line.opened.wait()
            line.publish(key, b"one")
            assert await heard.get() == b"one"
            proxy.cut()
            while line.opened.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            line.publish(key, b"lost")
            proxy.mend()
            await line.opened.wait()
            line.publish(key, b"two")
            assert await heard.get() == b"two"
        assert opened == [2]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_cannot_be_sent_soon_is_lost_and_costs_nothing() -> None:
    line = LiveLine("amqp://nobody@127.0.0.1:1/", "test", lambda _: None)
    for _ in range(10):
        line.publish("nobody", b"lost")
    assert line.behind == 0
    line.opened.set()
    for _ in range(2 * BEHIND):
        line.publish("nobody", b"kept until there is no more room")
    assert line.behind == BEHIND

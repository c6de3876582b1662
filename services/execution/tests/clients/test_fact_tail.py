from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from rstream import schema
from services.execution.tests.cut_proxy import cut_proxy

from chassis.ids import new_id
from execution.clients.fact_tail import FactTail
from execution.usecases.run_feeds import KnownRuns, RunWatcher
from remit_local.testing import Servers
from spine.fact_message import encode
from spine.stream import Link, StreamPlace, create_stream

pytestmark = pytest.mark.anyio
ORGANIZATION = UUID(int=7)


class Stream:
    """A stream of this test alone, and whoever publishes on it."""

    def __init__(self, place: StreamPlace, name: str, link: Link) -> None:
        self.place, self.name, self._link = place, name, link

    async def publish(self, *sequences: int) -> None:
        rows = [
            {
                "sequence": number, "epoch": 1, "organization_sequence": number, "id": new_id(), "body": b"{}",
                "type": "execution.run.queued.v1", "organization_id": ORGANIZATION, "traceparent": "",
            }
            for number in sequences
        ]  # fmt: skip
        messages = [schema.Message(row["sequence"], None, encode(row)) for row in rows]
        await self._link.client.send_publish_frame(schema.Publish(0, messages))

    def tail(self, place: StreamPlace | None = None) -> FactTail:
        return FactTail(place or self.place, "execution", lambda _: True, stream=self.name)


@pytest.fixture
async def stream(servers: Servers, anyio_backend: object) -> AsyncIterator[Stream]:
    place, name = StreamPlace.parse(servers.stream_url), f"facts.test-{new_id()}"
    async with Link(place, "test", ()) as link:
        await create_stream(link.client, name)
        link.client.add_stream(name)
        await link.client.declare_publisher(name, "test", 0)
        yield Stream(place, name, link)


async def until(tail: FactTail, sequences: Sequence[int]) -> None:
    """Wait until it has come to the end, and these are kept."""
    changed = asyncio.Event()
    tail.listen = lambda _: changed.set()
    async with asyncio.timeout(15):
        while not tail.is_ready or [each.fact.sequence for each in tail.since(0)] != list(sequences):
            await changed.wait()
            changed.clear()


async def test_it_begins_with_what_was_published_lately_and_goes_on(stream: Stream) -> None:
    await stream.publish(1, 2)
    tail = stream.tail()
    async with tail.wanted():
        await until(tail, [1, 2])
        await stream.publish(3)
        await until(tail, [1, 2, 3])
        assert tail.end - tail.first == 3
    await tail.close()


async def test_nobody_reads_on_across_numbers_that_are_missing(stream: Stream) -> None:
    await stream.publish(1, 2)
    tail = stream.tail()
    async with tail.wanted():
        await until(tail, [1, 2])
        watcher = RunWatcher(tail, str(ORGANIZATION).encode(), "", KnownRuns())
        begun = watcher.begin()
        assert begun is not None
        assert begun.data["name"] == "WATCH_STARTED"
        await stream.publish(3)
        await until(tail, [1, 2, 3])
        assert [each.fact.sequence for each in watcher.take() or ()] == [3]
        stood = watcher.stand()
        await stream.publish(9)
        await until(tail, [9])
        assert watcher.take() is None
        assert watcher.reset().data["name"] == "WATCH_RESET"
        assert watcher.take() == []
        later = RunWatcher(tail, str(ORGANIZATION).encode(), stood, KnownRuns()).begin()
        assert later is not None
        assert later.data["name"] == "WATCH_RESET"
    await tail.close()


async def test_an_empty_stream_is_ready_too(stream: Stream) -> None:
    tail = stream.tail()
    async with tail.wanted():
        await until(tail, [])
        await stream.publish(1)
        await until(tail, [1])
        assert tail.is_ready
    await tail.close()


async def test_only_while_somebody_wants_it(stream: Stream) -> None:
    await stream.publish(1)
    tail = stream.tail()
    async with tail.wanted():
        await until(tail, [1])
    await tail.close()
    assert (tail.is_ready, tail.since(0)) == (False, [])
    async with tail.wanted():
        await until(tail, [1])
    await tail.close()


async def test_a_lost_connection_loses_no_fact(stream: Stream) -> None:
    await stream.publish(1)
    async with cut_proxy(stream.place.host, stream.place.port) as proxy:
        tail = stream.tail(replace(stream.place, host="127.0.0.1", port=proxy.port))
        async with tail.wanted():
            await until(tail, [1])
            first = tail.first
            proxy.cut()
            await stream.publish(2, 3)
            proxy.mend()
            await until(tail, [1, 2, 3])
            assert proxy.accepted >= 2
            assert tail.first == first
        await tail.close()

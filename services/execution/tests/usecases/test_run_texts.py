"""Doors and workers in processes of their own, as far as each can tell: nothing joins them but the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import pytest

from chassis.ids import new_id
from execution.usecases.run_texts import TELL_SECONDS, TextDesk, TextOf, TextSource, TextWatcher
from remit_local.testing import Servers
from spine.service import Running
from spine.topology import declare_topology

pytestmark = pytest.mark.anyio
NO_SERVICE = cast("Running", None)


@pytest.fixture
async def source(servers: Servers, anyio_backend: object) -> AsyncIterator[TextSource]:
    await declare_topology(servers.amqp_url, {})
    made = TextSource(servers.amqp_url)
    running = asyncio.create_task(made.run(NO_SERVICE))
    async with asyncio.timeout(10):
        await made.line.opened.wait()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def desk(servers: Servers, source: TextSource) -> AsyncIterator[TextDesk]:
    made = TextDesk(servers.amqp_url)
    yield made
    await made.close()


async def until_watched(source: TextSource, run_id: UUID, *, doors: int = 1) -> None:
    for _ in range(500):
        if len(source.doors(run_id)) == doors:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never so")


async def pieces_of(watcher: TextWatcher, text: str) -> list[dict[str, Any]]:
    """What a watcher was told, up to the piece that completes the text."""
    told: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while "".join(piece["text"] for piece in told) != text:
            told += await watcher.take()
    return told


async def test_who_watches_is_told_what_is_written(source: TextSource, desk: TextDesk) -> None:
    whose = TextOf(new_id(), "draft", 2, 1)
    assert source.sink(whose) is None
    async with desk.watching(whose.run_id) as one, desk.watching(whose.run_id) as other:
        await until_watched(source, whose.run_id)
        write = source.sink(whose)
        assert write is not None
        for word in ("one ", "two ", "three"):
            write(word)
            await asyncio.sleep(0.03)
        for watcher in (one, other):
            told = await pieces_of(watcher, "one two three")
            assert (told[0]["node"], told[0]["iteration"], told[0]["attempt"], told[0]["at"]) == ("draft", 2, 1, 0)
    await until_watched(source, whose.run_id, doors=0)
    assert source.sink(whose) is None


async def test_two_doors_watch_one_run(source: TextSource, desk: TextDesk, servers: Servers) -> None:
    second, whose = TextDesk(servers.amqp_url), TextOf(new_id(), "draft", 0, 1)
    async with desk.watching(whose.run_id) as here, second.watching(whose.run_id) as there:
        await until_watched(source, whose.run_id, doors=2)
        write = source.sink(whose)
        assert write is not None
        write("hello")
        assert await pieces_of(here, "hello")
        assert await pieces_of(there, "hello")
    await second.close()


async def test_others_are_told_nothing(source: TextSource, desk: TextDesk) -> None:
    whose, another = TextOf(new_id(), "draft", 0, 1), new_id()
    async with desk.watching(whose.run_id) as watcher, desk.watching(another) as other:
        await until_watched(source, whose.run_id)
        write = source.sink(whose)
        assert write is not None
        write("hello")
        assert await pieces_of(watcher, "hello")
        assert not other.pieces


async def test_a_step_is_told_ten_times_a_second_at_most(source: TextSource, desk: TextDesk) -> None:
    whose, words = TextOf(new_id(), "draft", 0, 1), 100
    async with desk.watching(whose.run_id) as watcher:
        await until_watched(source, whose.run_id)
        write = source.sink(whose)
        assert write is not None
        began = asyncio.get_running_loop().time()
        for _ in range(words):
            write("word ")
            await asyncio.sleep(0.005)
        told = await pieces_of(watcher, "word " * words)
        assert len(told) <= (asyncio.get_running_loop().time() - began) / TELL_SECONDS + 2


async def test_a_run_is_watched_before_it_begins_where_its_caller_says_so(source: TextSource, desk: TextDesk) -> None:
    whose = TextOf(new_id(), "draft", 0, 1)
    await desk.expect(whose.run_id)
    await until_watched(source, whose.run_id)


async def test_what_is_watched_is_said_once_the_connection_is_there(desk: TextDesk, source: TextSource) -> None:
    """As after every loss of the broker; here it is the first time."""
    whose = TextOf(new_id(), "draft", 0, 1)
    async with desk.watching(whose.run_id):  # its connection is not open yet
        await until_watched(source, whose.run_id)
        assert source.sink(whose) is not None


async def test_nothing_is_told_and_nothing_fails_without_a_broker() -> None:
    nowhere = TextDesk("amqp://nobody@127.0.0.1:1/")
    async with nowhere.watching(new_id()) as watcher:
        await nowhere.expect(new_id())
        assert not watcher.pieces
    await nowhere.close()

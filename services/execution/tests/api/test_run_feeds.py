from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from services.execution.tests.examples import an_undecided_step
from services.execution.tests.factories import make_agent
from services.execution.tests.stage import Place, Stage
from services.execution.tests.usecases.test_run_starts import rules

from chassis.caller import Caller
from chassis.ids import new_id
from execution.clients.fact_tail import FactTail
from execution.usecases.run_feeds import MAX_WATCHERS, RunFeed, changes_kept
from remit_local.testing import Servers
from spine.outbox import Relay
from spine.stream import StreamPlace

pytestmark = pytest.mark.anyio
ONLY_ONE_WORKSPACE = """
apiVersion: policy/v1
type: abac
rules:
  - {rule_name: other-workspaces, effect: deny, actions: ["run:read"], when: "'workspace_id' in resource.attr &&
      resource.attr.workspace_id != '%s'"}
"""


class Told(NamedTuple):
    """One event as a watcher got it."""

    id: str
    name: str
    run_id: str | None
    value: dict[str, Any]


@pytest.fixture(scope="module")
async def relay(stage: Stage, servers: Servers) -> AsyncIterator[Relay]:
    """Publishes this stage's facts, on a stream of its own, which the door follows."""
    place = StreamPlace.parse(servers.stream_url)
    made = Relay("execution", stage.database.url("relay"), place)
    made.stream = f"facts.test-{new_id()}"
    running = asyncio.create_task(made.run())
    stage.running.units.wake_relay = made.wake
    feed = RunFeed(FactTail(place, "execution", changes_kept, stream=made.stream))
    stage.service.api.state.feed = feed
    yield made
    await feed.close()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class Watching:
    """Somebody who watches until the block ends."""

    def __init__(self) -> None:
        self.text = ""
        self.came, self.left = asyncio.Event(), asyncio.Event()

    def told(self) -> list[Told]:
        """Every event so far."""
        events = []
        for block in self.text.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "data" in fields:
                data = json.loads(fields["data"])
                value = data.get("value", data)
                events.append(Told(fields["id"], data.get("name") or fields["event"], value.get("runId"), value))
        return events

    async def until(self, run_id: str) -> list[Told]:
        """Every event up to the first about this run."""
        async with asyncio.timeout(20):
            while run_id not in {event.run_id for event in self.told()}:
                self.came.clear()
                await self.came.wait()
        return self.told()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        assert message.get("status", 200) == 200
        self.text += message.get("body", b"").decode()
        self.came.set()


@asynccontextmanager
async def watching(stage: Stage, caller: Caller, last: str = "", **query: Any) -> AsyncIterator[Watching]:
    """Watch from before the block until its end."""
    watch = Watching()
    headers = {"authorization": f"Bearer {stage.issuer.issue(caller, 'execution')}", "last-event-id": last}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/v1/runs/events", "raw_path": b"/v1/runs/events", "query_string": urlencode(query).encode(),
        "root_path": "", "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    task = asyncio.create_task(stage.service(scope, watch.receive, watch.send))
    async with asyncio.timeout(20):
        while not watch.told():
            watch.came.clear()
            await watch.came.wait()
    yield watch
    watch.left.set()
    await task


async def start(stage: Stage, caller: Caller, agent: str = "writer", **more: Any) -> str:
    body = {"agent": agent, "input": {"topic": "rivers"}, **more}
    answer = await stage.client(caller).post("/v1/runs", body)
    assert answer.status == 202, answer.body
    return str(answer.json()["id"])


async def cancel(stage: Stage, caller: Caller, run_id: str) -> None:
    assert (await stage.client(caller).post(f"/v1/runs/{run_id}/cancel")).status == 200


async def test_what_happens_to_runs_is_told_in_order(stage: Stage, place: Place, relay: Relay) -> None:
    agent = await make_agent(stage, place)
    caller = place.caller()
    async with watching(stage, caller) as watch:
        run_id = await start(stage, caller)
        await cancel(stage, caller, run_id)
        last = await start(stage, caller)
        told = await watch.until(last)
    assert [event.name for event in told] == [
        "WATCH_STARTED", "RUN_QUEUED", "RUN_CANCELLING", "RUN_ERROR", "RUN_QUEUED",
    ]  # fmt: skip
    assert {event.run_id for event in told[1:4]} == {run_id}
    assert told[1].value["agentId"] == str(agent.id)
    assert told[1].value["status"] == "queued"
    assert (told[3].value["status"], told[3].value["code"]) == ("cancelled", "cancelled")


async def test_a_stranger_hears_nothing(stage: Stage, place: Place, relay: Relay) -> None:
    await make_agent(stage, place)
    other = await stage.place()
    await make_agent(stage, other)
    async with watching(stage, other.caller()) as stranger, watching(stage, place.caller()) as own:
        run_id = await start(stage, place.caller())
        theirs = await start(stage, other.caller())
        assert [event.run_id for event in await stranger.until(theirs)] == [None, theirs]
        assert [event.run_id for event in await own.until(run_id)] == [None, run_id]
    assert run_id not in stranger.text


async def test_whoever_may_read_its_own_runs_hears_of_those(stage: Stage, place: Place, relay: Relay) -> None:
    await make_agent(stage, place)
    developer = place.caller("developer")
    async with watching(stage, developer) as watch:
        await start(stage, place.caller())
        mine = await start(stage, developer)
        assert [event.run_id for event in await watch.until(mine)] == [None, mine]


async def test_a_watcher_narrows_what_it_hears(stage: Stage, place: Place, relay: Relay) -> None:
    caller, second = place.caller(), new_id()
    await make_agent(stage, place)
    editor = await make_agent(stage, place, "editor")
    await stage.workspace(place, second, name="second")
    await make_agent(stage, Place(place.organization_id, second), "elsewhere")
    async with (
        watching(stage, caller, workspace_id=place.workspace_id) as here,
        watching(stage, caller, agent_id=editor.id) as of_editor,
    ):
        runs = [await start(stage, caller, agent) for agent in ("writer", "elsewhere", "editor")]
        assert [event.run_id for event in await here.until(runs[2])] == [None, runs[0], runs[2]]
        assert [event.run_id for event in await of_editor.until(runs[2])] == [None, runs[2]]


async def test_a_rule_about_workspaces_holds_for_each_run(stage: Stage, place: Place, relay: Relay) -> None:
    caller, second = place.caller(), new_id()
    await make_agent(stage, place)
    await stage.workspace(place, second, name="second")
    await make_agent(stage, Place(place.organization_id, second), "elsewhere")
    bundle = rules(place, ONLY_ONE_WORKSPACE % place.workspace_id).bundle
    assert bundle is not None
    async with watching(stage, caller) as watch:
        await stage.sql(
            "update organization_rules set bundle_version = 7, bundle_source = $2 where organization_id = $1",
            place.organization_id, bundle.source(),
        )  # fmt: skip
        await asyncio.sleep(1.1)  # a process knows rules of the last second
        runs = [await start(stage, caller, agent) for agent in ("elsewhere", "writer")]
        assert [event.run_id for event in await watch.until(runs[1])] == [None, runs[1]]


async def test_who_comes_back_is_told_what_came_after(stage: Stage, place: Place, relay: Relay) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    async with watching(stage, caller) as first:
        last = (await first.until(await start(stage, caller)))[-1]
    missed = [await start(stage, caller) for _ in range(3)]
    async with watching(stage, caller, last=last.id) as second:
        told = await second.until(missed[-1])
    assert [(event.name, event.run_id) for event in told] == [
        ("WATCH_RESUMED", None), *(("RUN_QUEUED", run_id) for run_id in missed),
    ]  # fmt: skip


async def test_a_run_that_goes_on_is_told_once_nothing_keeps_it(stage: Stage, place: Place, relay: Relay) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    run_id = await start(stage, caller)
    steps = [await an_undecided_step(stage, run_id, node) for node in ("first", "second")]
    async with watching(stage, caller) as watch:
        for step_id in steps:
            answer = await stage.client(caller).post(
                f"/v1/runs/{run_id}/steps/{step_id}/decide", {"outcome": "completed", "output": 1}
            )
            assert answer.status == 200, answer.body
            await asyncio.sleep(1)
        assert [(event.name, event.value.get("status")) for event in watch.told()[1:]] == [("RUN_RESUMED", "queued")]


async def test_many_at_once_are_all_told_in_order(stage: Stage, place: Place, relay: Relay) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    async with watching(stage, caller) as watch:
        items = [{"agent": "writer", "input": {"topic": "rivers"}}] * 900
        answer = await stage.client(caller).post("/v1/runs/bulk-create", {"items": items})
        runs = [each["item"]["id"] for each in answer.json()["results"]]
        began = asyncio.get_running_loop().time()
        told = await watch.until(runs[-1])
        assert asyncio.get_running_loop().time() - began < 8
    assert [event.run_id for event in told[1:]] == runs


@pytest.mark.parametrize("last", ["1700000000000.1.7", "nonsense", "9999999999999.1.1"])
async def test_an_id_that_is_too_old_or_none_begins_anew(
    stage: Stage, place: Place, relay: Relay, last: str
) -> None:  # fmt: skip
    await make_agent(stage, place)
    caller = place.caller()
    await start(stage, caller)
    async with watching(stage, caller, last=last) as watch:
        run_id = await start(stage, caller)
        assert (await watch.until(run_id))[0].name == "WATCH_RESET"


async def test_an_organization_has_so_many_watchers_at_once(stage: Stage, place: Place, relay: Relay) -> None:
    client, query = stage.client(place.caller()), {"seconds": "0.1"}
    other = await stage.place()
    async with AsyncExitStack() as stack:
        for _ in range(MAX_WATCHERS):
            await stack.enter_async_context(watching(stage, place.caller()))
        refused = await client.get("/v1/runs/events", query=query)
        assert (refused.status, refused.code) == (429, "too_many_watchers")
        assert (await stage.client(other.caller()).get("/v1/runs/events", query=query)).status == 200
    assert (await client.get("/v1/runs/events", query=query)).status == 200


async def stays(stage: Stage, statement: str) -> bool:
    before = await stage.database.value(statement)
    await asyncio.sleep(1)
    return bool(await stage.database.value(statement) == before)


async def test_a_watcher_of_nothing_asks_the_database_nothing(stage: Stage, place: Place, relay: Relay) -> None:
    asked = """select max(query_start) from pg_stat_activity
    where datname = current_database() and application_name = 'remit-execution'"""
    async with watching(stage, place.caller()) as watch:
        # What earlier tests have left may still be under way: of several whiles, one is still.
        assert any([await stays(stage, asked) for _ in range(4)])
        assert [event.name for event in watch.told()] == ["WATCH_STARTED"]


async def test_the_watchers_of_an_organization_share_what_is_read(stage: Stage, place: Place, relay: Relay) -> None:
    await make_agent(stage, place)
    caller = place.caller()
    async with watching(stage, caller) as one, watching(stage, place.caller("operator")) as other:
        runs = [await start(stage, caller) for _ in range(4)]
        for watch in (one, other):
            assert [event.run_id for event in await watch.until(runs[3])] == [None, *runs]

import pytest
from clients.cli.tests.conftest import ScriptedEdge, Terminal

from remit_cli.edge import Edge
from remit_cli.failures import UNREACHABLE, RefusedError, UnreachableError, show_failure
from remit_cli.place import Place
from remit_cli.watch import follow

pytestmark = pytest.mark.anyio

STARTED = b'id: started\nevent: RUN_STARTED\ndata: {"type": "RUN_STARTED"}\n\n'
STEP = b'id: 7.facts.0.1\nevent: STEP_FINISHED\ndata: {"stepName": "facts"}\n\n'
ENDED = b'id: ended\nevent: RUN_FINISHED\ndata: {"status": "completed"}\n\n'


async def test_the_key_goes_with_every_request_and_nothing_that_is_none(edge: ScriptedEdge) -> None:
    edge.on("GET /v1/runs", (200, {"items": [], "next_cursor": None}))
    async with Edge(Place(edge.url, "rmt_secret")) as client:
        await client.get("/v1/runs", status=None, limit=5)
    assert edge.asked[0].headers["Authorization"] == "Bearer rmt_secret"
    assert edge.asked[0].path == "/v1/runs?limit=5"


async def test_items_follow_pages_up_to_the_limit(edge: ScriptedEdge) -> None:
    page = [{"id": number} for number in range(200)]
    edge.on("GET /v1/agents?limit=200", (200, {"items": page, "next_cursor": "second"}))
    edge.on("GET /v1/agents?limit=50&cursor=second", (200, {"items": page[:50], "next_cursor": "third"}))
    async with Edge(Place(edge.url, "key")) as client:
        assert len(await client.items("/v1/agents", limit=250)) == 250
    assert len(edge.asked) == 2


async def test_a_problem_is_raised_with_its_code(edge: ScriptedEdge) -> None:
    async with Edge(Place(edge.url, "key")) as client:
        with pytest.raises(RefusedError) as refused:
            await client.get("/v1/runs/1")
    assert (refused.value.status, refused.value.code) == (404, "not_found")


async def test_an_answer_that_is_no_problem_is_shown_as_it_is(edge: ScriptedEdge) -> None:
    edge.on("GET /v1/me", (502, b"<html>bad gateway</html>"))
    async with Edge(Place(edge.url, "key")) as client:
        with pytest.raises(RefusedError, match="bad gateway"):
            await client.get("/v1/me")


async def test_no_edge_is_said_with_what_to_do() -> None:
    async with Edge(Place("http://127.0.0.1:1", "key")) as client:
        with pytest.raises(UnreachableError, match="remit status") as missing:
            await client.get("/v1/me")
    assert missing.value.exit_code == UNREACHABLE


async def test_following_goes_on_after_a_lost_stream_and_tells_nothing_twice(edge: ScriptedEdge) -> None:
    edge.on("GET /v1/runs/r/events", (200, STARTED + b": still here\n\n" + STEP), (200, STEP + ENDED))
    async with Edge(Place(edge.url, "key")) as client:
        names = [event.name async for event in follow(client, "r")]
    assert names == ["RUN_STARTED", "STEP_FINISHED", "RUN_FINISHED"]
    assert edge.asked[1].headers["Last-Event-ID"] == "7.facts.0.1"


def test_failures_show_detail_code_and_trace(
    edge: ScriptedEdge, remit: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    error = remit.refused("runs", "get", "1")
    show_failure(error, as_json=False)
    shown = capsys.readouterr().err
    assert "There is nothing here." in shown
    assert "not_found (404), trace ab12" in shown
    show_failure(error, as_json=True)
    assert '"code":"not_found"' in capsys.readouterr().err

"""Language models through the whole engine: keys, prices, caps, large answers; the model is a server over HTTP."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

import orjson
import pytest
from services.execution.tests.model_stage import SECRET, Organization, World
from services.execution.tests.scripted_openai import Reply
from structlog.testing import capture_logs

from chassis.objects import INLINE_BYTES

# One queue serves the whole broker: two engines at once, each with a database of its own, would take each other's runs.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("engine queue")]


@pytest.fixture
async def world(shared_world: World, anyio_backend: object) -> World:
    """The same for all, but with nothing asked yet."""
    shared_world.forget()
    return shared_world


async def test_a_stored_key_reaches_the_model_and_nothing_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    here = await world.organization()
    credential, price = await here.credential(), await here.price()
    model = f'provider: openai-compatible, name: small-1, base_url: "{world.model.base_url}", credential: mine'
    await here.agent(model)
    refusal = {"error": {"message": f"Incorrect API key provided: {SECRET}"}}
    world.model.replies = [Reply("Because."), Reply(status=401, body=refusal)]
    with capture_logs() as logs:
        run, refused = await here.run(), await here.run()
    assert (run["status"], run["output"]) == ("completed", {"text": "Because."}), run
    assert (refused["status"], refused["error_code"]) == ("failed", "unauthorized")
    assert [request.headers["authorization"] for request in world.model.requests] == [f"Bearer {SECRET}"] * 2
    step = (await here.steps(run))[0]
    assert step["price_version"] == f"model_price/{price['id']}/1"
    seen = [run, refused, await here.steps(run), await here.steps(refused), await here.facts(), logs, caplog.text]
    for table in ("run", "step", "outbox", "fact_log"):
        stored = await world.stage.database.value(
            f"select count(*) from {table} t where t::text like $1 or t::text like $2",
            f"%{SECRET}%", f"%{SECRET.encode().hex()}%",
        )  # fmt: skip
        assert stored == 0
    assert SECRET not in str(seen)

    path, other = f"/v1/model-credentials/{credential['id']}", "sk-other-0123456789-abcd"
    await here.client.patch(path, {"secret": other}, headers={"if-match": '"1"'})
    world.model.replies = [Reply()]
    assert (await here.run())["status"] == "completed"
    assert world.model.requests[-1].headers["authorization"] == f"Bearer {other}"
    await here.client.delete(path)
    gone = await here.run()
    assert (gone["status"], gone["error_code"], len(world.model.requests)) == ("failed", "unauthorized", 3)


async def test_a_key_is_not_sent_where_it_was_not_stored_for(world: World) -> None:
    here = await world.organization()
    await here.price()
    await here.credential(name="elsewhere", base_url="https://models.example.com/v1")
    await here.credential(name="paid", provider="openai", base_url=None)
    for name in ("elsewhere", "paid"):
        base_url = world.model.base_url
        model = f'provider: openai-compatible, name: small-1, base_url: "{base_url}", credential: {name}'
        await here.agent(model, name=name)
        run = await here.run(agent=name)
        assert (run["status"], run["error_code"]) == ("failed", "unauthorized"), run
        assert "not for this provider and address" in run["error_message"]
    assert world.model.requests == []


async def test_costs_of_steps_runs_and_facts_are_the_same(world: World) -> None:
    here = await world.organization()
    price = await here.price(input_usd_micros_per_million=150_000, output_usd_micros_per_million=600_000)
    await here.chain("1.00")
    world.model.replies = [
        Reply("one", usage=(1_000, 100)), Reply("two", status=503), Reply("two", usage=(2_000, 1)), Reply("three"),
    ]  # fmt: skip
    run = await here.run(orchestration="chain")
    steps = await here.steps(run)
    # 0.15 and 0.60 dollars per million: 150 + 60, 300 + 0.6, 1.65 + 4.2, each rounded up once.
    paid = [step["cost_usd_micros"] for step in steps if step["status"] == "completed"]
    assert (run["status"], paid) == ("completed", [210, 301, 6]), run
    for number in ("cost_usd_micros", "input_tokens", "output_tokens"):
        assert run[number] == sum(step[number] for step in steps)
        ended = (await here.facts("run.completed"))[0]
        assert ended[number] == run[number] == sum(fact[number] for fact in await here.facts("step."))
    assert {fact["price_version"] for fact in await here.facts("step.")} == {f"model_price/{price['id']}/1"}
    booked = [(fact["provider"], fact["model_name"]) for fact in await here.facts("step.completed")]
    assert booked == [("openai-compatible", "small-1")] * 3


async def test_a_run_stops_before_the_call_that_could_pass_its_cap(world: World) -> None:
    here = await world.organization()
    await here.price()
    # Two calls cost 36; a third may cost 60 for its answer alone, which 95 does not hold although 54 would have.
    await here.chain("0.000095")
    run = await here.run(orchestration="chain")
    assert (run["status"], run["stop_reason"], run["cost_usd_micros"]) == ("failed", "max_cost", 36), run
    assert len(world.model.requests) == 2
    assert sorted(run["output"]) == ["a", "b"]
    assert [step["cost_usd_micros"] for step in await here.steps(run)] == [18, 18]
    assert (await here.facts("run.failed"))[0]["stop_reason"] == "max_cost"


async def test_an_agent_has_a_cap_of_its_own(world: World) -> None:
    here = await world.organization()
    await here.price()
    await here.agent(more='limits: {max_cost_usd: "0.000059"}\n')
    run = await here.run()
    assert (run["status"], run["error_code"], run["cost_usd_micros"]) == ("failed", "max_cost", 0), run
    assert world.model.requests == []


async def test_a_model_without_a_price_is_not_called(world: World) -> None:
    here, other = await world.organization(), await world.organization()
    await other.price()  # of no interest to anybody else
    await here.price(model_name="big-*")
    await here.price(valid_from="2999-01-01T00:00:00Z")
    await here.agent()
    run = await here.run()
    assert (run["status"], run["error_code"], run["cost_usd_micros"]) == ("failed", "unknown_price", 0)
    assert run["error_message"] == (
        "No price is known for the model 'small-1' of 'openai-compatible': say what it costs (POST /v1/model-prices)."
    )
    assert world.model.requests == []


async def test_each_organization_pays_its_own_price(world: World) -> None:
    here, there = await world.organization(), await world.organization()
    await here.price()
    await there.price(input_usd_micros_per_million=3_000_000)
    await there.price(provider="openai", input_usd_micros_per_million=9_000_000)
    for organization in (here, there):
        await organization.agent()
    runs = await asyncio.gather(here.run(), there.run(), here.run(), there.run())
    assert [run["cost_usd_micros"] for run in runs] == [18, 40, 18, 40]


async def test_a_corrected_price_is_paid_soon_and_what_was_booked_stays(world: World) -> None:
    here = await world.organization()
    price = await here.price()
    await here.agent()
    first = await here.run()
    path, twice = f"/v1/model-prices/{price['id']}", {"input_usd_micros_per_million": 2_000_000}
    await here.client.patch(path, twice, headers={"if-match": '"1"'})
    async with asyncio.timeout(30):
        while (later := await here.run())["cost_usd_micros"] == 18:  # noqa: ASYNC110  (another process would poll too)
            await asyncio.sleep(0.1)
    assert later["cost_usd_micros"] == 29
    versions = [(await here.steps(run))[0]["price_version"] for run in (first, later)]
    assert versions == [f"model_price/{price['id']}/{version}" for version in (1, 2)]
    assert (await here.steps(first))[0]["cost_usd_micros"] == 18


async def test_public_prices_need_no_row_and_no_network(world: World) -> None:
    here = await world.organization()
    await here.agent("provider: openai, name: gpt-4o-mini")
    run = await here.run()
    # It was priced before the missing key stopped it; sockets of these tests reach this machine only.
    assert (run["status"], run["error_code"]) == ("failed", "unauthorized"), run
    assert (await here.steps(run))[0]["price_version"].startswith("genai-prices/")
    own = await here.price(provider="openai", model_name="gpt-4o-mini")
    async with asyncio.timeout(30):
        while (version := (await here.steps(await here.run()))[0]["price_version"]).startswith("genai"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert version == f"model_price/{own['id']}/1"


async def test_a_key_of_anthropic_at_an_address_of_its_own_and_a_public_price(world: World) -> None:
    here = await world.organization()
    address = world.anthropic.base_url
    await here.credential(provider="anthropic", base_url=address)
    chosen = "provider: anthropic, name: claude-haiku-4-5, credential: mine"
    await here.agent(f'{chosen}, base_url: "{address}"')
    await here.agent(chosen, name="itself")
    run, elsewhere = await here.run(), await here.run(agent="itself")
    assert (run["status"], run["output"]) == ("completed", {"text": "hello"}), run
    step = (await here.steps(run))[0]
    # A dollar per million tokens in, five out: eleven and thirty-five.
    assert (step["provider"], step["model_name"], step["cost_usd_micros"]) == ("anthropic", "claude-haiku-4-5", 46)
    assert step["price_version"].startswith("genai-prices/")
    assert [request.headers["x-api-key"] for request in world.anthropic.requests] == [SECRET]
    assert (elsewhere["status"], elsewhere["error_code"]) == ("failed", "unauthorized")
    assert "not for this provider and address" in elsewhere["error_message"]


FURTHER = 'provider: openai-compatible, name: small-1, base_url: "%s", fallback: [{provider: anthropic, name: %s, base_url: "%s"}]'


async def test_the_model_that_answers_instead_is_the_one_booked(world: World) -> None:
    here = await world.organization()
    await here.price()
    await here.agent(FURTHER % (world.model.base_url, "claude-haiku-4-5", world.anthropic.base_url))
    world.model.replies = [Reply(status=429), Reply()]
    runs = [await here.run(), await here.run()]
    assert [run["status"] for run in runs] == ["completed"] * 2, runs
    booked = [(await here.steps(run))[0] for run in runs]
    names = [(step["provider"], step["model_name"], step["cost_usd_micros"]) for step in booked]
    assert names == [("anthropic", "claude-haiku-4-5", 46), ("openai-compatible", "small-1", 18)]
    assert [step["price_version"].split("/")[0] for step in booked] == ["genai-prices", "model_price"]
    facts = await here.facts("step.completed")
    assert [(fact["provider"], fact["model_name"], fact["cost_usd_micros"]) for fact in facts] == names
    assert [run["cost_usd_micros"] for run in runs] == [46, 18]


async def test_the_dearest_of_the_models_is_held_against_a_cap(world: World) -> None:
    here = await world.organization()
    await here.price()
    # The first may cost 60 for its answer and little for the question; the second five times that.
    for cap, status in (("0.000299", "failed"), ("0.001", "completed")):
        model = FURTHER % (world.model.base_url, "claude-haiku-4-5", world.anthropic.base_url)
        await here.agent(model, name=cap, more=f'limits: {{max_cost_usd: "{cap}"}}\n')
        run = await here.run(agent=cap)
        assert run["status"] == status, run
    assert (len(world.model.requests), len(world.anthropic.requests)) == (1, 0)


async def test_an_unknown_price_of_any_model_stops_the_call(world: World) -> None:
    here = await world.organization()
    await here.price()
    await here.agent(FURTHER % (world.model.base_url, "nobodys-model", world.anthropic.base_url))
    run = await here.run()
    assert (run["status"], run["error_code"]) == ("failed", "unknown_price"), run
    assert "nobodys-model" in run["error_message"]
    assert (world.model.requests, world.anthropic.requests) == ([], [])


async def test_large_payloads_go_through_the_object_store(world: World) -> None:
    here = await world.organization()
    await here.price()
    await here.chain("5.00")
    question, answer = "q" * (INLINE_BYTES + 1), "word " * (INLINE_BYTES // 4)
    world.model.replies = [Reply(answer), Reply("short"), Reply(answer + "!")]
    run = await here.run(question, orchestration="chain")
    assert (run["status"], run["output"]) == ("completed", {"text": answer + "!"}), run["error_message"]
    assert run["input"] == {"q": question}
    asked = [dict(request.texts)["user"] for request in world.model.requests]
    assert asked == [question, answer, "short"]
    steps = await here.steps(run)
    assert [step["output"]["text"] for step in steps] == [answer, "short", answer + "!"]
    rows = await world.stage.database.sql(
        "select input, input_ref, output, output_ref from step where run_id = $1 order by step_number", UUID(run["id"])
    )
    assert [(row["input"] is None, row["output"] is None) for row in rows] == [
        (True, True),
        (True, False),
        (False, True),
    ]
    folder = world.directory / "objects" / str(here.caller.organization_id) / run["id"]
    stored = {path.name: path.read_bytes() for path in folder.iterdir()}
    named = {value.rsplit("/", 1)[1] for row in rows for value in (row["input_ref"], row["output_ref"]) if value}
    assert named <= stored.keys()
    assert not any(b"word word" in content or b"qqqq" in content for content in stored.values())


async def _watched(here: Organization, run_id: str, role: str) -> list[dict[str, Any]]:
    """What somebody is told who watches the run to its end."""
    caller = await here.world.stage.caller(role, here.caller.organization_id)
    answer = await here.world.stage.client(caller).get(f"/v1/runs/{run_id}/events")
    assert answer.status == 200, answer.body
    lines = answer.body.decode().splitlines()
    return [orjson.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize("provider", ["openai-compatible", "anthropic"])
async def test_who_watches_reads_along(world: World, provider: str) -> None:
    here = await world.organization()
    server = world.model if provider == "openai-compatible" else world.anthropic
    await here.price(provider=provider)
    await here.agent(f'provider: {provider}, name: small-1, base_url: "{server.base_url}"')
    words = [f"word{number}" for number in range(8)]
    server.replies = [Reply(" ".join(words), word_seconds=0.1, finish_reason="stop")]
    body = {"agent": "small", "input": {"q": "why"}}
    run = (await here.client.post("/v1/runs", body, headers={"prefer": "watch"})).json()
    reading, shut_out = await asyncio.gather(
        _watched(here, run["id"], "operator"), _watched(here, run["id"], "viewer")
    )  # fmt: skip
    kinds = [event["type"] for event in reading]
    texts = [event for event in reading if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert kinds.index("STEP_FINISHED") > kinds.index("TEXT_MESSAGE_CONTENT")
    assert len(texts) >= 3
    assert {event["messageId"] for event in texts} == {"agent.0.1"}
    assert " ".join(words).startswith("".join(event["delta"] for event in texts).rstrip())
    assert [event["type"] for event in shut_out] == ["RUN_STARTED", "STEP_FINISHED", "RUN_FINISHED"]
    ended = (await here.client.get(f"/v1/runs/{run['id']}")).json()
    assert ended["output"]["text"].split() == words
    assert (ended["input_tokens"], ended["output_tokens"]) == (11, 7)
    assert server.requests[0].body["stream"] is True
    assert "TEXT_MESSAGE" not in str(await here.facts())
    again = await _watched(here, run["id"], "operator")
    assert [event["type"] for event in again] == ["RUN_STARTED", "STEP_FINISHED", "RUN_FINISHED"]


async def test_nobody_is_asked_bit_by_bit_where_nobody_watches(world: World) -> None:
    here = await world.organization()
    await here.price()
    await here.agent()
    assert (await here.run())["status"] == "completed"
    assert "stream" not in world.model.requests[-1].body or not world.model.requests[-1].body["stream"]

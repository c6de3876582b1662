"""Which of an agent's models is asked, and which is paid; each is a server over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from ipaddress import ip_network

import pytest
from services.execution.tests.clients.calls import make_call
from services.execution.tests.scripted_openai import Reply, ScriptedOpenAI, scripted_openai

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentError
from execution.clients.llm import LlmRunner

pytestmark = pytest.mark.anyio


@pytest.fixture
async def servers(anyio_backend: object) -> AsyncIterator[list[ScriptedOpenAI]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(scripted_openai()) for _ in range(3)]


@pytest.fixture
async def runner(anyio_backend: object) -> AsyncIterator[LlmRunner]:
    client = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    runner = LlmRunner(client)
    await runner.warm()
    yield runner
    await client.close()


def config(servers: list[ScriptedOpenAI], more: str = "") -> str:
    first, *further = (
        f'provider: openai-compatible, name: m{number}, base_url: "{server.base_url}", credential: k{number}'
        for number, server in enumerate(servers)
    )
    others = ", ".join(f"{{{model}}}" for model in further)
    return f"apiVersion: agent/v1\nkind: llm\nmodel: {{{first}, max_output_tokens: 60, fallback: [{others}]}}\n{more}"


def asked(servers: list[ScriptedOpenAI]) -> list[int]:
    return [len(server.requests) for server in servers]


async def test_the_first_that_can_be_had_answers_and_is_the_one_to_pay(
    servers: list[ScriptedOpenAI], runner: LlmRunner
) -> None:
    servers[0].replies, servers[1].replies = [Reply(status=503)], [Reply("yes", usage=(5, 3))]
    keys = {f"k{number}": f"sk-{number}" for number in range(3)}
    result = await runner.run(make_call(config(servers), "hi", credentials=keys))
    assert (result.output, result.provider, result.model) == ({"text": "yes"}, "openai-compatible", "m1")
    assert (result.input_tokens, result.output_tokens) == (5, 3)
    assert asked(servers) == [1, 1, 0]
    assert [server.requests[0].headers["authorization"] for server in servers[:2]] == ["Bearer sk-0", "Bearer sk-1"]
    assert [server.requests[0].body["max_tokens"] for server in servers[:2]] == [60, 60]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_a_retry_could_mend_another_model_may(
    servers: list[ScriptedOpenAI], runner: LlmRunner, status: int
) -> None:
    servers[0].replies = servers[1].replies = [Reply(status=status)]
    assert (await runner.run(make_call(config(servers), "hi"))).model == "m2"
    assert asked(servers) == [1, 1, 1]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(status=400), "rejected"),
        (Reply(status=401), "unauthorized"),
        (Reply(status=403), "unauthorized"),
        (Reply(status=404), "rejected"),
        (Reply(status=413), "too_large"),
        (Reply(status=422), "rejected"),
        (Reply(status=429, body={"error": {"code": "insufficient_quota", "message": "x"}}), "rate_limited"),
        (Reply("", finish_reason="content_filter"), "refused"),
        (Reply(""), "invalid_output"),
    ],
)
async def test_what_it_could_not_is_the_first_models_error(
    servers: list[ScriptedOpenAI], runner: LlmRunner, reply: Reply, code: str
) -> None:
    servers[0].replies = [reply]
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(servers), "hi"))
    assert (failed.value.code, failed.value.provider, failed.value.model) == (code, "openai-compatible", "m0")
    assert asked(servers) == [1, 0, 0]


async def test_a_slow_model_leaves_time_for_the_next(servers: list[ScriptedOpenAI], runner: LlmRunner) -> None:
    servers[0].replies = [Reply(delay_seconds=30)]
    result = await runner.run(make_call(config(servers[:2]), "hi", deadline_seconds=2.0))
    assert (result.model, asked(servers)) == ("m1", [1, 1, 0])


async def test_a_model_that_is_not_there_is_passed_over(servers: list[ScriptedOpenAI], runner: LlmRunner) -> None:
    text = config(servers).replace(f":{servers[0].port}/", ":1/")
    assert (await runner.run(make_call(text, "hi"))).model == "m1"


async def test_when_none_can_be_had_the_last_ones_error_is_told(
    servers: list[ScriptedOpenAI], runner: LlmRunner
) -> None:
    for server, status in zip(servers, (503, 429, 500), strict=True):
        server.replies = [Reply(status=status)]
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(servers), "hi"))
    assert (failed.value.code, failed.value.model, failed.value.retryable) == ("unavailable", "m2", True)


async def test_the_first_may_be_well_again_at_the_next_attempt(
    servers: list[ScriptedOpenAI], runner: LlmRunner
) -> None:
    servers[0].replies, servers[1].replies = [Reply(status=503)], [Reply(status=401)]
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(servers), "hi"))
    assert (failed.value.code, failed.value.model, failed.value.retryable) == ("unauthorized", "m1", True)
    assert asked(servers) == [1, 1, 0]


async def test_an_answer_that_is_paid_and_not_used_is_booked_on_its_model(
    servers: list[ScriptedOpenAI], runner: LlmRunner
) -> None:
    schema = "output_schema: {type: object, properties: {city: {type: string}}, required: [city]}\n"
    servers[0].replies, servers[1].replies = [Reply(status=503)], [Reply("no json", usage=(5, 3))]
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(servers, schema), "hi"))
    error = failed.value
    assert (error.code, error.model, error.input_tokens, error.output_tokens) == ("invalid_output", "m1", 5, 3)


async def test_what_no_model_could_be_asked_is_said_before_any_is(
    servers: list[ScriptedOpenAI], runner: LlmRunner
) -> None:
    text = config(servers[:1]).replace("fallback: []", "fallback: [{provider: openai, name: gpt-5-mini}]")
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(text, "hi"))
    assert (failed.value.code, asked(servers)) == ("unauthorized", [0, 0, 0])


async def test_what_a_model_had_written_is_void_when_another_takes_over(
    servers: list[ScriptedOpenAI], runner: LlmRunner
) -> None:
    servers[0].replies, servers[1].replies = [Reply("half of an", breaks_off=True)], [Reply("a whole one")]
    pieces: list[str] = []
    result = await runner.run(make_call(config(servers), "hi", on_delta=pieces.append))
    assert "" in pieces
    assert "".join(pieces[pieces.index("") + 1 :]) == result.output["text"]
    assert "".join(pieces[: pieces.index("")]).startswith("half")

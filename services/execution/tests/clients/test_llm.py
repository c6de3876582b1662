from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from services.execution.tests.clients.calls import TRACE, make_call
from services.execution.tests.scripted_openai import Reply, ScriptedOpenAI, scripted_openai

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentError, AgentKinds
from execution.clients.llm import Endpoint, LlmRunner, prompt_of

CITY = """
output_schema:
  type: object
  properties: {city: {type: string, maxLength: 20}}
  required: [city]
  additionalProperties: false
"""


@pytest.fixture
async def server(anyio_backend: object) -> AsyncIterator[ScriptedOpenAI]:
    async with scripted_openai() as server:
        yield server


@pytest.fixture
async def outbound(server: ScriptedOpenAI) -> AsyncIterator[OutboundClient]:
    client = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    yield client
    await client.close()


@pytest.fixture
async def runner(outbound: OutboundClient) -> LlmRunner:
    return LlmRunner(outbound)


def config(server: ScriptedOpenAI, more: str = "", *, tokens: int = 60, instructions: str = "Answer shortly.") -> str:
    return f"""
apiVersion: agent/v1
kind: llm
model: {{provider: openai-compatible, name: small, base_url: "{server.base_url}", credential: own, max_output_tokens: {tokens}}}
instructions: "{instructions}"
{more}
"""


@pytest.mark.anyio
async def test_a_text_comes_back_with_its_usage(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    server.replies = [Reply("Paris.")]
    result = await runner.run(make_call(config(server), "Capital of France?", credentials={"own": "sk-own"}))
    assert result.output == {"text": "Paris."}
    assert (result.input_tokens, result.output_tokens, result.usage_estimated) == (11, 7, False)
    assert (result.model, result.answered_by) == ("small", "small-dated")
    sent = server.requests[0]
    assert sent.texts == [("system", "Answer shortly."), ("user", "Capital of France?")]
    assert (sent.body["model"], sent.body["max_tokens"], sent.body["temperature"]) == ("small", 60, 0.0)
    assert (sent.headers["authorization"], sent.headers["traceparent"]) == ("Bearer sk-own", TRACE)


@pytest.mark.anyio
async def test_nothing_of_this_machine_or_its_operator_is_sent(
    server: ScriptedOpenAI, runner: LlmRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-operator")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-operator")
    await runner.run(make_call(config(server), "hi"))
    headers = server.requests[0].headers
    assert set(headers) <= {
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "traceparent",
        "user-agent",
    }
    assert headers["user-agent"] == "remit"
    assert "of-the-operator" not in str(server.requests)


@pytest.mark.anyio
async def test_the_smaller_bound_on_output_tokens_is_sent(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    await runner.run(make_call(config(server, tokens=60), "hi", max_output_tokens=9))
    assert server.requests[0].body["max_tokens"] == 9


@pytest.mark.anyio
async def test_instructions_take_declared_inputs_only(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    schema = "input_schema: {type: object, properties: {tone: {type: string}, note: {type: string}}}"
    text = config(server, schema, instructions="Be ${input.tone}.")
    given = {"tone": "kind ${input.secret}", "secret": "hidden"}
    await runner.run(make_call(text, given))
    role, instructions = server.requests[0].texts[0]
    assert (role, instructions) == ("system", "Be kind ${input.secret}.")
    assert orjson.loads(server.requests[0].texts[1][1]) == given
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(text, {"note": "no tone"}))
    assert (failed.value.code, failed.value.retryable) == ("expression_failed", False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("value", "prompt"),
    [
        ("text", "text"),
        ({"document": "text"}, "text"),
        ({"a": "x", "b": 1}, '{"a":"x","b":1}'),
        ([1, 2], "[1,2]"),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_input_as_the_model_reads_it(value: Any, prompt: str) -> None:
    assert prompt_of(value) == prompt


@pytest.mark.anyio
async def test_no_input_and_no_instructions_each_work(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    await runner.run(make_call(config(server), {}))
    assert server.requests[0].texts == [("system", "Answer shortly.")]
    await runner.run(make_call(config(server, instructions=""), "hi"))
    assert server.requests[1].texts == [("user", "hi")]


@pytest.mark.anyio
async def test_a_schema_shapes_the_answer(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    server.replies = [Reply('{"city": "Paris"}')]
    result = await runner.run(make_call(config(server, CITY), "hi"))
    assert result.output == {"city": "Paris"}
    asked = server.requests[0].body["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["schema"]["properties"]["city"]["maxLength"] == 20


@pytest.mark.anyio
async def test_a_schema_that_is_no_object_travels_inside_one(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    server.replies = [Reply('{"value": ["a", "b"]}')]
    schema = "output_schema: {type: array, items: {$ref: '#/$defs/word'}, $defs: {word: {type: string}}}"
    result = await runner.run(make_call(config(server, schema), "hi"))
    assert result.output == ["a", "b"]
    sent = server.requests[0].body["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["value"]["type"] == "array"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "text", ["no json", '{"city": 5}', '{"town": "Paris"}', '{"city": "' + "x" * 21 + '"}', "[]", ""]
)
async def test_an_answer_that_breaks_the_schema_is_paid_and_not_used(
    server: ScriptedOpenAI, runner: LlmRunner, text: str
) -> None:
    server.replies = [Reply(text)]
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(server, CITY), "hi"))
    assert (failed.value.code, failed.value.retryable) == ("invalid_output", True)
    assert (failed.value.input_tokens, failed.value.output_tokens) == (11, 7)
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_a_cut_off_text_is_kept_and_cut_off_json_is_not(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    server.replies = [Reply("Once upon a", finish_reason="length")]
    assert (await runner.run(make_call(config(server), "hi"))).output == {"text": "Once upon a"}
    server.replies = [Reply('{"city": "Pa', finish_reason="length")]
    with pytest.raises(AgentError, match="max_output_tokens") as failed:
        await runner.run(make_call(config(server, CITY), "hi"))
    assert failed.value.code == "invalid_output"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "rejected", False),
        (401, "unauthorized", False),
        (403, "unauthorized", False),
        (404, "rejected", False),
        (408, "timeout", True),
        (413, "too_large", False),
        (422, "rejected", False),
        (429, "rate_limited", True),
        (500, "unavailable", True),
        (503, "unavailable", True),
        (504, "timeout", True),
    ],
)
async def test_each_status_has_its_code_and_is_asked_once(
    server: ScriptedOpenAI, runner: LlmRunner, status: int, code: str, *, retryable: bool
) -> None:
    leak = {"error": {"message": "you sent: my prompt with sk-own"}}
    server.replies = [Reply(status=status, body=leak, headers={"Retry-After": "3"})]
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(server), "my prompt", credentials={"own": "sk-own"}))
    assert (failed.value.code, failed.value.retryable) == (code, retryable)
    assert failed.value.retry_after_seconds == 3
    assert "prompt" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_other_ways_to_fail_have_codes_too(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    cases: list[tuple[Reply, str, bool]] = [
        (Reply(status=400, body={"error": {"code": "context_length_exceeded", "message": "x"}}), "too_large", False),
        (Reply(status=429, body={"error": {"code": "insufficient_quota", "message": "x"}}), "rate_limited", False),
        (Reply("", finish_reason="content_filter"), "refused", False),
        (Reply("", refusal="I will not"), "refused", False),
        (Reply(""), "invalid_output", True),
        (Reply(body={"nothing": "of the kind"}), "invalid_output", True),
        (Reply(status=302, body={}, headers={"Location": "/v1/elsewhere"}), "unavailable", False),
    ]
    for reply, code, retryable in cases:
        server.replies = [reply]
        with pytest.raises(AgentError) as failed:
            await runner.run(make_call(config(server), "hi"))
        assert (failed.value.code, failed.value.retryable) == (code, retryable)


@pytest.mark.anyio
async def test_a_slow_model_times_out(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    await runner.warm()
    server.replies = [Reply(delay_seconds=30)]
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(server), "hi", deadline_seconds=0.3))
    assert (failed.value.code, failed.value.retryable) == ("timeout", True)


@pytest.mark.anyio
async def test_cancelling_a_call_ends_it_at_once(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    await runner.warm()
    server.replies = [Reply(delay_seconds=30)]
    asked = asyncio.create_task(runner.run(make_call(config(server), "hi")))
    await server.asked.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


@pytest.mark.anyio
async def test_pieces_arrive_while_it_is_written_and_the_whole_counts(
    server: ScriptedOpenAI, runner: LlmRunner
) -> None:
    pieces: list[str] = []
    server.replies = [Reply("one two three")]
    result = await runner.run(make_call(config(server), "hi", on_delta=pieces.append))
    assert len(pieces) == 3
    assert "".join(pieces) == result.output["text"]
    assert (result.input_tokens, result.output_tokens) == (11, 7)
    assert server.requests[0].body["stream_options"] == {"include_usage": True}


@pytest.mark.anyio
async def test_a_stream_that_breaks_off_is_no_answer(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    server.replies = [Reply("one two three", breaks_off=True)]
    call = make_call(config(server), "hi", on_delta=lambda _: None)
    with pytest.raises(AgentError) as failed:
        await runner.run(call)
    assert (failed.value.code, failed.value.retryable) == ("unavailable", True)
    (unpaid,) = call.open_requests  # what it used nobody tells
    assert (unpaid.provider, unpaid.output_tokens) == ("openai-compatible", 60)


@pytest.mark.anyio
async def test_tokens_nobody_counted_are_estimated_never_free(server: ScriptedOpenAI, runner: LlmRunner) -> None:
    server.replies = [Reply("four words of answer", usage=None)]
    result = await runner.run(make_call(config(server), "x" * 400))
    assert result.usage_estimated
    assert result.input_tokens > 100
    assert result.output_tokens > 4


@pytest.mark.anyio
async def test_a_private_address_is_refused_unless_the_operator_opened_it(server: ScriptedOpenAI) -> None:
    strict = OutboundClient("execution")
    with pytest.raises(AgentError) as failed:
        await LlmRunner(strict).run(make_call(config(server), "hi"))
    await strict.close()
    assert (failed.value.code, failed.value.retryable) == ("url_refused", False)
    assert server.requests == []


@pytest.mark.anyio
async def test_the_embedded_endpoint_is_the_installations_own(server: ScriptedOpenAI, outbound: OutboundClient) -> None:
    text = "apiVersion: agent/v1\nkind: llm\nmodel: {provider: embedded}"
    runner = LlmRunner(outbound, embedded=Endpoint(server.base_url, "key-of-the-installation"))
    result = await runner.run(make_call(text, "hi"))
    assert result.model == "smollm2-135m-instruct"
    assert server.requests[0].headers["authorization"] == "Bearer key-of-the-installation"
    with pytest.raises(AgentError) as failed:
        await LlmRunner(outbound).run(make_call(text, "hi"))
    assert (failed.value.code, failed.value.retryable) == ("unavailable", False)


@pytest.mark.anyio
async def test_openai_without_a_credential_is_not_called(outbound: OutboundClient) -> None:
    text = "apiVersion: agent/v1\nkind: llm\nmodel: {provider: openai, name: gpt-5-mini}"
    with pytest.raises(AgentError) as failed:
        await LlmRunner(outbound).run(make_call(text, "hi"))
    assert failed.value.code == "unauthorized"


@pytest.mark.anyio
async def test_a_kind_nobody_runs_says_so(outbound: OutboundClient, server: ScriptedOpenAI) -> None:
    call = make_call(config(server), "hi")
    assert (await AgentKinds({"llm": LlmRunner(outbound)}).run(call)).output == {"text": "hello"}
    with pytest.raises(AgentError) as failed:
        await AgentKinds({}).run(call)
    assert failed.value.code == "not_supported_yet"


def test_secrets_are_not_shown_by_what_holds_them() -> None:
    text = "apiVersion: agent/v1\nkind: llm\nmodel: {provider: embedded}"
    assert "sk-own" not in repr(make_call(text, credentials={"own": "sk-own"}))
    assert "sk-own" not in repr(Endpoint("http://localhost/v1", "sk-own"))

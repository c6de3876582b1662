"""Models of the provider `anthropic`, through the library as it is, at a server over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from services.execution.tests.clients.calls import TRACE, make_call
from services.execution.tests.scripted_anthropic import ScriptedAnthropic, scripted_anthropic
from services.execution.tests.scripted_openai import Reply

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentError
from execution.clients.llm import LlmRunner

pytestmark = pytest.mark.anyio
CITY = """
output_schema:
  type: object
  properties: {city: {type: string, maxLength: 20}}
  required: [city]
  additionalProperties: false
"""


@pytest.fixture
async def server(anyio_backend: object) -> AsyncIterator[ScriptedAnthropic]:
    async with scripted_anthropic() as server:
        yield server


@pytest.fixture
async def runner(server: ScriptedAnthropic) -> AsyncIterator[LlmRunner]:
    client = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    yield LlmRunner(client)
    await client.close()


def config(server: ScriptedAnthropic, more: str = "", *, name: str = "claude-haiku-4-5", tokens: int = 60) -> str:
    model = f'provider: anthropic, name: {name}, base_url: "{server.base_url}", credential: own, max_output_tokens: {tokens}'
    return f'apiVersion: agent/v1\nkind: llm\nmodel: {{{model}}}\ninstructions: "Answer shortly."\n{more}'


async def test_a_text_comes_back_with_its_usage(server: ScriptedAnthropic, runner: LlmRunner) -> None:
    server.replies = [Reply("Paris.")]
    result = await runner.run(make_call(config(server), "Capital of France?", credentials={"own": "sk-ant-own"}))
    assert result.output == {"text": "Paris."}
    assert (result.input_tokens, result.output_tokens, result.usage_estimated) == (11, 7, False)
    assert (result.model, result.answered_by) == ("claude-haiku-4-5", "claude-haiku-4-5-dated")
    body, headers = server.requests[0].body, server.requests[0].headers
    assert body["messages"] == [{"role": "user", "content": [{"text": "Capital of France?", "type": "text"}]}]
    assert body["system"] == [{"type": "text", "text": "Answer shortly."}]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("claude-haiku-4-5", 60, 0.0)
    assert (headers["x-api-key"], headers["traceparent"]) == ("sk-ant-own", TRACE)


async def test_nothing_of_this_machine_or_its_operator_is_sent(
    server: ScriptedAnthropic, runner: LlmRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-operator")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Api-Key: sk-of-the-operator\nX-Team: of-the-operator")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://of-the-operator.example.com")
    await runner.run(make_call(config(server), "hi"))
    await runner.run(make_call(config(server), "hi", credentials={"own": "sk-ant-own"}))
    headers = server.requests[0].headers
    assert set(headers) <= {
        "accept", "accept-encoding", "anthropic-version", "content-length", "content-type", "host", "traceparent",
        "user-agent",
    }  # fmt: skip
    assert server.requests[1].headers["x-api-key"] == "sk-ant-own"
    assert "of-the-operator" not in str(server.requests)


async def test_models_that_refuse_a_temperature_are_not_sent_one(server: ScriptedAnthropic, runner: LlmRunner) -> None:
    await runner.run(make_call(config(server, name="claude-sonnet-5"), "hi"))
    assert "temperature" not in server.requests[0].body


async def test_instructions_alone_are_a_message(server: ScriptedAnthropic, runner: LlmRunner) -> None:
    await runner.run(make_call(config(server), {}))
    body = server.requests[0].body
    assert body["messages"] == [{"role": "user", "content": [{"text": "Answer shortly.", "type": "text"}]}]
    assert "system" not in body


async def test_a_schema_shapes_the_answer(server: ScriptedAnthropic, runner: LlmRunner) -> None:
    server.replies = [Reply('{"city": "Paris"}')]
    result = await runner.run(make_call(config(server, CITY), "hi"))
    assert result.output == {"city": "Paris"}
    shape = server.requests[0].body["output_config"]["format"]
    assert (shape["type"], list(shape["schema"]["properties"])) == ("json_schema", ["city"])


async def test_a_model_that_knows_no_schemas_is_told_of_it(server: ScriptedAnthropic, runner: LlmRunner) -> None:
    server.replies = [Reply('{"city": "Paris"}'), Reply('{"town": "Paris"}')]
    text = config(server, CITY, name="elders-own")
    assert (await runner.run(make_call(text, "hi"))).output == {"city": "Paris"}
    body = server.requests[0].body
    assert "output_config" not in body
    assert "maxLength" in str(body["system"])
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(text, "hi"))
    assert (failed.value.code, failed.value.input_tokens, failed.value.output_tokens) == ("invalid_output", 11, 7)


async def test_pieces_arrive_while_it_is_written_and_the_whole_counts(
    server: ScriptedAnthropic, runner: LlmRunner
) -> None:
    pieces: list[str] = []
    server.replies = [Reply("one two three")]
    result = await runner.run(make_call(config(server), "hi", on_delta=pieces.append))
    assert len(pieces) == 3
    assert "".join(pieces) == result.output["text"]
    assert (result.input_tokens, result.output_tokens) == (11, 7)


async def test_long_answers_need_no_stream(server: ScriptedAnthropic, runner: LlmRunner) -> None:
    call = make_call(config(server, tokens=60_000), "hi", max_output_tokens=60_000)
    assert (await runner.run(call)).output == {"text": "hello"}
    assert (server.requests[0].body["max_tokens"], server.requests[0].body.get("stream", False)) == (60_000, False)


@pytest.mark.parametrize(
    ("status", "kind", "code", "retryable"),
    [
        (400, "invalid_request_error", "rejected", False),
        (401, "authentication_error", "unauthorized", False),
        (403, "permission_error", "unauthorized", False),
        (404, "not_found_error", "rejected", False),
        (413, "request_too_large", "too_large", False),
        (429, "rate_limit_error", "rate_limited", True),
        (500, "api_error", "unavailable", True),
        (504, "timeout_error", "timeout", True),
        (529, "overloaded_error", "unavailable", True),
    ],
)
async def test_each_error_has_its_code_and_is_asked_once(
    server: ScriptedAnthropic, runner: LlmRunner, status: int, kind: str, code: str, *, retryable: bool
) -> None:
    leak = {"type": "error", "error": {"type": kind, "message": "you sent: my prompt with sk-ant-own"}}
    server.replies = [Reply(status=status, body=leak, headers={"Retry-After": "3"})]
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(config(server), "my prompt", credentials={"own": "sk-ant-own"}))
    assert (failed.value.code, failed.value.retryable) == (code, retryable)
    assert failed.value.retry_after_seconds == 3
    assert "prompt" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert len(server.requests) == 1


async def test_other_ways_to_fail_have_codes_too(server: ScriptedAnthropic, runner: LlmRunner) -> None:
    def said(message: str) -> dict[str, object]:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}

    cases: list[tuple[Reply, str, bool]] = [
        (Reply(status=400, body=said("prompt is too long: 250000 tokens")), "too_large", False),
        (Reply(status=400, body=said("Your credit balance is too low")), "rate_limited", False),
        (Reply("", finish_reason="refusal"), "refused", False),
        (Reply(""), "invalid_output", True),
        (Reply(body={"nothing": "of the kind"}), "invalid_output", True),
    ]
    for reply, code, retryable in cases:
        server.replies = [reply]
        with pytest.raises(AgentError) as failed:
            await runner.run(make_call(config(server), "hi"))
        assert (failed.value.code, failed.value.retryable) == (code, retryable), reply


async def test_a_stream_that_breaks_off_is_no_answer(server: ScriptedAnthropic, runner: LlmRunner) -> None:
    server.replies = [Reply("one two three", breaks_off=True)]
    call = make_call(config(server), "hi", on_delta=lambda _: None)
    with pytest.raises(AgentError) as failed:
        await runner.run(call)
    assert (failed.value.code, failed.value.retryable) == ("unavailable", True)
    assert [unpaid.provider for unpaid in call.open_requests] == ["anthropic"]


async def test_anthropic_itself_is_not_called_without_a_credential(runner: LlmRunner) -> None:
    text = "apiVersion: agent/v1\nkind: llm\nmodel: {provider: anthropic, name: claude-haiku-4-5}"
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(text, "hi"))
    assert failed.value.code == "unauthorized"

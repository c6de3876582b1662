from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from services.execution.tests.clients.calls import TRACE, make_call
from services.execution.tests.http_endpoint import Endpoint, http_endpoint

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentError
from execution.clients.http_agent import HttpRunner, signature


@pytest.fixture
async def endpoint(anyio_backend: object) -> AsyncIterator[Endpoint]:
    async with http_endpoint() as made:
        yield made


@pytest.fixture
async def runner(anyio_backend: object) -> AsyncIterator[HttpRunner]:
    client = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    yield HttpRunner(client)
    await client.close()


@pytest.mark.anyio
async def test_the_step_is_posted_with_its_key_and_its_trace(endpoint: Endpoint, runner: HttpRunner) -> None:
    endpoint.answer = {"output": {"a": [1]}, "usage": {"input_tokens": 5, "output_tokens": 6}}
    call = make_call(endpoint.config(), {"q": 1}, iteration=2, attempt=3)
    result = await runner.run(call)
    assert (result.output, result.input_tokens, result.output_tokens, result.model) == ({"a": [1]}, 5, 6, "")
    headers, body = endpoint.seen[0]
    expected = {"run_id": str(call.run_id), "step": "draft", "iteration": 2, "attempt": 3, "input": {"q": 1}}
    assert orjson.loads(body) == expected
    assert headers["idempotency-key"] == f"{call.run_id}:draft:2"
    assert (headers["traceparent"], headers["x-team"]) == (TRACE, "blue")
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers
    assert "webhook-signature" not in headers


@pytest.mark.anyio
async def test_a_token_goes_as_a_bearer(endpoint: Endpoint, runner: HttpRunner) -> None:
    await runner.run(make_call(endpoint.config(credential="mine"), credentials={"mine": "token-1"}))
    assert endpoint.seen[0][0]["authorization"] == "Bearer token-1"


def test_the_signature_is_the_one_of_the_published_example() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


@pytest.mark.anyio
async def test_a_signing_secret_signs_what_is_sent_and_does_not_travel(endpoint: Endpoint, runner: HttpRunner) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    await runner.run(make_call(endpoint.config(credential="mine"), {"q": 1}, credentials={"mine": secret}))
    headers, body = endpoint.seen[0]
    again = signature(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == again["webhook-signature"]
    assert headers["webhook-id"] == headers["idempotency-key"]
    assert secret not in str(headers)


@pytest.mark.anyio
async def test_a_secret_that_cannot_sign_calls_nobody(endpoint: Endpoint, runner: HttpRunner) -> None:
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(endpoint.config(credential="mine"), credentials={"mine": "whsec_not base64!"}))
    assert failed.value.code == "unauthorized"
    assert "not base64!" not in str(failed.value)
    assert endpoint.seen == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (302, "unavailable", False),
        (400, "rejected", False),
        (401, "unauthorized", False),
        (404, "rejected", False),
        (409, "unavailable", True),
        (413, "too_large", False),
        (429, "rate_limited", True),
        (500, "unavailable", True),
        (503, "unavailable", True),
    ],
)
async def test_each_status_has_its_code(
    endpoint: Endpoint, runner: HttpRunner, status: int, code: str, *, retryable: bool
) -> None:
    endpoint.status = status
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(endpoint.config()))
    assert (failed.value.code, failed.value.retryable) == (code, retryable)
    assert len(endpoint.seen) == 1


@pytest.mark.anyio
async def test_how_long_to_stay_away_is_handed_on(endpoint: Endpoint, runner: HttpRunner) -> None:
    endpoint.status = 429
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(endpoint.config()))
    assert failed.value.retry_after_seconds == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        b"no json",
        b"",
        [],
        {"result": 1},
        {"output": 1, "usage": {"input_tokens": -1}},
        {"output": 1, "usage": {"output_tokens": "5"}},
        {"output": 1, "usage": {"output_tokens": True}},
        {"output": 1, "usage": [1]},
    ],
)
async def test_an_answer_of_another_shape_is_invalid(endpoint: Endpoint, runner: HttpRunner, answer: Any) -> None:
    endpoint.answer = answer
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(endpoint.config()))
    assert failed.value.code == "invalid_output"


@pytest.mark.anyio
async def test_an_output_that_breaks_the_schema_is_paid_and_not_used(endpoint: Endpoint, runner: HttpRunner) -> None:
    endpoint.answer = {"output": {"n": "secret text"}, "usage": {"input_tokens": 5, "output_tokens": 6}}
    schema = "output_schema: {type: object, properties: {n: {type: integer}}}"
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(endpoint.config(schema)))
    assert (failed.value.code, failed.value.input_tokens, failed.value.output_tokens) == ("invalid_output", 5, 6)
    assert "secret text" not in str(failed.value)


@pytest.mark.anyio
async def test_a_slow_agent_times_out_by_the_shorter_limit(endpoint: Endpoint, runner: HttpRunner) -> None:
    endpoint.delay_seconds = 30
    with pytest.raises(AgentError) as failed:
        await runner.run(make_call(endpoint.config(), deadline_seconds=0.3))
    assert (failed.value.code, failed.value.retryable) == ("timeout", True)


@pytest.mark.anyio
async def test_a_private_address_is_refused(endpoint: Endpoint) -> None:
    client = OutboundClient("execution")
    with pytest.raises(AgentError) as failed:
        await HttpRunner(client).run(make_call(endpoint.config()))
    await client.close()
    assert (failed.value.code, failed.value.retryable) == ("url_refused", False)
    assert endpoint.seen == []

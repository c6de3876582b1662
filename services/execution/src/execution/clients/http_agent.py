"""Agents of kind `http`: somebody's service that does the step."""

from __future__ import annotations

import base64
import hmac
from binascii import Error as Base64Error

import orjson

from chassis.clock import utc_now
from chassis.outbound import OutboundAnswer, OutboundClient, OutboundFailedError, OutboundRefusedError
from execution.clients.agents import AgentCall, AgentError, AgentErrorCode, AgentResult
from execution.clients.failures import outbound_error, status_error
from execution.domain.agents import HttpAgent
from execution.domain.documents import Json
from execution.domain.schemas import validate_input

SECRET_PREFIX = "whsec_"  # noqa: S105  (how Standard Webhooks marks a secret, no secret itself)
MAX_TOKENS = 100_000_000


class HttpRunner:
    """Posts the step to the agent's URL, signed or with a bearer token where its definition names a credential."""

    def __init__(self, outbound: OutboundClient) -> None:
        self._outbound = outbound

    async def run(self, call: AgentCall) -> AgentResult:
        """The agent's answer, or AgentError; a repeated call carries the same `Idempotency-Key`."""
        spec = call.spec
        if not isinstance(spec, HttpAgent):
            raise AgentError(AgentErrorCode.NOT_SUPPORTED_YET, "This runner calls agents of kind http only.")
        body = orjson.dumps(_question(call))
        try:
            answer = await self._outbound.request(
                spec.http.method,
                spec.http.url,
                headers={**spec.http.headers, **_own_headers(call, spec.http.credential, body)},
                body=body,
                seconds=call.deadline_seconds,
                traceparent=call.traceparent,
            )
        except (OutboundFailedError, OutboundRefusedError) as error:
            raise outbound_error(error) from error
        return _result(answer, spec.output_schema)


def _question(call: AgentCall) -> dict[str, Json]:
    return {
        "run_id": call.run_id,
        "step": call.node,
        "iteration": call.iteration,
        "attempt": call.attempt,
        "input": call.input,
    }


def _own_headers(call: AgentCall, credential: str | None, body: bytes) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "remit",
        "Idempotency-Key": call.idempotency_key,
    }
    if credential is None:
        return headers
    secret = call.credentials[credential]
    if secret.startswith(SECRET_PREFIX):
        return headers | signature(secret, call.idempotency_key, int(utc_now().timestamp()), body)
    return headers | {"Authorization": f"Bearer {secret}"}


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks 1.0 (symmetric, `v1`) for this body at this Unix time."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except Base64Error:
        raise AgentError(
            AgentErrorCode.UNAUTHORIZED, "The stored signing secret is not whsec_ and base64 after it."
        ) from None
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def _result(answer: OutboundAnswer, schema: Json) -> AgentResult:
    if not 200 <= answer.status < 300:
        raise status_error(answer.status, answer.headers)
    try:
        answered = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        answered = None
    if not isinstance(answered, dict) or "output" not in answered:
        raise AgentError(AgentErrorCode.INVALID_OUTPUT, "The agent's endpoint answers with JSON: {output, usage?}.")
    usage = answered.get("usage") or {}
    input_tokens, output_tokens = _tokens(usage, "input_tokens"), _tokens(usage, "output_tokens")
    if problems := validate_input(schema, answered["output"]):
        raise AgentError(
            AgentErrorCode.INVALID_OUTPUT,
            f"The output does not fit output_schema at {problems[0].path or 'its root'}.",
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
    return AgentResult(answered["output"], input_tokens, output_tokens)


def _tokens(usage: Json, name: str) -> int:
    count = usage.get(name, 0) if isinstance(usage, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_TOKENS:
        raise AgentError(AgentErrorCode.INVALID_OUTPUT, f"usage.{name} is a whole number of tokens.")
    return count

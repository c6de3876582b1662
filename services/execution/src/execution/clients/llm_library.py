"""One request to a model through pydantic-ai; imported late, because it and the SDKs are slow to import."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson
from pydantic_ai import AgentRunError, UserError
from pydantic_ai import exceptions as failed
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import (
    AgentStreamEvent,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition, StructuredOutputMode

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentCall, AgentError, AgentErrorCode
from execution.clients.failures import outbound_error, status_error
from execution.clients.library_transport import OutboundTransport
from execution.clients.llm import Answer, Question
from execution.clients.llm_models import AnyModel, key_headers, messages_of, opened, settings_of
from execution.domain.documents import Json

CHARACTERS_PER_TOKEN = 4
_VALUE = "value"
_NOT_ASKED_FOR = "The model's answer is not what was asked for."
_REFUSED = "The model or its provider declined to answer."
_CONTEXT = "The input is above the model's context window."
_BROKEN_OFF = ("timeout", "broken", "too_large")
_LLAMA_CONTEXT = "exceed_context_size_error"  # how llama.cpp says it, which the library does not tell apart yet
_REASONS: tuple[tuple[type[Exception], AgentErrorCode, str], ...] = (
    (TimeoutError, AgentErrorCode.TIMEOUT, "The model did not answer within the step's time."),
    (
        failed.ModelContextWindowExceededError,
        AgentErrorCode.TOO_LARGE,
        "The input is above the model's context window.",
    ),
    (
        failed.UsageLimitExceeded,
        AgentErrorCode.MAX_TOOL_CALLS,
        "The model asked for more tool calls than it may make.",
    ),
    (failed.ContentFilterError, AgentErrorCode.REFUSED, _REFUSED),
    (UserError, AgentErrorCode.INVALID_OUTPUT_SCHEMA, "The provider's library cannot express this output_schema."),
)


async def ask(question: Question, call: AgentCall, outbound: OutboundClient) -> Answer:
    """The model's answer to one request, or AgentError, which tells the tokens that an unusable answer used.

    One request needs none of pydantic-ai's agent loop, which costs twice the CPU of the request itself.
    """
    transport = OutboundTransport(
        outbound, seconds=call.deadline_seconds, traceparent=call.traceparent, own=key_headers(question)
    )
    with translated(transport):
        async with asyncio.timeout(call.deadline_seconds), opened(question, transport) as model:
            response = await _response(question, model, call.on_delta)
    return _answer(question, response)


@contextmanager
def translated(transport: OutboundTransport) -> Iterator[None]:
    """Whatever the library raises leaves as AgentError."""
    try:
        yield
    except (AgentRunError, UserError, TimeoutError) as error:
        reason = _reason(error, transport)
        reason.is_unheard = _is_unheard(error, transport)
        raise reason from None
    except (AttributeError, TypeError):
        # Anthropic's SDK takes whatever JSON it is sent for an answer, and the library stumbles over what is missing.
        raise AgentError(AgentErrorCode.INVALID_OUTPUT, _NOT_ASKED_FOR) from None


def _is_unheard(error: Exception, transport: OutboundTransport) -> bool:
    """Whether the request was on its way and no answer came, or not all of it."""
    if transport.failure is not None:
        return transport.failure.code in _BROKEN_OFF
    is_status = isinstance(error, failed.ModelHTTPError)
    return isinstance(error, TimeoutError) or (isinstance(error, failed.ModelAPIError) and not is_status)


async def _response(question: Question, model: AnyModel, on_delta: Callable[[str], None] | None) -> ModelResponse:
    messages, settings = messages_of(question), settings_of(question, model)
    shape = shape_of(question.output_schema, model)
    if on_delta is None:
        return await model_request(model, messages, model_settings=settings, model_request_parameters=shape)
    async with model_request_stream(model, messages, model_settings=settings, model_request_parameters=shape) as stream:
        async for event in stream:
            if text := new_text(event):
                on_delta(text)
        return stream.get()


def _answer(question: Question, response: ModelResponse) -> Answer:
    text = response.text or ""
    used = (response.usage.input_tokens, response.usage.output_tokens)
    estimated = used == (0, 0)
    input_tokens, output_tokens = _estimate(question, text) if estimated else used
    try:
        output = output_of(question, response)
    except AgentError as error:
        error.input_tokens, error.output_tokens = input_tokens, output_tokens
        raise
    return Answer(output, input_tokens, output_tokens, response.model_name or "", estimated)


def output_of(question: Question, response: ModelResponse) -> Json:
    """What the response says: its text, or the value that the schema asks for; AgentError when it is neither."""
    text = response.text or ""
    if response.finish_reason == "content_filter":
        raise AgentError(AgentErrorCode.REFUSED, _REFUSED)
    if question.output_schema is None and text:
        return {"text": text}
    try:
        value = orjson.loads(text)
        return value[_VALUE] if _is_wrapped(question.output_schema) else value
    except (orjson.JSONDecodeError, KeyError, TypeError):
        if response.finish_reason == "length":
            raise AgentError(AgentErrorCode.INVALID_OUTPUT, "The answer was cut off by max_output_tokens.") from None
        raise AgentError(AgentErrorCode.INVALID_OUTPUT, "The model's answer is empty or no JSON.") from None


def _is_wrapped(schema: dict[str, Json] | None) -> bool:
    """Providers want an object, so any other value travels inside one."""
    return schema is not None and schema.get("type") != "object"


def shape_of(schema: dict[str, Json] | None, model: AnyModel) -> ModelRequestParameters:
    """How a model is told of the schema of its answer."""
    if schema is None:
        return ModelRequestParameters()
    sent = dict(schema)
    if _is_wrapped(schema):
        sent = {
            "type": "object",
            "properties": {_VALUE: {key: value for key, value in schema.items() if key not in {"$defs", "$schema"}}},
            "required": [_VALUE],
            "additionalProperties": False,
            "$defs": schema.get("$defs", {}),
        }
    # A model that cannot be held to a schema is told of it; the answer is held against it in any case.
    mode: StructuredOutputMode = "native" if model.profile.get("supports_json_schema_output", False) else "prompted"
    return ModelRequestParameters(output_mode=mode, output_object=OutputObjectDefinition(sent, name="answer"))


def new_text(event: AgentStreamEvent) -> str:
    """The text that an event adds to the answer."""
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _estimate(question: Question, text: str) -> tuple[int, int]:
    """Tokens by length, where the provider counted none: a call is never free by omission."""
    asked = len(question.instructions) + len(question.prompt) + len(orjson.dumps(question.output_schema))
    return 1 + asked // CHARACTERS_PER_TOKEN, 1 + len(text) // CHARACTERS_PER_TOKEN


def _reason(error: Exception, transport: OutboundTransport) -> AgentError:
    """The port's error; what the provider wrote stays out of it, because it may repeat the prompt."""
    if transport.failure is not None:
        return outbound_error(transport.failure)
    for kind, code, message in _REASONS:
        if isinstance(error, kind):
            return AgentError(code, message)
    if isinstance(error, failed.ModelQuotaExceededError):
        return AgentError(AgentErrorCode.RATE_LIMITED, "The provider's quota is used up.", retryable=False)
    if isinstance(error, failed.ModelHTTPError):
        if error.provider_error_type == _LLAMA_CONTEXT:
            return AgentError(AgentErrorCode.TOO_LARGE, _CONTEXT)
        return status_error(error.status_code, error.headers or {})
    if isinstance(error, failed.ModelAPIError):
        return AgentError(AgentErrorCode.UNAVAILABLE, "The model's endpoint broke off or sent an error.")
    return AgentError(AgentErrorCode.INVALID_OUTPUT, _NOT_ASKED_FOR)

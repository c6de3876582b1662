"""Everything that knows pydantic-ai and the OpenAI SDK; imported late, because both are slow to import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
from openai import AsyncOpenAI
from pydantic_ai import Agent, AgentRunError, NativeOutput, RunUsage, StructuredDict, UsageLimits, UserError
from pydantic_ai import exceptions as failed
from pydantic_ai.messages import AgentStreamEvent, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentCall, AgentError, AgentErrorCode
from execution.clients.failures import outbound_error, status_error
from execution.clients.llm import Answer, Question
from execution.clients.llm_transport import OutboundTransport
from execution.domain.documents import Json

CHARACTERS_PER_TOKEN = 4
_VALUE = "value"
# What servers that speak OpenAI's protocol have in common; OpenAI's own models are told apart by their names.
_COMPATIBLE = OpenAIModelProfile(
    supports_json_schema_output=True,
    openai_chat_supports_max_completion_tokens=False,
    openai_supports_strict_tool_definition=False,
)
_AGENT: Agent[None, str] = Agent(retries=0)
_ONE_REQUEST = UsageLimits(request_limit=1)
_CONTEXT = "The input is above the model's context window."
_LLAMA_CONTEXT = "exceed_context_size_error"  # how llama.cpp says it, which the library does not tell apart yet
_REASONS: tuple[tuple[type[Exception], AgentErrorCode, str], ...] = (
    (TimeoutError, AgentErrorCode.TIMEOUT, "The model did not answer within the step's time."),
    (
        failed.ModelContextWindowExceededError,
        AgentErrorCode.TOO_LARGE,
        "The input is above the model's context window.",
    ),
    (failed.ContentFilterError, AgentErrorCode.REFUSED, "The provider's content filter stopped the answer."),
    (failed.OutputTokenLimitExceeded, AgentErrorCode.INVALID_OUTPUT, "The answer was cut off by max_output_tokens."),
    (UserError, AgentErrorCode.INVALID_OUTPUT_SCHEMA, "The provider's library cannot express this output_schema."),
)


async def ask(question: Question, call: AgentCall, outbound: OutboundClient) -> Answer:
    """The model's answer to one request, or AgentError, which tells the tokens used until then."""
    transport = OutboundTransport(
        outbound,
        seconds=call.deadline_seconds,
        traceparent=call.traceparent,
        authorized=question.endpoint.api_key is not None,
    )
    usage = RunUsage()
    try:
        async with asyncio.timeout(call.deadline_seconds), _model(question, transport) as model:
            return await _answer(question, model, usage, call.on_delta)
    except (AgentRunError, UserError, TimeoutError) as error:
        raise _spent(_reason(error, transport), usage) from None


async def _answer(
    question: Question, model: OpenAIChatModel, usage: RunUsage, on_delta: Callable[[str], None] | None
) -> Answer:
    wrapped, output_type = _output_type(question.output_schema)
    result = await _AGENT.run(
        question.prompt or None,
        output_type=output_type,
        model=model,
        instructions=question.instructions or None,
        model_settings=ModelSettings(temperature=question.temperature, max_tokens=question.max_output_tokens),
        usage=usage,
        usage_limits=_ONE_REQUEST,
        infer_name=False,
        event_stream_handler=None if on_delta is None else _deltas_to(on_delta),
    )
    output: Json = {"text": result.output} if question.output_schema is None else result.output
    used = (usage.input_tokens, usage.output_tokens)
    estimated = used == (0, 0)
    return Answer(
        output[_VALUE] if wrapped else output,
        *(_estimate(question, output) if estimated else used),
        answered_by=result.response.model_name or "",
        usage_estimated=estimated,
    )


@asynccontextmanager
async def _model(question: Question, transport: OutboundTransport) -> AsyncIterator[OpenAIChatModel]:
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None) as http:
        client = AsyncOpenAI(
            base_url=question.endpoint.base_url,
            api_key=question.endpoint.api_key or "none",
            http_client=http,
            max_retries=0,
        )
        provider = OpenAIProvider(openai_client=client)
        profile = None if question.is_openai else _COMPATIBLE
        yield OpenAIChatModel(question.model, provider=provider, profile=profile)


def _output_type(schema: dict[str, Json] | None) -> tuple[bool, Any]:
    """How the library is told of a schema; providers want an object, so any other value travels inside one."""
    if schema is None:
        return False, str
    if schema.get("type") == "object":
        return False, NativeOutput(StructuredDict(dict(schema), name="answer"))
    inner = {key: value for key, value in schema.items() if key not in {"$defs", "$schema"}}
    wrapper = {
        "type": "object",
        "properties": {_VALUE: inner},
        "required": [_VALUE],
        "additionalProperties": False,
        "$defs": schema.get("$defs", {}),
    }
    return True, NativeOutput(StructuredDict(wrapper, name="answer"))


def _deltas_to(on_delta: Callable[[str], None]) -> Any:
    async def forward(_: object, events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                text = event.part.content
            elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                text = event.delta.content_delta
            else:
                continue
            if text:
                on_delta(text)

    return forward


def _estimate(question: Question, output: Json) -> tuple[int, int]:
    """Tokens by length, where the provider counted none: a call is never free by omission."""
    asked = len(question.instructions) + len(question.prompt) + len(orjson.dumps(question.output_schema))
    return 1 + asked // CHARACTERS_PER_TOKEN, 1 + len(orjson.dumps(output)) // CHARACTERS_PER_TOKEN


def _spent(error: AgentError, usage: RunUsage) -> AgentError:
    error.input_tokens, error.output_tokens = usage.input_tokens, usage.output_tokens
    return error


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
    return AgentError(AgentErrorCode.INVALID_OUTPUT, "The model's answer is not what was asked for.")

"""The models of each protocol, as pydantic-ai opens them; imported late, with the rest of the library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from execution.clients.library_transport import OutboundTransport
from execution.clients.llm import Question

AnyModel: TypeAlias = OpenAIChatModel | AnthropicModel

# The SDKs want a key, or look for the operator's own in the environment; the transport sends the one that is stored.
_NO_KEY = "none"
# What servers that speak OpenAI's protocol have in common; OpenAI's own models are told apart by their names.
_COMPATIBLE = OpenAIModelProfile(
    supports_json_schema_output=True,
    openai_chat_supports_max_completion_tokens=False,
    openai_supports_strict_tool_definition=False,
)


@asynccontextmanager
async def opened(question: Question, transport: OutboundTransport) -> AsyncIterator[AnyModel]:
    """The model that is asked, speaking through this transport."""
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None) as http:
        yield _anthropic(question, http) if question.provider == "anthropic" else _openai(question, http)


def key_headers(question: Question) -> dict[str, str]:
    """The stored key as the protocol carries it; nothing where there is none."""
    key = question.endpoint.api_key
    if key is None:
        return {}
    return {"x-api-key": key} if question.provider == "anthropic" else {"Authorization": f"Bearer {key}"}


def settings_of(question: Question, model: AnyModel) -> ModelSettings:
    """How the model is to answer; Anthropic's newer ones refuse a temperature."""
    settings = ModelSettings(max_tokens=question.max_output_tokens)
    if not model.profile.get("anthropic_disallows_sampling_settings", False):
        settings["temperature"] = question.temperature
    return settings


def prompts_of(question: Question) -> tuple[str, str]:
    """What the model reads from a user, and as its instructions.

    Anthropic's protocol wants a user's message, so there instructions alone become one.
    """
    if not question.prompt and question.provider == "anthropic":
        return question.instructions, ""
    return question.prompt, question.instructions


def messages_of(question: Question) -> list[ModelMessage]:
    """The same as the first message of a conversation."""
    prompt, instructions = prompts_of(question)
    parts = [UserPromptPart(prompt)] if prompt else []
    return [ModelRequest(parts=parts, instructions=instructions or None)]


def _openai(question: Question, http: httpx2.AsyncClient) -> OpenAIChatModel:
    client = AsyncOpenAI(base_url=question.endpoint.base_url, api_key=_NO_KEY, http_client=http, max_retries=0)
    profile = None if question.provider == "openai" else _COMPATIBLE
    return OpenAIChatModel(question.model, provider=OpenAIProvider(openai_client=client), profile=profile)


def _anthropic(question: Question, http: httpx2.AsyncClient) -> AnthropicModel:
    client = AsyncAnthropic(
        base_url=question.endpoint.base_url,
        api_key=_NO_KEY,
        http_client=http,
        max_retries=0,
        # Otherwise the SDK refuses long answers that are not streamed; ours is the time-out of the step.
        timeout=None,
        open_telemetry=False,
    )
    return AnthropicModel(question.model, provider=AnthropicProvider(anthropic_client=client))

"""Agents of kind `llm`: instructions, an input, a language model. What needs no model library happens here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, TypeAlias

import orjson

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentCall, AgentError, AgentErrorCode, AgentResult, Calls, ModelRequest
from execution.domain.agents import LlmAgent
from execution.domain.documents import Json
from execution.domain.expressions import ExpressionError
from execution.domain.model_choices import OneModel
from execution.domain.schemas import validate_input
from execution.domain.templates import Template, compile_template, text_of

PUBLIC_URLS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}

OWN_SHARE = 0.97
BYTES_PER_TOKEN = 3
"""How few bytes a token has, for what a request may use at most; real texts have about four."""
_OUT_OF_REACH = frozenset({AgentErrorCode.TIMEOUT, AgentErrorCode.RATE_LIMITED, AgentErrorCode.UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers, in the protocol of its provider."""

    base_url: str
    api_key: str | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"


@dataclass(frozen=True, slots=True)
class Question:
    """Everything a model is asked, and within which bounds."""

    endpoint: Endpoint
    provider: str
    model: str
    instructions: str
    prompt: str
    temperature: float
    max_output_tokens: int
    output_schema: dict[str, Json] | None

    def as_request(self, size_bytes: int | None = None) -> ModelRequest:
        """A request with so many bytes, or with the question alone."""
        if size_bytes is None:
            texts = self.instructions.encode(), self.prompt.encode(), orjson.dumps(self.output_schema)
            size_bytes = sum(map(len, texts))
        return ModelRequest(self.provider, self.model, -(-size_bytes // BYTES_PER_TOKEN), self.max_output_tokens)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said; its text is wrapped as `{"text": ...}` where no schema asks for more."""

    output: Json
    input_tokens: int
    output_tokens: int
    answered_by: str
    usage_estimated: bool
    calls: Calls = ()
    """Tokens of input and output of each request, where there may have been more than one."""


Ask: TypeAlias = Callable[[Question, AgentCall, OutboundClient], Awaitable[Answer]]


class LlmRunner:
    """Asks language models; the library that speaks to them is loaded by `warm` or by the first call."""

    def __init__(
        self, outbound: OutboundClient, *, embedded: Endpoint | None = None, to_tools: OutboundClient | None = None
    ) -> None:
        self._outbound, self._to_tools = outbound, to_tools or outbound
        self._embedded = embedded
        self._ask: Ask | None = None
        self._loading = asyncio.Lock()

    async def warm(self) -> None:
        """Load the model library aside (seconds of CPU, about 50 MB), so that no run waits for it."""
        await self._loaded()

    async def run(self, call: AgentCall) -> AgentResult:
        """The model's answer: `{"text": ...}`, or the value that `output_schema` describes; or AgentError."""
        spec = call.spec
        if not isinstance(spec, LlmAgent):
            raise AgentError(AgentErrorCode.NOT_SUPPORTED_YET, "This runner asks agents of kind llm only.")
        # All of them, before any is asked: what is wrong with the second is no matter of whether the first answers.
        questions = [self._question(call, spec, model) for model in spec.model.in_turn]
        ask = self._ask or await self._loaded()
        if spec.tools:
            return await self._with_tools(questions, call, spec)
        return await _first_answer(questions, call, ask, self._outbound)

    async def _with_tools(self, questions: Sequence[Question], call: AgentCall, spec: LlmAgent) -> AgentResult:
        loop = asyncio.get_running_loop()
        # What was used and done is told only by a call that ends by itself, so it ends before it is ended.
        end = loop.time() + call.deadline_seconds * OWN_SHARE
        open_toolbox, ask = await asyncio.to_thread(_load_tools)
        async with open_toolbox(spec, call, self._to_tools, end - loop.time()) as toolbox:
            left = replace(call, deadline_seconds=max(0.0, end - loop.time()))
            try:
                return await _first_answer(questions, left, partial(ask, spec=spec, toolbox=toolbox), self._outbound)
            except AgentError as error:
                # What a tool has done, another attempt would do again.
                error.retryable = error.retryable and not toolbox.has_written
                raise

    async def _loaded(self) -> Ask:
        async with self._loading:
            if self._ask is None:
                self._ask = await asyncio.to_thread(_load)
            return self._ask

    def _question(self, call: AgentCall, spec: LlmAgent, model: OneModel) -> Question:
        return Question(
            endpoint=self._endpoint(model, call.credentials.get(model.credential or "")),
            provider=model.provider,
            model=model.name,
            instructions=_instructions(spec, call.input),
            prompt=prompt_of(call.input),
            temperature=model.temperature,
            max_output_tokens=min(model.max_output_tokens, call.max_output_tokens),
            output_schema=spec.output_schema,
        )

    def _endpoint(self, model: OneModel, credential: str | None) -> Endpoint:
        if model.base_url is not None:
            return Endpoint(model.base_url, credential)
        if model.provider in PUBLIC_URLS:
            if credential is None:
                raise AgentError(
                    AgentErrorCode.UNAUTHORIZED, "This model needs a model credential, and none is stored."
                )
            return Endpoint(PUBLIC_URLS[model.provider], credential)
        if self._embedded is None:
            raise AgentError(
                AgentErrorCode.UNAVAILABLE,
                "This installation runs no embedded model; name another provider.",
                retryable=False,
            )
        return self._embedded


async def _first_answer(
    questions: Sequence[Question], call: AgentCall, ask: Ask, outbound: OutboundClient
) -> AgentResult:
    """The first model's answer; a further one's only where the one before cannot be had at the moment."""
    loop = asyncio.get_running_loop()
    end = loop.time() + call.deadline_seconds
    for at, question in enumerate(questions):
        left = len(questions) - at
        seconds = max(0.0, end - loop.time()) / left
        if at and call.on_delta is not None:
            call.on_delta("")
        try:
            return await _answered(question, replace(call, deadline_seconds=seconds), ask, outbound)
        except AgentError as error:
            error.provider, error.model = question.provider, question.model
            if left == 1 or not _is_elsewhere_better(error):
                # What the models before could not do for now, another attempt may find them able to.
                error.retryable = error.retryable or at > 0
                raise
    raise AgentError(AgentErrorCode.NOT_SUPPORTED_YET, "This agent names no model.")


async def _answered(question: Question, call: AgentCall, ask: Ask, outbound: OutboundClient) -> AgentResult:
    with call.open_requests.request(question.as_request()) if not call.max_tokens else nullcontext():
        answer = await ask(question, call, outbound)
    return _result(question, answer)


def _is_elsewhere_better(error: AgentError) -> bool:
    """Whether the model was out of reach, and nothing is to be paid: an attempt is booked on one model only."""
    return error.retryable and error.code in _OUT_OF_REACH and not error.input_tokens + error.output_tokens


def prompt_of(value: Json) -> str:
    """What the model reads as its input: a text, or an object's only text, as it is; anything else as JSON."""
    if isinstance(value, dict) and len(value) == 1:
        only = next(iter(value.values()))
        if isinstance(only, str):
            return only
    return "" if value is None or value == {} else text_of(value)


def _instructions(spec: LlmAgent, value: Json) -> str:
    properties = (spec.input_schema or {}).get("properties", {})
    declared = {name: value[name] for name in properties if name in value} if isinstance(value, dict) else {}
    try:
        return text_of(_template(spec.instructions).render({"input": declared}))
    except ExpressionError as error:
        raise AgentError(AgentErrorCode.EXPRESSION_FAILED, f"The instructions cannot be filled: {error}.") from error


@lru_cache(maxsize=512)
def _template(instructions: str) -> Template:
    return compile_template(instructions, ("input",))


def _load() -> Ask:
    from execution.clients.llm_library import ask  # noqa: PLC0415  (seconds and 50 MB that only this kind needs)

    return ask


def _load_tools() -> tuple[Any, Any]:
    from execution.clients.llm_tools import ask_with_tools  # noqa: PLC0415  (as above)
    from execution.clients.toolbox import open_toolbox  # noqa: PLC0415

    return open_toolbox, ask_with_tools


def _result(question: Question, answer: Answer) -> AgentResult:
    output_problems = validate_input(question.output_schema, answer.output)
    if output_problems:
        error = AgentError(
            AgentErrorCode.INVALID_OUTPUT,
            f"The model's answer does not fit output_schema at {output_problems[0].path or 'its root'}.",
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
        )
        error.calls = answer.calls
        raise error
    return AgentResult(
        output=answer.output,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        provider=question.provider,
        model=question.model,
        answered_by=answer.answered_by,
        calls=answer.calls,
        usage_estimated=answer.usage_estimated,
    )

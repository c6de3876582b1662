"""Counts what each request to a model uses, and makes none that could pass what the attempt may use."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import orjson
from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from execution.clients.agents import AgentError, AgentErrorCode, OpenRequests
from execution.clients.llm import Question

CHARACTERS_PER_TOKEN = 4


class Meter:
    """The tokens of one attempt, by request."""

    def __init__(self, most_tokens: int, question: Question, open_requests: OpenRequests) -> None:
        self.calls: list[tuple[int, int]] = []
        self.is_estimated = False
        self._most, self._question, self._open = most_tokens, question, open_requests

    @property
    def input_tokens(self) -> int:
        """Tokens asked with, so far."""
        return sum(asked for asked, _ in self.calls)

    @property
    def output_tokens(self) -> int:
        """Tokens answered, so far."""
        return sum(answered for _, answered in self.calls)

    @contextmanager
    def request(self, size_bytes: int) -> Iterator[None]:
        """Around a request of this size; AgentError `max_tokens` when it could pass what the attempt may use."""
        request = self._question.as_request(size_bytes)
        next_most = request.input_tokens + request.output_tokens
        if self.input_tokens + self.output_tokens + next_most > self._most:
            raise AgentError(
                AgentErrorCode.MAX_TOKENS, "The model's next request could use more than limits.max_tokens allows."
            )
        with self._open.request(request):
            yield

    def count(self, size_bytes: int, response: ModelResponse) -> None:
        """Note what a request used; by its length, where the provider counted nothing: none is free by omission."""
        used = response.usage.input_tokens, response.usage.output_tokens
        if used == (0, 0):
            answered = sum(len(str(part)) for part in response.parts)
            used = 1 + size_bytes // CHARACTERS_PER_TOKEN, 1 + answered // CHARACTERS_PER_TOKEN
            self.is_estimated = True
        self.calls.append(used)


class MeteredModel(WrapperModel):
    """A model whose every request is bounded and counted, and answers in `shape` when it does not call tools."""

    def __init__(self, wrapped: Model[Any], meter: Meter, shape: ModelRequestParameters) -> None:
        super().__init__(wrapped)
        self._meter, self._shape = meter, shape

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """The model's answer, counted."""
        shaped = self._shaped(model_request_parameters)
        size = _size(messages, shaped)
        with self._meter.request(size):
            response = await super().request(messages, model_settings, shaped)
        self._meter.count(size, response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """The model's answer as it is written, counted at its end."""
        shaped = self._shaped(model_request_parameters)
        size = _size(messages, shaped)
        with self._meter.request(size):
            async with super().request_stream(messages, model_settings, shaped, run_context) as stream:
                yield stream
                self._meter.count(size, stream.get())

    def _shaped(self, parameters: ModelRequestParameters) -> ModelRequestParameters:
        if self._shape.output_object is None:
            return parameters
        return replace(parameters, output_mode=self._shape.output_mode, output_object=self._shape.output_object)


def _size(messages: list[ModelMessage], parameters: ModelRequestParameters) -> int:
    """Bytes of all that is sent."""
    size = len(ModelMessagesTypeAdapter.dump_json(messages)) + sum(
        len(tool.description or "") + len(orjson.dumps(tool.parameters_json_schema))
        for tool in parameters.function_tools
    )
    if parameters.output_object is not None:
        size += len(orjson.dumps(parameters.output_object.json_schema))
    return size

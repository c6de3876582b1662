"""Models that call tools before they answer; imported late, with the library that speaks to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any

from pydantic_ai import Agent, AgentRetries, ModelRetry, RunContext, ToolFailed
from pydantic_ai.messages import AgentStreamEvent, ModelResponse
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_ai.usage import UsageLimits
from pydantic_core import SchemaValidator, core_schema

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentCall, AgentError
from execution.clients.library_transport import OutboundTransport
from execution.clients.llm import Answer, Question
from execution.clients.llm_actions import answer_by_actions
from execution.clients.llm_library import new_text, output_of, shape_of, translated
from execution.clients.llm_meter import Meter, MeteredModel
from execution.clients.llm_models import AnyModel, key_headers, opened, prompts_of, settings_of
from execution.clients.toolbox import Toolbox, ToolFaultError
from execution.domain.agents import CORRECTIONS, LlmAgent
from execution.domain.documents import Json
from execution.domain.nodes import Effects

_ANY = SchemaValidator(core_schema.any_schema())


async def ask_with_tools(
    question: Question, call: AgentCall, outbound: OutboundClient, spec: LlmAgent, toolbox: Toolbox
) -> Answer:
    """The model's answer after as many tool calls as it likes and may make; AgentError tells what was used."""
    transport = OutboundTransport(
        outbound, seconds=call.deadline_seconds, traceparent=call.traceparent, own=key_headers(question)
    )
    meter = Meter(call.max_tokens, question, call.open_requests)
    answer = answer_by_actions if spec.strategy == "json_action" else _native
    try:
        with translated(transport):
            async with asyncio.timeout(call.deadline_seconds), opened(question, transport) as model:
                output, answered_by = await answer(question, model, meter, toolbox, call.on_delta)
    except AgentError as error:
        if not error.is_unheard:
            call.open_requests.forget()
        error.calls = tuple(meter.calls)
        error.input_tokens, error.output_tokens = meter.input_tokens, meter.output_tokens
        raise
    return Answer(output, meter.input_tokens, meter.output_tokens, answered_by, meter.is_estimated, tuple(meter.calls))


async def _native(
    question: Question, model: AnyModel, meter: Meter, toolbox: Toolbox, on_delta: Callable[[str], None] | None
) -> tuple[Json, str]:
    """By the provider's own tool calls."""
    metered = MeteredModel(model, meter, shape_of(question.output_schema, model))
    retries = AgentRetries(tools=CORRECTIONS, output=0)
    agent = Agent(metered, name="agent", deps_type=object, toolsets=[_Toolset(toolbox)], retries=retries)
    prompt, instructions = prompts_of(question)

    async def pass_on(_: RunContext[object], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            if on_delta is not None and (text := new_text(event)):
                on_delta(text)

    result = await agent.run(
        prompt or None,
        instructions=instructions or None,
        model_settings=settings_of(question, model),
        usage_limits=UsageLimits(request_limit=None, tool_calls_limit=toolbox.most_calls),
        event_stream_handler=pass_on if on_delta is not None else None,
    )
    response = next(each for each in reversed(result.all_messages()) if isinstance(each, ModelResponse))
    return output_of(question, response), response.model_name or ""


class _Toolset(AbstractToolset[object]):
    """The toolbox as the library's agent loop uses it."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox

    @property
    def id(self) -> str:
        """There is one per agent."""
        return "tools"

    async def get_tools(self, ctx: RunContext[object]) -> dict[str, ToolsetTool[object]]:  # noqa: ARG002
        """Every tool of the agent; the toolbox itself judges the arguments."""
        return {
            tool.name: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=tool.name,
                    parameters_json_schema=tool.input_schema,
                    description=tool.description,
                    sequential=tool.effects is Effects.WRITE,
                ),
                max_retries=CORRECTIONS,
                args_validator=_ANY,
            )
            for tool in self._toolbox.tools.values()
        }

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[object],  # noqa: ARG002
        tool: ToolsetTool[object],  # noqa: ARG002
    ) -> str:
        """What the tool says, or what the model is told instead."""
        try:
            return await self._toolbox.call(name, tool_args)
        except ToolFaultError as fault:
            raise (ModelRetry if fault.is_call_wrong else ToolFailed)(fault.message) from None

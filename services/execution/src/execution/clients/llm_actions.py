"""Tool calls of models that know none: each answer is forced into a schema, an action or the answer itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest, UserPromptPart

from execution.clients.agents import AgentError, AgentErrorCode
from execution.clients.llm import Question
from execution.clients.llm_library import output_of, shape_of
from execution.clients.llm_meter import Meter, MeteredModel
from execution.clients.llm_models import AnyModel, messages_of, settings_of
from execution.clients.toolbox import Tool, Toolbox, ToolFaultError
from execution.domain.documents import Json
from execution.domain.schemas import validate_input

ANSWER_CHARACTERS_PER_TOKEN = 2
"""How long a text may be that a small model writes, so that it ends before its tokens do."""
_ASKED = """\
You have tools. Answer with JSON: {"tool": <name>, "arguments": {...}} to use one, or {"answer": ...} at the end.
"""


async def answer_by_actions(
    question: Question, model: AnyModel, meter: Meter, toolbox: Toolbox, on_delta: Callable[[str], None] | None
) -> tuple[Json, str]:
    """The model's answer, and who answered, after the tool calls it wanted."""
    told = replace(question, instructions=f"{question.instructions}\n\n{_ASKED}{_described(toolbox)}".strip())
    messages, settings = messages_of(told), settings_of(question, model)
    while True:
        asked = replace(question, output_schema=action_schema(question, toolbox))
        shape = shape_of(asked.output_schema, model)
        metered = MeteredModel(model, meter, shape)
        response = await model_request(metered, messages, model_settings=settings, model_request_parameters=shape)
        action = output_of(asked, response)
        if problems := validate_input(asked.output_schema, action):
            place = problems[0].path or "its root"
            raise AgentError(AgentErrorCode.INVALID_OUTPUT, f"The model's answer is no action at {place}.")
        if "answer" in action:
            return _answered(question, action["answer"], on_delta), response.model_name or ""
        said = await _done(toolbox, action["tool"], action["arguments"])
        messages += [response, ModelRequest(parts=[UserPromptPart(f"{action['tool']}: {said}")])]


def action_schema(question: Question, toolbox: Toolbox) -> dict[str, Json]:
    """What the model may answer now: one of its tools while calls are left, or the answer."""
    text = {"type": "string", "maxLength": question.max_output_tokens * ANSWER_CHARACTERS_PER_TOKEN}
    answer = _object({"answer": text if question.output_schema is None else _inlined(question.output_schema)})
    if toolbox.calls_left <= 0:
        return answer
    actions = [
        _object({"tool": {"type": "string", "enum": [tool.name]}, "arguments": _inlined(tool.input_schema)})
        for tool in toolbox.tools.values()
    ]
    return {"anyOf": [*actions, answer]}


async def _done(toolbox: Toolbox, tool: str, arguments: Json) -> str:
    try:
        return await toolbox.call(tool, arguments)
    except ToolFaultError as fault:
        if fault.is_call_wrong:
            toolbox.calls_left -= 1
        return fault.message


def _answered(question: Question, answer: Json, on_delta: Callable[[str], None] | None) -> Json:
    if question.output_schema is not None:
        return answer
    if on_delta is not None:
        on_delta(answer)
    return {"text": answer}


def _described(toolbox: Toolbox) -> str:
    return "\n".join(_line(tool) for tool in toolbox.tools.values())


def _line(tool: Tool) -> str:
    return f"{tool.name}: {tool.description} Its arguments: {orjson.dumps(tool.input_schema).decode()}"


def _inlined(schema: dict[str, Json]) -> dict[str, Json]:
    """The schema as a part of another; one whose references would then lead nowhere is held against the whole later."""
    if b'"$ref"' in orjson.dumps(schema):
        return {"type": "object"} if schema.get("type") == "object" else {}
    return {key: value for key, value in schema.items() if key not in {"$schema", "$defs", "$id"}}


def _object(properties: dict[str, Json]) -> dict[str, Json]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip

"""What the parts of an agent say about each other."""

from __future__ import annotations

from collections.abc import Iterator

from execution.domain.agents import AgentSpec, LlmAgent
from execution.domain.evals import eval_problems
from execution.domain.expressions import PathExpression
from execution.domain.flows import flow_problems
from execution.domain.prices import EMBEDDED_PROVIDER
from execution.domain.references import Checks, Found
from execution.domain.templates import TemplateError, compile_template
from execution.domain.tools import name_for_models


def agent_problems(spec: AgentSpec) -> Iterator[Found]:
    """What is wrong with an agent beyond the shape of its parts."""
    yield from eval_problems(spec.evals, spec.input_schema)
    yield from flow_problems(spec.flow, Checks(spec.input_schema, None, None))
    if isinstance(spec, LlmAgent):
        yield from _instruction_problems(spec)
        yield from _tool_problems(spec)


def _instruction_problems(spec: LlmAgent) -> Iterator[Found]:
    try:
        template = compile_template(spec.instructions, ("input",))
    except TemplateError as error:
        yield ("instructions",), "invalid_expression", error.message
        return
    for hole in template.holes:
        if not isinstance(hole.expression, PathExpression):
            yield ("instructions",), "invalid_expression", "instructions read inputs by their path: ${input.topic}"
    properties = (spec.input_schema or {}).get("properties")
    declared = properties if isinstance(properties, dict) else {}
    for _, path in template.paths():
        if not path.keys or path.keys[0] not in declared:
            yield ("instructions",), "unknown_reference", f"{path} is no property that input_schema declares"


def _tool_problems(spec: LlmAgent) -> Iterator[Found]:
    if not spec.tools:
        if spec.strategy == "json_action":
            yield ("strategy",), "invalid_value", "strategy says how tools are called, and there are none"
        return
    if spec.limits.max_tokens is None:
        yield ("limits", "max_tokens"), "missing_key", "an agent with tools says what one attempt may use: max_tokens"
    if spec.strategy == "native" and any(model.provider == EMBEDDED_PROVIDER for model in spec.model.in_turn):
        yield ("tools",), "invalid_value", "the embedded model knows no tool calls: strategy: json_action"
    taken: dict[str, str] = {}
    for number, source in enumerate(spec.tools):
        for index, tool in enumerate(source.tools):
            name = name_for_models(tool)
            if name in taken:
                message = f"models could not tell {tool!r} from {taken[name]!r}"
                yield ("tools", number, "tools", index), "duplicate_id", message
            taken[name] = tool

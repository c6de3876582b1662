"""What the parts of a definition say about each other: names that exist, templates that read what is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from execution.domain.agents import AgentSpec, LlmAgent
from execution.domain.documents import Json, Path
from execution.domain.expressions import PathExpression
from execution.domain.orchestrations import (
    MERGE,
    NamedStep,
    OrchestrationSpec,
    Sequential,
    StepShape,
)
from execution.domain.templates import Template, TemplateError, compile_template

Found = tuple[Path, str, str]

_STEP_KEYS = ("output", "status", "error_code")
_OPENERS = ("additionalProperties", "patternProperties", "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if")


def agent_problems(spec: AgentSpec) -> Iterator[Found]:
    """What is wrong with an agent beyond the shape of its parts."""
    if not isinstance(spec, LlmAgent):
        return
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


def orchestration_problems(spec: OrchestrationSpec, aliases: Collection[str] | None) -> Iterator[Found]:
    """What is wrong with an orchestration beyond the shape of its parts; without `aliases` these are not checked."""
    if isinstance(spec, Sequential):
        earlier: list[str] = []
        for index, step in enumerate(spec.steps):
            yield from _step(step, ("steps", index), spec, earlier, aliases)
            yield from _unique(step, ("steps", index), earlier)
            earlier.append(step.id)
        yield from _enough_steps(spec, len(spec.steps))
        return
    names: list[str] = []
    for index, branch in enumerate(spec.branches):
        yield from _step(branch, ("branches", index), spec, (), aliases)
        yield from _unique(branch, ("branches", index), [*names, MERGE])
        names.append(branch.id)
    if spec.merge is not None:
        yield from _step(spec.merge, ("merge",), spec, names, aliases)
    if spec.join.quorum is not None and spec.join.quorum > len(spec.branches):
        yield ("join", "quorum"), "invalid_value", f"quorum is at most the number of branches, {len(spec.branches)}"
    yield from _enough_steps(spec, len(spec.branches) + (spec.merge is not None))


def _enough_steps(spec: OrchestrationSpec, steps: int) -> Iterator[Found]:
    if steps > spec.limits.max_steps:
        yield ("limits", "max_steps"), "invalid_value", f"max_steps is less than the {steps} steps every run takes"


def _unique(step: NamedStep, at: Path, taken: Collection[str]) -> Iterator[Found]:
    if step.id in taken:
        yield (*at, "id"), "duplicate_id", f"the id {step.id!r} is already taken"


def _step(
    step: StepShape, at: Path, spec: OrchestrationSpec, earlier: Collection[str], aliases: Collection[str] | None
) -> Iterator[Found]:
    if aliases is not None and step.agent not in aliases:
        yield (*at, "agent"), "unknown_reference", f"no agent has the alias {step.agent!r}"
    if not step.has_input:
        return
    try:
        template = compile_template(step.input, ("input", "steps") if earlier else ("input",))
    except TemplateError as error:
        yield (*at, "in", *error.path), "invalid_expression", error.message
        return
    yield from _reads(template, (*at, "in"), spec.input_schema, earlier)


def _reads(
    template: Template, at: Path, input_schema: dict[str, Any] | None, earlier: Collection[str]
) -> Iterator[Found]:
    for where, path in template.paths():
        of_step = path.root == "steps"
        if message := _step_path_fault(path, earlier) if of_step else _input_path_fault(path, input_schema):
            yield (*at, *where), "unknown_reference", message


def _step_path_fault(path: PathExpression, earlier: Collection[str]) -> str:
    if not path.keys or path.keys[0] not in earlier:
        return f"{path}: no earlier step has that id"
    if len(path.keys) > 1 and path.keys[1] not in _STEP_KEYS:
        return f"{path}: a step has {', '.join(_STEP_KEYS)}"
    return ""


def _input_path_fault(path: PathExpression, schema: dict[str, Json] | None) -> str:
    """A property the input schema does not know, unless the schema leaves room for it."""
    if schema is None or not path.keys or not isinstance(schema.get("properties"), dict):
        return ""
    if path.keys[0] in schema["properties"] or any(schema.get(opener) for opener in _OPENERS):
        return ""
    return f"{path} is no property that input_schema declares"

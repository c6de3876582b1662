"""What the parts of a definition say about each other: names that exist, templates that read what is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from execution.domain.documents import Json, Path
from execution.domain.expressions import CelExpression, ExpressionError, PathExpression, compile_expression
from execution.domain.problems import NOT_SUPPORTED_YET
from execution.domain.steps import AnyStep, ApprovalAsk, Compensation, StepShape, Work
from execution.domain.templates import TemplateError, compile_template

Found = tuple[Path, str, str]

TAKEN_NAMES = ("input", "steps", "previous", "history", "chosen")
_STEP_KEYS = ("output", "status", "error_code")
_OPENERS = ("additionalProperties", "patternProperties", "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if")


class Checks(NamedTuple):
    """What every part of one orchestration is held against."""

    input_schema: dict[str, Any] | None
    agents: Collection[str] | None
    orchestrations: Collection[str] | None

    def step(self, step: StepShape, at: Path, earlier: Collection[str], more: tuple[str, ...] = ()) -> Iterator[Found]:
        """What is wrong with a step that may read these earlier ones, and more roots than `input` and `steps`."""
        yield from self.runs(step, at)
        yield from self.given(step, at, earlier, more)

    def any(self, step: AnyStep, at: Path, earlier: Collection[str]) -> Iterator[Found]:
        """What is wrong with a step of whichever kind that may read these earlier ones, and what came before."""
        if not step.is_wait:
            yield from self.runs(step, at)
            yield from self.given(step, at, earlier, ("previous",))
            return
        roots = ("input", "steps", "previous") if earlier else ("input", "previous")
        if step.has_input:
            yield from self.template(step.input, (*at, "in"), earlier, roots)
        if step.approval is not None:
            yield from self.bound(step.approval, (*at, "approval"))
            if step.has_input and step.approval.bind:
                yield (*at, "approval", "bind"), "invalid_value", "what is shown is said by in or by bind, not by both"
        if step.timer is not None and step.timer.until is not None:
            yield from self.template(step.timer.until, (*at, "timer", "until"), earlier, roots)

    def bound(self, ask: ApprovalAsk, at: Path) -> Iterator[Found]:
        """What is wrong with an approval: what it shows of the input, and how many have to agree."""
        if ask.approvers.count > 1:
            yield (
                (*at, "approvers", "count"),
                NOT_SUPPORTED_YET,
                "approvals by more than one person are not supported yet",
            )
        for index, name in enumerate(ask.bind):
            if message := self._fault(PathExpression("input", (name,)), ()):
                yield (*at, "bind", index), "unknown_reference", message

    def alias(self, agent: str, at: Path) -> Iterator[Found]:
        """An agent that is named without more."""
        if self.agents is not None and agent not in self.agents:
            yield at, "unknown_reference", f"no agent has the alias {agent!r}"

    def call(self, step: StepShape | AnyStep | Compensation, at: Path) -> Iterator[Found]:
        """The agent that a step runs, or whose tool it calls."""
        if step.agent is not None:
            yield from self.alias(step.agent, (*at, "agent"))
        elif step.tool is not None:
            yield from self.alias(step.tool.agent, (*at, "tool", "agent"))

    def runs(self, step: StepShape | AnyStep, at: Path) -> Iterator[Found]:
        """The agent or orchestration that a step runs, or the agent whose tool it calls."""
        name = step.orchestration
        if name is None:
            yield from self.call(step, at)
        elif self.orchestrations is not None and name not in self.orchestrations:
            yield (*at, "orchestration"), "unknown_reference", f"no orchestration has the alias {name!r}"

    def work(
        self, work: Work, agent: str, at: Path, earlier: Collection[str], more: tuple[str, ...] = ()
    ) -> Iterator[Found]:
        """The same of anything that an agent does."""
        yield from self.alias(agent, (*at, "agent"))
        yield from self.given(work, at, earlier, more)

    def given(self, work: Work, at: Path, earlier: Collection[str], more: tuple[str, ...] = ()) -> Iterator[Found]:
        """What a step says that it receives."""
        if work.has_input:
            roots = ("input", "steps", *more) if earlier else ("input", *more)
            yield from self.template(work.input, (*at, "in"), earlier, roots)

    def template(self, source: Json, at: Path, earlier: Collection[str], roots: tuple[str, ...]) -> Iterator[Found]:
        """What is wrong with a template over these roots."""
        try:
            template = compile_template(source, roots)
        except TemplateError as error:
            yield (*at, *error.path), "invalid_expression", error.message
            return
        for where, path in template.paths():
            if message := self._fault(path, earlier):
                yield (*at, *where), "unknown_reference", message

    def rule(
        self, text: str, at: Path, earlier: Collection[str], more: tuple[str, ...] = (), *, is_condition: bool = False
    ) -> Iterator[Found]:
        """What is wrong with an expression that decides something."""
        try:
            expression = compile_expression(text, ("input", "steps", *more) if earlier else ("input", *more))
        except ExpressionError as error:
            yield at, "invalid_expression", str(error)
            return
        if isinstance(expression, PathExpression) and (message := self._fault(expression, earlier)):
            yield at, "unknown_reference", message
        if is_condition and isinstance(expression, CelExpression) and not expression.expression.is_condition:
            yield at, "invalid_expression", "this is never true or false"

    def _fault(self, path: PathExpression, earlier: Collection[str]) -> str:
        if path.root == "steps":
            return _step_path_fault(path, earlier)
        return _input_path_fault(path, self.input_schema) if path.root == "input" else ""


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

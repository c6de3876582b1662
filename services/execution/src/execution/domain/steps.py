"""What the steps of an orchestration are made of: an agent or orchestration to run, a tool, something to wait for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from execution.domain.nodes import DEFAULT_WAIT_SECONDS
from execution.domain.shapes import Alias, Duration, NodeId, Retry, Shape, UserId
from execution.domain.tools import ToolName

MAX_APPROVERS = 50
MAX_RULE_CHARACTERS = 400
"""Less than an expression may have: a router compares it with each of its routes."""
Rule = Annotated[str, Field(min_length=1, max_length=MAX_RULE_CHARACTERS)]


class ToolUse(Shape):
    """One of the tools that an agent has, called by its server's name for it; the agent itself is not asked."""

    agent: Alias
    name: ToolName


class Work(Shape):
    """How an agent is run or a tool called; without `in` it receives what came before it."""

    input: Annotated[Any, Field(alias="in")] = None
    retry: Retry | None = None
    timeout: Duration | None = None

    @property
    def has_input(self) -> bool:
        """Whether the step says what it receives."""
        return "input" in self.model_fields_set


class StepShape(Work):
    """An agent to run, a tool to call, or another orchestration as a run of its own, whose output is the step's."""

    agent: Alias | None = None
    tool: ToolUse | None = None
    orchestration: Alias | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if _given(self.agent, self.tool, self.orchestration) != 1:
            raise ValueError("a step is exactly one of agent, tool, orchestration")
        _require_no_retry(self, self.orchestration)
        return self


class NamedStep(StepShape):
    """A step that others can refer to: `${steps.<id>.output}`."""

    id: NodeId


class Compensation(Work):
    """An agent or tool that undoes a step; without `in` it gets what that step gave."""

    step: NodeId
    agent: Alias | None = None
    tool: ToolUse | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.agent is None) == (self.tool is None):
            raise ValueError("a step is undone by either agent or tool")
        return self


class Approvers(Shape):
    """Who may approve: whoever has one of the roles, or is one of the users; one of them is enough."""

    roles: Annotated[list[Literal["org_owner", "org_admin", "operator", "developer"]], Field(max_length=10)] = []
    users: Annotated[list[UserId], Field(max_length=MAX_APPROVERS)] = []
    count: Annotated[int, Field(ge=1, le=MAX_APPROVERS)] = 1
    exclude_requester: Literal[True] = True

    def names(self) -> tuple[str, ...]:
        """As `role:<role>` and `user:<id>`."""
        return (*(f"role:{role}" for role in self.roles), *(f"user:{user}" for user in self.users))


class ApprovalAsk(Shape):
    """A person other than the requester has to approve; the fields of the input named in `bind` are shown.

    What is shown travels in facts and is kept by policy and audit: name what is needed to decide, and no more.
    """

    approvers: Approvers = Approvers()
    bind: Annotated[list[NodeId], Field(max_length=20)] = []
    expires: Duration = DEFAULT_WAIT_SECONDS
    on_expire: Literal["reject"] = "reject"
    on_reject: Literal["fail", "continue"] = "fail"


class TimerAsk(Shape):
    """For so long, or until a moment such as `2026-11-30T09:00:00Z`."""

    duration: Annotated[Duration | None, Field(alias="for")] = None
    until: Annotated[str, Field(max_length=MAX_RULE_CHARACTERS)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.duration is None) == (self.until is None):
            raise ValueError("it is either for or until")
        return self


class SignalAsk(Shape):
    """What somebody sends the run by this name; its payload is the step's output."""

    name: NodeId
    timeout: Duration = DEFAULT_WAIT_SECONDS
    on_timeout: Literal["fail", "continue"] = "fail"


class AnyStep(Work):
    """An agent or orchestration to run, a tool to call, or something to wait for."""

    id: NodeId
    agent: Alias | None = None
    tool: ToolUse | None = None
    orchestration: Alias | None = None
    approval: ApprovalAsk | None = None
    timer: TimerAsk | None = None
    signal: SignalAsk | None = None

    @property
    def is_wait(self) -> bool:
        """Whether it waits for something, and runs nothing."""
        return _given(self.approval, self.timer, self.signal) > 0

    @model_validator(mode="after")
    def _one_of_all(self) -> Self:
        if _given(self.agent, self.tool, self.orchestration, self.approval, self.timer, self.signal) != 1:
            raise ValueError("a step is exactly one of agent, tool, orchestration, approval, timer, signal")
        _require_no_retry(self, self.orchestration)
        if self.is_wait and {"retry", "timeout"} & self.model_fields_set:
            raise ValueError("retry and timeout belong to what is run")
        if self.timer is not None and self.has_input:
            raise ValueError("a timer gives on what came before it: it has no in")
        return self


def _given(*parts: object) -> int:
    return sum(part is not None for part in parts)


def _require_no_retry(work: Work, orchestration: str | None) -> None:
    if orchestration is not None and "retry" in work.model_fields_set:
        raise ValueError("an orchestration is not tried again as a whole: its steps have their own retry")

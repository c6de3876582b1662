"""Steps to nodes: what runs, what is called, what is waited for."""

from __future__ import annotations

from typing import cast

from execution.domain.nodes import (
    MAX_WAIT_SECONDS,
    AgentNode,
    CallNode,
    Node,
    OnError,
    SubrunNode,
    ToolNode,
    Wait,
    WaitNode,
)
from execution.domain.shapes import policy_of
from execution.domain.steps import AnyStep, ApprovalAsk, SignalAsk, StepShape, ToolUse, Work
from execution.domain.templates import Template, compile_template

GATHERED_STEPS = ("input", "steps", "previous")


def any_node(step: AnyStep, following: str | None) -> Node:
    """A step of whichever kind."""
    if not step.is_wait:
        return run_node(step, step.id, following, roots=GATHERED_STEPS)
    shown = compile_template(step.input, GATHERED_STEPS) if step.has_input else None
    if step.approval is not None:
        return approval_node(step.id, following, step.approval, shown)
    if step.timer is not None:
        until = compile_template(step.timer.until, GATHERED_STEPS) if step.timer.until else None
        seconds = step.timer.duration or MAX_WAIT_SECONDS
        return WaitNode(id=step.id, next=following, wait=Wait.TIMER, until=until, timeout_seconds=seconds)
    signal = cast("SignalAsk", step.signal)  # a step is exactly one of all
    return WaitNode(
        id=step.id,
        next=following,
        wait=Wait.SIGNAL,
        input=shown,
        signal=signal.name,
        timeout_seconds=signal.timeout,
        on_refusal=OnError.SKIP if signal.on_timeout == "continue" else OnError.FAIL,
    )


def run_node(
    step: StepShape | AnyStep,
    node_id: str,
    following: str | None = None,
    *,
    roots: tuple[str, ...] = ("input", "steps"),
    default: Template | None = None,
) -> CallNode | SubrunNode:
    """A step that runs something."""
    if step.orchestration is None:
        return call_node(step, step.agent or step.tool, node_id, following, roots=roots, default=default)
    return SubrunNode(
        id=node_id,
        next=following,
        orchestration=step.orchestration,
        input=compile_template(step.input, roots) if step.has_input else default,
        timeout_seconds=step.timeout,
    )


def call_node(
    work: Work,
    called: str | ToolUse | None,
    node_id: str,
    following: str | None = None,
    *,
    roots: tuple[str, ...] = ("input", "steps"),
    default: Template | None = None,
) -> CallNode:
    """A step that an agent does, named by its alias, or one of its tools."""
    given = compile_template(work.input, roots) if work.has_input else default
    retry, seconds = policy_of(work.retry), work.timeout
    if isinstance(called, ToolUse):
        return ToolNode(
            id=node_id, next=following, agent=called.agent, tool=called.name, input=given, retry=retry,
            timeout_seconds=seconds,
        )  # fmt: skip
    agent = cast("str", called)  # a step is one of them
    return AgentNode(
        id=node_id, next=following, agent=agent, input=given, retry=retry, timeout_seconds=seconds
    )  # fmt: skip


def approval_node(node_id: str, following: str | None, ask: ApprovalAsk, shown: Template | None = None) -> WaitNode:
    """A step that a person has to approve."""
    bound = {name: f"${{input.{name}}}" for name in ask.bind}
    return WaitNode(
        id=node_id,
        next=following,
        wait=Wait.APPROVAL,
        input=shown or compile_template(bound, ("input",)),
        timeout_seconds=ask.expires,
        approvers=ask.approvers.names(),
        on_refusal=OnError.SKIP if ask.on_reject == "continue" else OnError.FAIL,
    )

"""The calls of one run in hand: estimated and allowed before they are made, under way, given up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import cast

from chassis.clock import utc_now
from execution.clients.agents import AgentErrorCode
from execution.domain.graph import Graph, retry_of
from execution.domain.nodes import CallNode
from execution.domain.retries import RetryPolicy, retry_delay
from execution.domain.runs import StepStatus, StopReason, Usage, cap_exceeded
from execution.domain.walk import Ready, StepKey
from execution.usecases.engine_attempts import LONGEST_CALL_SECONDS, Attempt
from execution.usecases.engine_caps import Caps
from execution.usecases.engine_definitions import DefinitionGoneError, UnknownToolError
from execution.usecases.engine_progress import Progress
from execution.usecases.engine_rows import ClaimedRun, RunWrite
from execution.usecases.engine_workshop import Workshop

LET_GO_SECONDS = 2.0
FULL_SECONDS = 5.0
"""How soon a call that cannot go on alone for want of room is thought of again."""


class Calls:
    """What is under way for one run."""

    def __init__(self, shop: Workshop, run: ClaimedRun, caps: Caps, progress: Progress) -> None:
        self._shop, self._run, self._caps, self._progress = shop, run, caps, progress
        self.under_way: dict[asyncio.Task[Attempt], Attempt] = {}
        self.undoing: frozenset[str] = frozenset()
        """Nodes that undo steps of a failed run: they are no steps that `max_steps` bounds."""
        self.delays: dict[StepKey, float] = {}
        """How long the next attempt at a step has to wait."""

    def make(self, attempts: Iterable[Attempt]) -> None:
        """Make these calls."""
        for attempt in attempts:
            self.under_way[asyncio.get_running_loop().create_task(self._shop.attempts.make(attempt))] = attempt

    async def abandon(self, task: asyncio.Task[Attempt], why: str) -> Attempt:
        """End a call that no longer counts; what it has used does, where it had just ended by itself."""
        attempt = self.under_way.pop(task)
        task.cancel()
        await asyncio.wait({task}, timeout=LET_GO_SECONDS)
        attempt.count_open()
        attempt.completed_at = attempt.completed_at or utc_now()
        attempt.fail("skipped", why)
        return attempt

    async def prepare(self, graph: Graph, step: Ready, tokens_left: int | None) -> Attempt:
        """The next attempt at a step, with what its call may use; failed already where it must not be made."""
        key = StepKey(step.node.id, step.iteration)
        agent, fault = None, ("", "")
        try:
            agent = await self._shop.definitions.called_by(self._run, cast("CallNode", step.node))
        except DefinitionGoneError:
            fault = "definition_gone", "The agent's version is not there."
        except UnknownToolError as error:
            fault = AgentErrorCode.UNKNOWN_TOOL, str(error)
        said = getattr(step.node, "timeout_seconds", None) or graph.step_timeout_seconds
        wanted = [LONGEST_CALL_SECONDS, said]
        if agent is not None:  # its own word is a limit, what nobody has said is none
            wanted.append(agent.spec.timeout_seconds if said is None else agent.spec.said_timeout)
        policy = retry_of(graph, step.node, agent.retry if agent else None)
        attempt = Attempt(
            self._run,
            step,
            number=self._progress.tried.get(key, 0) + 1,
            step_number=self._progress.step_number + 1,
            agent=agent,
            tokens_left=tokens_left,
            seconds=min(seconds for seconds in wanted if seconds is not None),
            delay=self._delay(key, policy),
            policy=policy,
            lost=self._progress.lost[key],
        )
        if agent is None:
            attempt.fail(*fault)
            return attempt
        await self._shop.attempts.prepare(attempt, agent)
        if step.node.id in self.undoing:
            attempt.estimate = attempt.estimate.without_steps()
        if attempt.error_code is None:
            over = cap_exceeded(agent.limits, Usage(), attempt.estimate)
            if over is not None:
                attempt.fail(over.value, "The call could use more than the agent's limits allow.")
        return attempt

    def _delay(self, key: StepKey, policy: RetryPolicy) -> float:
        """Seconds to wait before the next attempt at a step: drawn anew where an earlier holder has failed it."""
        if key in self.delays:
            return self.delays.pop(key)
        failed_at = self._progress.failed_at.pop(key, None)
        if failed_at is None:
            return 0.0
        tries = self._progress.tried[key] - self._progress.lost[key]
        return max(0.0, retry_delay(policy, tries, random.random()) - (utc_now() - failed_at).total_seconds())

    def over_cap(self, attempt: Attempt, fresh: Iterable[Attempt], write: RunWrite) -> StopReason | None:
        """Whether what was spent, what is under way and this call may together pass a limit of the run."""
        if attempt.error_code is not None:
            return None
        return self._caps.forbidden(self.spent(fresh, write), attempt.estimate)

    def tokens_left(self, fresh: Iterable[Attempt], write: RunWrite) -> int | None:
        """How many the run may still use beside all that is under way; None: as many as it likes."""
        most = self._caps.limits.max_tokens
        return None if most is None else max(0, most - self.spent(fresh, write).tokens)

    def spent(self, fresh: Iterable[Attempt], write: RunWrite) -> Usage:
        """What was spent, and what is under way or about to be may spend."""
        calls = [attempt.estimate for attempt in (*self.under_way.values(), *fresh)]
        done = sum(
            outcome.status != StepStatus.SKIPPED and key.node not in self.undoing
            for key, outcome in self._progress.completed.items()
        )
        return self._caps.spent(write, calls, done + sum(call.steps for call in calls))

    def seconds_to_detach(self) -> float | None:
        """In how many seconds all that is under way will have been for so long that it goes on alone; None: never."""
        desk = self._shop.detached
        if desk is None or not self.under_way or any(task.done() for task in self.under_way):
            return None
        now = asyncio.get_running_loop().time()
        last = max(now if attempt.called_at is None else attempt.called_at for attempt in self.under_way.values())
        seconds = max(0.0, last + desk.after_seconds - now)
        return seconds if seconds or desk.has_room(len(self.under_way)) else FULL_SECONDS

    async def let_go(self) -> None:
        """Give up all that is under way."""
        tasks = list(self.under_way)
        self.under_way.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LET_GO_SECONDS)

"""Driving one claimed run to its end: what is ready is done, what has ended is stored, until the graph says it is over.

A step starts only after everything it follows from is committed, so a takeover never repeats a step that ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import orjson

from chassis.clock import utc_now
from chassis.errors import RefusalError
from execution.clients.dispatch import Delivery
from execution.domain.caps import told_limits
from execution.domain.graph import Graph
from execution.domain.interpreter import Finished, Plan, next_work, partial_output
from execution.domain.nodes import Effects, SubrunNode, WaitNode
from execution.domain.retries import retry_delay
from execution.domain.runs import (
    Limits,
    RunStatus,
    StepStatus,
    StopReason,
    WaitingFor,
    status_of_stop,
)
from execution.domain.walk import Outcome, Ready, StepKey
from execution.usecases import engine_facts
from execution.usecases.engine_attempts import Attempt
from execution.usecases.engine_calls import Calls
from execution.usecases.engine_caps import Caps
from execution.usecases.engine_children import Children
from execution.usecases.engine_definitions import DefinitionGoneError
from execution.usecases.engine_detached import DetachedCalls
from execution.usecases.engine_progress import Progress
from execution.usecases.engine_rows import ClaimedRun, RunWrite, StepRow, bare_step
from execution.usecases.engine_waits import Waits
from execution.usecases.engine_workshop import Workshop
from execution.usecases.engine_writing import AnsweredMeanwhileError, LostRunError, Writer

MAX_TAKEOVERS = 5
"""A run that so many workers in a row have lost without any progress is given up; and so is one whose detached call
was lost so often."""
SAY_STARTED_SECONDS = 0.2
"""A run whose first step takes longer says so at once; all others say it together with that step."""


class RunInHand:
    """A run that this worker holds."""

    def __init__(self, shop: Workshop, run: ClaimedRun, delivery: Delivery) -> None:
        self.run, self.delivery = run, delivery
        self._shop, self._writer = shop, Writer(run, shop.writes, shop.rows)
        self._loop = asyncio.get_running_loop()
        self.since = self._loop.time()
        self.is_released = False
        """Whether its message was acknowledged before its end; then only the lease says that it is in our hands."""
        self._halt: asyncio.Future[StopReason | None] = self._loop.create_future()
        self._caps = Caps(run)
        most = self._caps.limits.timeout_seconds
        self._deadline = None if most is None else self.since + most - run.elapsed
        self._messages: dict[str, str | None] = {}
        self._waits = Waits(run, shop.attempts)
        self._progress = Progress(run, shop.rows, shop.attempts, self._caps, self._waits)
        self._calls = Calls(shop, run, self._caps, self._progress)
        self._children = Children(run, self._caps, self._waits, shop.attempts, shop.definitions)
        self._answered: asyncio.Future[None] = self._loop.create_future()
        self.heard = run.answers
        """How many answers there are, as far as somebody has told us."""
        self.following: list[Delivery] = []
        """Messages of the run's next turn, which came before this one was quite over."""

    def stop(self, reason: StopReason) -> None:
        """End the run soon, for this reason."""
        if not self._halt.done():
            self._halt.set_result(reason)

    def lose(self) -> None:
        """Somebody else holds the run: let go of it without a trace."""
        if not self._halt.done():
            self._halt.set_result(None)

    def hear(self, answers: int) -> None:
        """Somebody has answered something that the run waits for: so many answers in all.

        The run itself counts them only once the steps have been read: a write that does not know them must not let go.
        """
        self.heard = answers
        if not self._answered.done():
            self._answered.set_result(None)

    async def drive(self) -> None:
        """Bring the run to its end, or to where it waits; LostRunError when somebody else has taken it."""
        try:
            await self._drive()
        except AnsweredMeanwhileError as error:
            await self._keep_calls(error.write)
            raise
        finally:
            await self._calls.let_go()

    async def _drive(self) -> None:
        run, write = self.run, RunWrite(self.run)
        if run.last_step == 0:
            write.facts.append(engine_facts.started(run))
        has_past = run.last_step > 0 or run.forked_from is not None
        is_undecided = has_past and await self._progress.recall(write)
        if run.status == RunStatus.CANCELLING:
            await self._stop(write, StopReason.CANCELLED)
        elif is_undecided:
            await self._await_decision(write)
        elif run.takeovers >= MAX_TAKEOVERS:
            await self._stop(write, StopReason.CRASH_LOOP)
        else:
            await self._follow(write)

    async def _follow(self, write: RunWrite) -> None:
        try:
            graph = await self._shop.definitions.graph_of(self.run)
            value = await self._shop.attempts.load(self.run.input, self.run.input_ref)
        except DefinitionGoneError:
            await self._finish(write, Finished(RunStatus.FAILED, None, "definition_gone"))
            return
        except RefusalError as error:
            await self._finish(write, Finished(RunStatus.FAILED, None, error.code))
            return
        self._calls.undoing = frozenset(node for _, node in graph.compensations)
        is_quiet = False
        while True:
            plan = next_work(graph, value, self._progress.completed)
            await self._skip(graph, plan, write)
            if plan.finished is not None:
                for task in list(self._calls.under_way):
                    await self._abandon(task, write, "The run was over before.")
                await self._finish(write, plan.finished)
                return
            if ended := await self._waits.look(plan.ready, write, self._progress.next_number):
                self._progress.completed |= ended
                continue
            ended, reason = await self._children.look(
                plan.ready,
                write,
                lambda: self._calls.spent((), write),
                self._seconds_left(),
                self._progress.next_number,
            )
            if ended:
                self._progress.completed |= ended
                continue
            reason = reason or await self._begin(graph, plan.ready, write)
            if reason is None and not self._calls.under_way:
                await self._rest(write)
                return
            desk = self._shop.detached
            if desk is not None and reason is None and is_quiet and self._calls.seconds_to_detach() == 0:
                await self._detach(desk, write)
                return
            reason = reason or await self._until_some_ended(write)
            if reason is not None:
                await self._stop(write, reason)
                return
            is_quiet = not self._note_ended(write)

    # ------------------------------------------------------------------------------------------------- beginning

    async def _begin(self, graph: Graph, ready: Iterable[Ready], write: RunWrite) -> StopReason | None:
        """Start what is ready, after all that went before is stored; the reason when a cap forbids it."""
        if self._seconds_left() == 0:
            return StopReason.TIMEOUT
        at_work = {attempt.key for attempt in self._calls.under_way.values()}
        fresh: list[Attempt] = []
        for step in ready:
            key = StepKey(step.node.id, step.iteration)
            if isinstance(step.node, (WaitNode, SubrunNode)) or key in at_work or key in self._waits.held:
                continue
            if self._progress.lost[key] >= MAX_TAKEOVERS:
                return StopReason.CRASH_LOOP
            attempt = await self._calls.prepare(graph, step, self._calls.tokens_left(fresh, write))
            reason = self._calls.over_cap(attempt, fresh, write)
            if reason is not None and self._caps.is_only_promised(self._calls.spent(fresh, write), attempt.estimate):
                self._calls.delays[attempt.key] = attempt.delay  # once a child has ended, what it did not use may do
                continue
            if reason is not None:
                return reason
            fresh.append(attempt)
            self._progress.next_number()
            self._progress.tried[attempt.key] = attempt.number
        for attempt in fresh:
            # Nobody may guess later whether a write happened: that it was tried is stored before it is.
            if attempt.effects == Effects.WRITE and attempt.error_code is None:
                write.steps.append(attempt.row(StepStatus.STARTED))
        if write.steps and (fresh or self._calls.under_way):
            await self._store(write)
            if self._halt.done():
                return self._give_up(fresh, write)
        self._calls.make(fresh)
        return None

    def _give_up(self, fresh: Iterable[Attempt], write: RunWrite) -> StopReason:
        """No call is made any more once the run is to be stopped; what was stored as tried was not."""
        reason = self._halt.result()
        if reason is None:
            raise LostRunError
        self._drop(fresh, write)
        return reason

    def _drop(self, attempts: Iterable[Attempt], write: RunWrite) -> None:
        """Attempts whose call was not made: nothing is left of them, but that a write's was announced."""
        for attempt in attempts:
            if attempt.effects == Effects.WRITE:
                attempt.completed_at = utc_now()
                attempt.fail("skipped", "The run was stopped before this call.")
                row = attempt.row(StepStatus.SKIPPED)
                write.steps.append(row)
                write.again.append(row)

    # --------------------------------------------------------------------------------------------------- waiting

    async def _until_some_ended(self, write: RunWrite) -> StopReason | None:
        """Wait for an attempt to end; the reason when the run has to stop first."""
        while True:
            say_started = SAY_STARTED_SECONDS if write.facts else None
            moments = self._seconds_left(), self._calls.seconds_to_detach(), self._waits.seconds_left(), say_started
            seconds = min((each for each in moments if each is not None), default=None)
            wanted: set[asyncio.Future[Any]] = {*self._calls.under_way, self._halt}
            if self._waits.held:
                wanted.add(self._answered)
            await asyncio.wait(wanted, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._halt.done():
                reason = self._halt.result()
                if reason is None:
                    raise LostRunError
                return reason
            if self._answered.done():
                self._answered = self._loop.create_future()
                await self._progress.take_answers(write)
                return None
            if any(task.done() for task in self._calls.under_way):
                return None
            if self._deadline is not None and self._loop.time() >= self._deadline:
                return StopReason.TIMEOUT
            if self._calls.seconds_to_detach() == 0 or self._waits.seconds_left() == 0:
                return None
            if write.facts:
                await self._store(write)

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    async def _detach(self, desk: DetachedCalls, write: RunWrite) -> None:
        """Let go of the run while its calls go on; each tells of its end by itself."""
        calls = dict(self._calls.under_way)
        for attempt in calls.values():
            may_use = Limits(attempt.estimate.cost_usd_micros, attempt.estimate.tokens, 0)
            row = attempt.row(StepStatus.WAITING)._replace(
                child=orjson.dumps({"limits": told_limits(may_use)}).decode()
            )
            self._waits.hold(attempt.key, row, WaitingFor.STEP)
            write.put(row)
        write.facts.append(engine_facts.wait_started(self.run, WaitingFor.STEP, self._waits.rows()))
        self._waits.rest(write, self._seconds_left())
        with desk.room_for(len(calls)):
            status = await self._store(write)
            if status == RunStatus.CANCELLING:
                for attempt in calls.values():
                    self._waits.forget(attempt.key)
                await self._stop(write, StopReason.CANCELLED)
                return
            desk.take(calls)
        self._calls.under_way.clear()

    def _note_ended(self, write: RunWrite) -> bool:
        """Take up every attempt that has ended: its row and fact, and the step's outcome unless it is tried again.

        Returns whether there was any.
        """
        ended = [task for task in self._calls.under_way if task.done()]
        for task in ended:
            attempt = task.result()
            del self._calls.under_way[task]
            code = attempt.error_code
            attempt.decide_retry()
            if attempt.is_in_doubt:
                self._doubt(write, attempt)
                continue
            if code is None:
                self._progress.completed[attempt.key] = Outcome(StepStatus.COMPLETED, attempt.output)
            elif attempt.will_retry:
                policy, tries = attempt.policy, attempt.number - attempt.lost
                asked = min(attempt.retry_after_seconds, policy.max_delay_seconds)
                self._calls.delays[attempt.key] = max(asked, retry_delay(policy, tries, random.random()))
            else:
                self._progress.completed[attempt.key] = Outcome(StepStatus.FAILED, None, code)
                self._messages[attempt.key.node] = attempt.error_message
            self._add(write, attempt)
        return bool(ended)

    def _doubt(self, write: RunWrite, attempt: Attempt) -> None:
        """Nobody knows whether a write has happened: it is over once a person has said."""
        row = attempt.row(StepStatus.NEEDS_DECISION)._replace(completed_at=None)
        write.put(row)
        self._waits.hold(attempt.key, row, WaitingFor.STEP)
        self._waits.await_decision(attempt.key, write)

    def _add(
        self, write: RunWrite, attempt: Attempt, status: StepStatus | None = None, *, is_given_up: bool = False
    ) -> None:
        row = attempt.row(status)
        if not is_given_up:
            write.made.append(row)
        elif attempt.effects != Effects.WRITE:  # of a write under way nobody knows whether it happened
            write.again.append(row)
        self._count(write, row)

    def _count(self, write: RunWrite, row: StepRow) -> None:
        """Store an attempt that has ended, say so, and count what it used."""
        write.steps.append(row)
        write.facts.append(engine_facts.step_ended(self.run, row))
        write.attempts += 1
        write.input_tokens += row.input_tokens
        write.output_tokens += row.output_tokens
        write.cost_usd_micros += row.cost_usd_micros

    # ---------------------------------------------------------------------------------------------------- ending

    async def _skip(self, graph: Graph, plan: Plan, write: RunWrite) -> None:
        """Stop and store as skipped what no longer counts, in the write of the outcome that decided it."""
        at_work = {attempt.key: task for task, attempt in self._calls.under_way.items()}
        for key in plan.skipped:
            if key in self._progress.completed:
                continue
            self._progress.completed[key] = Outcome(StepStatus.SKIPPED)
            task = at_work.get(key)
            if task is None:
                write.put(self._skipped(graph, key, write))
                continue
            await self._abandon(task, write, "Enough other branches had ended.")

    async def _abandon(self, task: asyncio.Task[Attempt], write: RunWrite, why: str) -> None:
        self._add(write, await self._calls.abandon(task, why), StepStatus.SKIPPED, is_given_up=True)

    def _skipped(self, graph: Graph, key: StepKey, write: RunWrite) -> StepRow:
        begun, kind = self._waits.forget(key), graph.nodes[key.node].kind
        if begun is not None:
            write.settles = True
            self._caps.give_up(key)
            write.stirs_children = write.stirs_children or begun.kind == SubrunNode.kind
            begun = begun._replace(kind=kind, status=StepStatus.SKIPPED, completed_at=utc_now())
            write.facts.append(engine_facts.step_skipped(self.run, begun))
            return begun
        tried = self._progress.tried.get(key, 0)
        return bare_step(self.run, key, kind, tried + 1, self._progress.next_number())

    async def _finish(self, write: RunWrite, finished: Finished) -> None:
        """Store the run's end with its output, or what there is of it; nobody has to answer it any more."""
        self._waits.close(write, tell=finished.status == RunStatus.COMPLETED)
        write.status, write.error_code = finished.status.value, finished.error_code
        write.stop_reason = finished.stop_reason.value if finished.stop_reason else None
        write.error_message = self._messages.get(finished.error_node or "")
        try:
            output = await self._shop.attempts.keep(self.run, finished.output)
            write.output, write.output_ref = output
        except RefusalError as error:
            write.status, write.error_code, write.error_message = RunStatus.FAILED, error.code, error.detail
        await self._writer.end(write)

    async def _stop(self, write: RunWrite, reason: StopReason) -> None:
        """End the run before its graph does; what its steps have produced is kept."""
        attempts = list(self._calls.under_way.values())
        await self._calls.let_go()
        self._drop([attempt for attempt in attempts if not _has_begun(attempt)], write)
        attempts = [attempt for attempt in attempts if _has_begun(attempt)]
        if reason is StopReason.CANCELLED:
            reason = await self._writer.why_cancelled()
        for attempt in attempts:
            is_under_way = attempt.completed_at is None
            if is_under_way:
                attempt.count_open()
                attempt.completed_at = utc_now()
                attempt.fail(reason.value, "The run was stopped during this attempt.")
            self._add(write, attempt, is_given_up=is_under_way)
            if attempt.error_code is None:
                self._progress.completed[attempt.key] = Outcome(StepStatus.COMPLETED, attempt.output)
        for key, row in self._waits.detached():
            self._waits.forget(key)
            write.settles = True
            given_up = row._replace(status=StepStatus.FAILED, error_code=reason.value, completed_at=utc_now())
            self._count(write, given_up._replace(error_message="The run was stopped during this attempt."))
        status = status_of_stop(reason)
        code = None if status == RunStatus.CANCELLED else reason.value
        await self._finish(write, Finished(status, partial_output(self._progress.completed), code, None, reason))

    async def _await_decision(self, write: RunWrite) -> None:
        """A write was tried and nobody knows whether it happened: a person has to say."""
        write.status, write.waiting_for = RunStatus.WAITING, WaitingFor.DECISION
        write.facts.append(engine_facts.wait_started(self.run, WaitingFor.DECISION, write.steps))
        await self._store(write)

    async def _rest(self, write: RunWrite) -> None:
        """Let go of the run until somebody answers or a moment comes."""
        self._waits.rest(write, self._seconds_left())
        await self._store(write)
        if self._halt.done():
            await self._stop(write, StopReason.CANCELLED)

    # -------------------------------------------------------------------------------------------------- remembering

    async def _store(self, write: RunWrite) -> str:
        """Store what there is so far, and start gathering anew in the same object; returns the run's status."""
        status = await self._writer.store(write)
        fresh = RunWrite(self.run)
        for part in fields(RunWrite):
            setattr(write, part.name, getattr(fresh, part.name))
        if status == RunStatus.CANCELLING:
            self.stop(StopReason.CANCELLED)
        return status

    async def _keep_calls(self, void: RunWrite) -> None:
        """Store the calls of a write that said too much: they were made, and paid for."""
        write = RunWrite(self.run)
        for row in void.made:
            self._count(write, row)
        for row in void.again:
            self._count(write, row._replace(status=StepStatus.FAILED, will_retry=True))
        if write.steps:
            await self._writer.store(write)


def _has_begun(attempt: Attempt) -> bool:
    return attempt.called_at is not None or attempt.completed_at is not None

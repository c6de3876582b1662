"""What a run in hand knows of its steps: what earlier holders have stored, and what others say of them meanwhile."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from execution.domain.documents import Json
from execution.domain.runs import DECIDED_RETRY, FINAL_STEP, WORKER_LOST, StepStatus
from execution.domain.walk import Outcome, StepKey
from execution.usecases.engine_attempts import Attempts
from execution.usecases.engine_caps import Caps
from execution.usecases.engine_rows import ClaimedRun, Rows, RunWrite, StepRow, bare_step
from execution.usecases.engine_waits import Waits


class Progress:
    """How far one run is."""

    def __init__(self, run: ClaimedRun, rows: Rows, attempts: Attempts, caps: Caps, waits: Waits) -> None:
        self._run, self._rows, self._attempts, self._caps, self._waits = run, rows, attempts, caps, waits
        self.completed: dict[StepKey, Outcome] = {}
        self.tried: dict[StepKey, int] = {}
        """The number of the last attempt at each step."""
        self.lost: Counter[StepKey] = Counter()
        """How many of these were lost with their worker."""
        self.failed_at: dict[StepKey, datetime] = {}
        """When the last attempt failed of a step that is tried again, where somebody else has made it."""
        self.step_number = 0
        """The highest so far, counted from 1."""

    def next_number(self) -> int:
        """The number of the step that is started now."""
        self.step_number += 1
        return self.step_number

    async def recall(self, write: RunWrite) -> bool:
        """Take up what earlier holders have stored; whether a write was tried of which nobody knows the outcome."""
        undecided = False
        for row in await self._steps():
            key, status = StepKey(row["node"], row["iteration"]), row["status"]
            self.step_number = max(self.step_number, row["step_number"])
            self._caps.recall(key, row)
            if status == StepStatus.WAITING:
                self.tried[key] = row["attempt"]
                self._waits.recall(row)
            elif status in (StepStatus.STARTED, StepStatus.NEEDS_DECISION):
                self.tried[key] = row["attempt"]
                undecided = True
                write.steps.append(_undecided(self._run, row))
            else:
                await self._take_up(key, row)
        return undecided

    async def take_answers(self, write: RunWrite) -> None:
        """Take up what others have said of steps that wait."""
        for row in await self._steps():
            key = StepKey(row["node"], row["iteration"])
            if not self._waits.is_waiting(key, row["id"]):
                continue
            if row["status"] == StepStatus.NEEDS_DECISION:
                self._waits.await_decision(key, write)
            elif row["status"] in FINAL_STEP:
                self._waits.forget(key)
                self._caps.recall(key, row)
                await self._take_up(key, row)

    async def _steps(self) -> list[Any]:
        """What is stored of them, which the run's own counts are then of."""
        rows = await self._rows.steps(self._run)
        if rows:
            self._run.recount(rows[0])
        return rows

    async def _take_up(self, key: StepKey, row: Any) -> None:
        """What has become of an attempt that is over."""
        self.tried[key] = row["attempt"]
        if row["error_code"] == WORKER_LOST:
            self.lost[key] += 1
        elif row["will_retry"] and row["error_code"] != DECIDED_RETRY:
            self.failed_at[key] = row["completed_at"]
        if not row["will_retry"]:
            output: Json = await self._attempts.load(row["output"], row["output_ref"])
            self.completed[key] = Outcome(StepStatus(row["status"]), output, row["error_code"])


def _undecided(run: ClaimedRun, row: Any) -> StepRow:
    key = StepKey(row["node"], row["iteration"])
    return bare_step(run, key, row["kind"], row["attempt"], row["step_number"])._replace(
        id=row["id"], status=StepStatus.NEEDS_DECISION, started_at=row["started_at"], completed_at=None
    )

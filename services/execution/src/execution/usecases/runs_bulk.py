"""Starting many runs in one transaction: what they have in common is looked up once, their rows leave together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from chassis.errors import LimitExceededError, RefusalError, UnavailableError
from chassis.objects import Objects
from chassis.rules import Rules
from chassis.uow import UnitOfWork
from execution.tables.runs import Run
from execution.usecases.idempotency import find_earlier_run, remember_run, request_digest
from execution.usecases.run_subjects import Kind, Subject, find_subject
from execution.usecases.runs import RunRequest, announce_run, prepare_run
from execution.usecases.subscriptions import count_runs
from resources.bulk import BulkResult, record_refusals, refused

OPERATION = "start_runs"
QUEUED = 202


class Asked(NamedTuple):
    """A run to start, and the key that makes asking for it again safe; no key stands twice in one request."""

    request: RunRequest
    idempotency_key: str | None = None


async def start_runs(
    uow: UnitOfWork, asked: Sequence[Asked], *, rules: Rules, objects: Objects
) -> list[BulkResult[Run]]:
    """Queue many runs; one that is refused leaves nothing but its result, the others stay.

    Each is decided, and its decision recorded, as if it were alone. Beyond the month's number they are refused in the
    order of the request.
    """
    starting = _Starting(uow, rules, objects)
    results = [await starting.one(index, each) for index, each in enumerate(asked)]
    # Counted before they are inserted: then nothing has to be undone where not all have room.
    room = await count_runs(uow, len(starting.fresh)) if starting.fresh else 0
    for one in starting.fresh[room:]:
        refusal = LimitExceededError("Your plan allows no more runs this month.", code="max_executions_per_month")
        results[one.at] = refused(one.at, refusal)
    await starting.keep(starting.fresh[:room])
    record_refusals(uow, OPERATION, results)
    return results


class _Fresh(NamedTuple):
    """A run that this request makes."""

    at: int
    """Its place in the request."""
    run: Run
    idempotency_key: str | None
    digest: bytes


@dataclass
class _Starting:
    """One request's runs, and what it has looked up for them."""

    uow: UnitOfWork
    rules: Rules
    objects: Objects
    fresh: list[_Fresh] = field(default_factory=list)
    _subjects: dict[tuple[Kind, str, str | None, str], Subject | RefusalError] = field(default_factory=dict)

    async def one(self, index: int, asked: Asked) -> BulkResult[Run]:
        """The run, made or found again; or why not. Nothing is written yet."""
        try:
            return BulkResult(index, QUEUED, await self._run(index, *asked))
        except UnavailableError:
            raise
        except RefusalError as refusal:
            return refused(index, refusal)

    async def keep(self, fresh: Sequence[_Fresh]) -> None:
        """Insert these, with their facts."""
        await self.uow.add_all([one.run for one in fresh])
        for one in fresh:
            if one.idempotency_key is not None:
                await remember_run(self.uow, one.idempotency_key, one.digest, one.run.id)
            announce_run(self.uow, one.run)

    async def _run(self, index: int, request: RunRequest, key: str | None) -> Run:
        digest = b"" if key is None else request_digest(asdict(request))
        if key is not None and (earlier := await find_earlier_run(self.uow, key, digest)):
            return await self.uow.get(Run, earlier)
        subject = await self._subject(request)
        run = await prepare_run(self.uow, subject, request, rules=self.rules, objects=self.objects)
        self.fresh.append(_Fresh(index, run, key, digest))
        return run

    async def _subject(self, request: RunRequest) -> Subject:
        asked = request.kind, request.reference, request.workspace, request.semver
        if asked not in self._subjects:
            try:
                found: Subject | RefusalError = await find_subject(
                    self.uow, request.kind, request.reference, workspace=request.workspace, semver=request.semver
                )
            except UnavailableError:
                raise
            except RefusalError as refusal:
                found = refusal
            self._subjects[asked] = found
        known = self._subjects[asked]
        if isinstance(known, RefusalError):
            raise known
        return known

"""When a schedule's runs start: five-field cron expressions in a time zone, as cronsim reads them (Debian's cron).

A local time that a change of clocks skips fires at its end; one that it repeats fires once where the hour is fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from chassis.errors import InvalidError

MAX_TICKS = 100
"""Ticks made up for at once."""
ON_TIME = timedelta(seconds=60)
"""A tick noticed later than that has been missed."""
_FIELDS = 5


class MissedTicks(StrEnum):
    """What becomes of ticks that nobody was there for: none runs, one for all of them, or each (100 at most)."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Clockwork:
    """A cron expression in a time zone."""

    cron: str
    time_zone: str

    def require_valid(self) -> None:
        """InvalidError for what is no expression of five fields, no time zone, or never fires."""
        try:
            zone = ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            detail = f"There is no time zone {self.time_zone!r:.80}: write one such as Europe/Berlin."
            raise InvalidError(detail, code="unknown_time_zone") from None
        try:
            if len(self.cron.split()) != _FIELDS:
                raise CronSimError("Wrong number of fields")
            next(CronSim(self.cron, datetime(2024, 1, 1, tzinfo=zone)))
        except (CronSimError, StopIteration) as error:
            why = str(error) or "it never does"
            detail = f"{self.cron!r:.80} is no cron expression of five fields that ever fires: {why}."
            raise InvalidError(detail, code="invalid_cron") from None

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Every tick after a moment, in UTC, without end."""
        for tick in CronSim(self.cron, moment.astimezone(ZoneInfo(self.time_zone))):
            yield tick.astimezone(UTC)

    def next_after(self, moment: datetime) -> datetime:
        """The first tick after a moment."""
        return next(self.after(moment))

    def between(self, start: datetime, end: datetime) -> list[datetime]:
        """The ticks from `start` to before `end`, one more than `MAX_TICKS` where there are more."""
        found: list[datetime] = []
        for tick in islice(self.after(start - timedelta(seconds=1)), MAX_TICKS + 1):
            if tick >= end:
                break
            found.append(tick)
        return found


def due_ticks(clockwork: Clockwork, due: datetime, now: datetime, missed: MissedTicks) -> list[datetime]:
    """Which ticks get a run now, when the oldest that has had none is `due`; the oldest first, 100 at most."""
    if due > now:
        return []
    ticks = [due, *islice(_until(clockwork, due, now), MAX_TICKS - 1)]
    if missed is MissedTicks.ALL:
        return ticks
    last = _last(clockwork, ticks, now)
    return [last] if missed is MissedTicks.ONE or now - last <= ON_TIME else []


def _until(clockwork: Clockwork, due: datetime, now: datetime) -> Iterator[datetime]:
    for tick in clockwork.after(due):
        if tick > now:
            return
        yield tick


def _last(clockwork: Clockwork, ticks: list[datetime], now: datetime) -> datetime:
    """The last tick that is not in the future, without walking a long past one by one."""
    if len(ticks) < MAX_TICKS:
        return ticks[-1]
    local = now.astimezone(ZoneInfo(clockwork.time_zone)) + timedelta(microseconds=1)
    backwards = CronSim(clockwork.cron, local, reverse=True)
    return next(backwards).astimezone(UTC)

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidError
from execution.domain.schedules import MAX_TICKS, ON_TIME, Clockwork, MissedTicks, due_ticks

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
CRONS = st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "0 9 * * 1-5", "15 3 1 * *"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
MOMENTS = st.integers(0, 6 * 366 * 86_400).map(lambda seconds: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(0, seconds))


@pytest.mark.parametrize(
    ("cron", "zone", "code"),
    [
        ("* * * *", "UTC", "invalid_cron"),
        ("* * * * * *", "UTC", "invalid_cron"),
        ("61 * * * *", "UTC", "invalid_cron"),
        ("0 0 30 2 *", "UTC", "invalid_cron"),
        ("* * * * *", "Europe/Atlantis", "unknown_time_zone"),
        ("* * * * *", "../../etc/passwd", "unknown_time_zone"),
        ("* * * * *", "", "unknown_time_zone"),
    ],
)
def test_what_never_fires_is_refused(cron: str, zone: str, code: str) -> None:
    with pytest.raises(InvalidError) as refused:
        Clockwork(cron, zone).require_valid()
    assert refused.value.code == code


@given(CRONS, ZONES, MOMENTS)
def test_ticks_only_go_forward(cron: str, zone: str, moment: datetime) -> None:
    ticks = list(islice(Clockwork(cron, zone).after(moment), 20))
    assert all(one < other for one, other in zip([moment, *ticks], ticks, strict=False))
    assert all(tick.tzinfo is UTC for tick in ticks)


@given(CRONS, ZONES, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=3)), st.sampled_from(MissedTicks))
def test_what_is_due_are_ticks_that_have_come(
    cron: str, zone: str, moment: datetime, late: timedelta, missed: MissedTicks
) -> None:
    clockwork = Clockwork(cron, zone)
    due = clockwork.next_after(moment)
    now = due + late
    ticks = due_ticks(clockwork, due, now, missed)
    every = [due, *islice((tick for tick in islice(clockwork.after(due), 5_000) if tick <= now), 5_000)]
    if missed is MissedTicks.ALL:
        assert ticks == every[:MAX_TICKS]
    elif missed is MissedTicks.ONE:
        assert ticks == [every[-1]]
    else:
        assert ticks == ([every[-1]] if now - every[-1] <= ON_TIME else [])


@pytest.mark.parametrize("late", [0, 1, 59_999_999])
def test_the_last_tick_of_a_long_past_is_never_one_to_come(late: int) -> None:
    due, now = NOON - timedelta(days=1), NOON + timedelta(microseconds=late)
    assert due_ticks(Clockwork("* * * * *", "UTC"), due, now, MissedTicks.ONE) == [NOON]


def test_nothing_is_due_before_its_time() -> None:
    assert due_ticks(Clockwork("* * * * *", "UTC"), NOON, NOON - timedelta(seconds=1), MissedTicks.ALL) == []


def test_a_changed_clock_neither_loses_nor_doubles_a_daily_tick() -> None:
    berlin = Clockwork("30 2 * * *", "Europe/Berlin")
    spring = list(islice(berlin.after(datetime(2026, 3, 28, 0, tzinfo=UTC)), 3))
    assert [tick.isoformat() for tick in spring] == [
        "2026-03-28T01:30:00+00:00", "2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00",
    ]  # fmt: skip
    autumn = list(islice(berlin.after(datetime(2026, 10, 24, 12, tzinfo=UTC)), 2))
    assert [tick.isoformat() for tick in autumn] == ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"]


def test_a_backfill_has_its_first_tick_and_not_its_last() -> None:
    hourly = Clockwork("0 * * * *", "UTC")
    assert hourly.between(NOON, NOON + timedelta(hours=2)) == [NOON, NOON + timedelta(hours=1)]
    assert len(Clockwork("* * * * *", "UTC").between(NOON, NOON + timedelta(days=9))) == MAX_TICKS + 1

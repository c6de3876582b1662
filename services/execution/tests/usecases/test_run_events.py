from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chassis.ids import new_id
from execution.tables.runs import Run, Step
from execution.usecases.hindrances import Hindrance
from execution.usecases.run_events import ENDED_ID, STARTED_ID, after, events_of

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def step(number: int, *, seconds: float, attempt: int = 1, error: str | None = None) -> Step:
    ended = START + timedelta(seconds=seconds)
    return Step(
        node=f"n{number}", iteration=0, attempt=attempt, step_number=number, status="failed" if error else "completed",
        error_code=error, input_tokens=1, output_tokens=2, cost_usd_micros=3, started_at=START, completed_at=ended,
    )  # fmt: skip


def run(status: str, **fields: str) -> Run:
    return Run(id=new_id(), root_run_id=new_id(), status=status, started_at=START, **fields)


def test_a_running_run_tells_what_has_ended_so_far_in_order() -> None:
    events = list(events_of(run("running"), [step(2, seconds=9), step(1, seconds=3, error="timeout")]))
    assert [event.name for event in events] == ["RUN_STARTED", "STEP_FINISHED", "STEP_FINISHED"]
    assert [event.data.get("stepName") for event in events] == [None, "n1", "n2"]
    assert events[1].data["errorCode"] == "timeout"


def test_no_step_is_told_before_the_start_of_its_run() -> None:
    early = run("queued")
    early.started_at = None
    assert list(events_of(early, [step(1, seconds=3)])) == []


def test_ends_have_names_of_their_own() -> None:
    assert list(events_of(run("completed"), []))[-1].name == "RUN_FINISHED"
    failed = list(events_of(run("failed", error_code="max_cost", error_message="too dear"), []))[-1]
    assert (failed.name, failed.data["code"], failed.data["message"]) == ("RUN_ERROR", "max_cost", "too dear")
    assert list(events_of(run("cancelled", stop_reason="cancelled"), []))[-1].data["code"] == "cancelled"


def test_a_run_that_waits_says_for_what_and_goes_on() -> None:
    undecided = step(2, seconds=9)
    undecided.id, undecided.status, undecided.completed_at = new_id(), "needs_decision", None
    waiting = run("waiting", waiting_for="decision")
    waiting.waiting_since = START + timedelta(seconds=10)
    told = list(events_of(waiting, [step(1, seconds=3), undecided]))[-1]
    assert (told.name, told.data["name"]) == ("CUSTOM", "RUN_WAITING")
    assert told.data["value"]["waitingFor"] == "decision"
    assert told.data["value"]["steps"] == [
        {"stepId": str(undecided.id), "stepName": "n2", "iteration": 0, "waitsFor": "decision"}
    ]
    assert not after(told, told.id)


def test_a_queued_run_says_once_for_each_cause_what_it_waits_for() -> None:
    queued = run("queued")
    queued.updated_at = START
    causes = [Hindrance("concurrency", limit=1, under_way=1), Hindrance("workspace limit", limit=2, under_way=2)]
    told = [list(events_of(queued, [], cause))[-1] for cause in causes]
    assert [event.data["name"] for event in told] == ["RUN_QUEUED"] * 2
    assert told[0].data["value"] == {"runId": str(queued.id), "reason": "concurrency", "limit": 1, "under_way": 1}
    assert len({event.id for event in told}) == 2
    assert told[0].id == list(events_of(queued, [], causes[0]._replace(under_way=0)))[-1].id
    for cause in ("turn", "worker"):  # every run waits for these a moment
        assert "RUN_QUEUED" not in str(list(events_of(queued, [], Hindrance(cause))))


def test_who_comes_back_is_told_the_rest_and_a_little_before() -> None:
    steps = [step(1, seconds=1), step(2, seconds=20), step(3, seconds=22), step(4, seconds=40)]
    events = list(events_of(run("completed"), steps))
    last = events[3].id
    assert [event.data.get("stepName") for event in events if after(event, last)] == ["n2", "n4", None]
    assert all(after(event, "") for event in events)
    assert not any(after(event, ENDED_ID) for event in events)
    assert [event.id for event in events if after(event, STARTED_ID)] == [event.id for event in events[1:]]
    assert len([event for event in events if after(event, "what is this")]) == 5

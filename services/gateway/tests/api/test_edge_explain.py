from __future__ import annotations

from typing import Any

import pytest
from services.gateway.tests.factories import EdgeStage, Played

pytestmark = pytest.mark.anyio

STEPS = [{"id": "s1", "completed_at": "2026-11-22T00:00:00Z"}, {"id": "s2", "completed_at": "2026-11-22T00:00:01Z"}]
ACCOUNT = {
    "run": {"id": "r", "status": "completed"}, "trigger": {"type": "api"}, "caller": {"id": "u"},
    "decision": {"rule_name": "matrix"}, "version": {"semver": "1.0.0"}, "steps": STEPS,
    "children": [{"id": "c"}], "costs": [{"provider": "p"}], "trace_id": "t",
}  # fmt: skip
BOOKED = {"items": [{"id": "s1", "cost_usd_micros": 1}, {"id": "s2", "cost_usd_micros": 2}], "next_cursor": None}
ENTRIES = {"items": [{"event_type": "execution.run.queued.v1"}, {"event_type": "execution.run.completed.v1"}]}


ASKED = {"items": [{"id": "s1", "status": "approved"}], "next_cursor": None}


def _play(
    stage: EdgeStage,
    account: Any = (200, ACCOUNT),
    usage: Any = (200, BOOKED),
    entries: Any = (200, ENTRIES),
    approvals: Any = (200, ASKED),
) -> dict[str, Played]:
    played = {
        "execution": Played({"/v1/runs/r/explain": account}),
        "policy": Played({"/v1/approvals": approvals}),
        "billing": Played({"/v1/usage-events": usage}),
        "audit": Played({"/v1/audit-entries": entries}),
    }
    stage.play(**played)
    return played


async def test_the_parts_of_four_services_are_one_answer(stage: EdgeStage) -> None:
    played = _play(stage)
    holder = await stage.holder()
    answer = await stage.get(holder.key, "/v1/runs/r/explain")
    assert answer.json() == {
        **ACCOUNT, "costs": BOOKED["items"], "audit_entries": ENTRIES["items"], "approvals": ASKED["items"],
        "pending": [], "withheld": [],
    }  # fmt: skip
    assert "run_id=r" in played["billing"].asked[0]["query"]
    for service, each in played.items():
        asked = each.asked[0]["headers"]
        assert stage.caller_of(asked, service).organization_id == holder.organization_id
        assert asked["traceparent"] == played["execution"].asked[0]["headers"]["traceparent"]


@pytest.mark.parametrize(
    ("usage", "entries", "pending"),
    [
        ((200, {"items": BOOKED["items"][:1]}), (200, ENTRIES), ["costs"]),
        ((200, BOOKED), (200, {"items": ENTRIES["items"][:1]}), ["audit_entries"]),
        ((200, BOOKED), (200, {"items": []}), ["audit_entries"]),
        ((503, {}), (500, {}), ["costs", "audit_entries"]),
    ],
)
async def test_what_is_not_whole_yet_is_null_and_pending(
    stage: EdgeStage, usage: Any, entries: Any, pending: list[str]
) -> None:
    _play(stage, usage=usage, entries=entries)
    holder = await stage.holder()
    explanation = (await stage.get(holder.key, "/v1/runs/r/explain")).json()
    assert explanation["pending"] == pending
    assert [name for name in ("costs", "audit_entries") if explanation[name] is None] == pending
    assert explanation["steps"] == STEPS
    assert explanation["children"] == [{"id": "c"}]


async def test_an_approval_that_policy_has_not_heard_of_yet_is_pending(stage: EdgeStage) -> None:
    account = ACCOUNT | {"steps": [*STEPS, {"id": "s9", "kind": "approval", "completed_at": None}]}
    _play(stage, account=(200, account))
    holder = await stage.holder()
    explanation = (await stage.get(holder.key, "/v1/runs/r/explain")).json()
    assert (explanation["approvals"], explanation["pending"]) == (None, ["approvals"])


async def test_a_run_that_goes_on_is_explained_so_far(stage: EdgeStage) -> None:
    account = ACCOUNT | {
        "run": {"id": "r", "status": "running"},
        "steps": [STEPS[0], {"id": "s3", "completed_at": None}],
    }
    _play(stage, account=(200, account), entries=(200, {"items": ENTRIES["items"][:1]}))
    holder = await stage.holder()
    assert (await stage.get(holder.key, "/v1/runs/r/explain")).json()["pending"] == []


async def test_what_the_caller_may_not_see_is_withheld(stage: EdgeStage) -> None:
    _play(stage, entries=(403, {"code": "missing_permission"}))
    holder = await stage.holder("viewer")
    explanation = (await stage.get(holder.key, "/v1/runs/r/explain")).json()
    assert (explanation["audit_entries"], explanation["withheld"], explanation["pending"]) == (
        None, ["audit_entries"], [],
    )  # fmt: skip


async def test_pages_are_followed(stage: EdgeStage) -> None:
    class Pages(Played):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            is_second = b"cursor=next" in scope["query_string"]
            self.answers["/v1/usage-events"] = (
                200, {"items": BOOKED["items"][1:], "next_cursor": None} if is_second
                else {"items": BOOKED["items"][:1], "next_cursor": "next"},
            )  # fmt: skip
            await super().__call__(scope, receive, send)

    stage.play(**{**_play(stage), "billing": Pages()})
    holder = await stage.holder()
    assert (await stage.get(holder.key, "/v1/runs/r/explain")).json()["costs"] == BOOKED["items"]


async def test_executions_refusal_stays_what_it_is(stage: EdgeStage) -> None:
    refusal = {"code": "not_found", "status": 404}
    _play(stage, account=(404, refusal))
    holder = await stage.holder()
    answer = await stage.get(holder.key, "/v1/runs/r/explain")
    assert (answer.status, answer.json()) == (404, refusal)


async def test_a_part_whose_service_is_down_is_pending(stage: EdgeStage) -> None:
    async def down(*_: object) -> None:
        raise RuntimeError("not started")

    stage.play(**{**_play(stage), "audit": down})
    holder = await stage.holder()
    assert (await stage.get(holder.key, "/v1/runs/r/explain")).json()["pending"] == ["audit_entries"]

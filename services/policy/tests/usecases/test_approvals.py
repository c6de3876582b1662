from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from services.policy.tests.stage import Stage

from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.ids import new_id
from contracts.execution import RunCancelled, RunEnded, RunFailed, RunTimedOut
from policy.jobs.approvals import expire_approvals

pytestmark = pytest.mark.anyio


async def decide(stage: Stage, caller: Caller, approval_id: UUID, outcome: str = "approved", **more: Any) -> Any:
    return await stage.client(caller).post(f"/v1/approvals/{approval_id}/decide", {"outcome": outcome, **more})


async def member(stage: Stage, owner: Caller, role: str) -> Caller:
    return await stage.caller(organization_id=owner.organization_id, role=role)


async def test_what_a_run_asks_is_asked_once_and_shown(stage: Stage, owner: Caller) -> None:
    approval_id, run_id = new_id(), new_id()
    for _ in range(2):
        await stage.ask(owner.organization_id, approval_id=approval_id, run_id=run_id, approvers=["role:operator"])
    listed = (await stage.client(owner).get("/v1/approvals", query={"status": "pending"})).json()["items"]
    assert [(each["id"], each["run_id"], each["context"]) for each in listed] == [
        (str(approval_id), str(run_id), {"amount": 7})
    ]
    assert await stage.types(owner.organization_id) == ["approval.requested.v1"]


async def test_one_other_person_decides_once(stage: Stage, owner: Caller) -> None:
    approval_id = await stage.ask(owner.organization_id)
    admin = await member(stage, owner, "org_admin")
    answer = await decide(stage, owner, approval_id, reason="fine", digest="a" * 64)
    assert answer.status == 200
    shown = answer.json()
    assert (shown["status"], shown["approver_id"], shown["reason"]) == ("approved", owner.owner_id, "fine")
    assert shown["approved_at"] == shown["decided_at"] is not None
    assert (await decide(stage, owner, approval_id)).json() == shown
    for caller, outcome in ((owner, "rejected"), (admin, "approved")):
        refused = await decide(stage, caller, approval_id, outcome)
        assert (refused.status, refused.json()["code"]) == (409, "already_decided")
    facts = await stage.facts(organization_id=owner.organization_id)
    assert [fact.type for fact in facts[:2]] == ["policy.approval.requested.v1", "policy.approval.decided.v1"]
    assert facts[1].data["outcome"] == "approved"
    assert [fact.type for fact in facts[2:]] == ["policy.request.refused.v1"] * 2


async def test_whoever_asks_a_key_and_whoever_is_not_named_do_not_decide(stage: Stage, owner: Caller) -> None:
    mine = await stage.ask(owner.organization_id, requester_id=owner.id, owner_id=owner.owner_id)
    refused = await decide(stage, owner, mine)
    assert (refused.status, refused.json()["code"]) == (403, "own_request")
    named = await stage.ask(owner.organization_id, approvers=["role:operator"])
    refused = await decide(stage, owner, named)
    assert (refused.status, refused.json()["code"]) == (403, "not_an_approver")
    operator, developer = await member(stage, owner, "operator"), await member(stage, owner, "developer")
    assert (await decide(stage, developer, named)).status == 404
    assert (await decide(stage, operator, mine)).status == 404  # decides only where it is named
    mismatch = await decide(stage, operator, named, digest="b" * 64)
    assert (mismatch.status, mismatch.json()["code"]) == (409, "digest_mismatch")
    assert (await decide(stage, operator, named, "rejected")).json()["status"] == "rejected"


async def test_a_key_of_a_person_decides_as_that_person_and_a_key_of_the_organization_never(
    stage: Stage, owner: Caller
) -> None:
    mine = await stage.ask(owner.organization_id, owner_id=owner.owner_id)
    other = await stage.ask(owner.organization_id)
    key = replace(owner, kind="api_key", id=str(new_id()), scopes=frozenset(("approval:*",)))
    assert (await decide(stage, key, mine)).json()["code"] == "own_request"
    unowned = replace(key, user_id=None, id=str(new_id()))
    refused = await decide(stage, unowned, other)
    assert (refused.status, refused.json()["code"]) == (403, "not_a_person"), refused.body
    assert (await decide(stage, key, other)).json()["approver_id"] == owner.owner_id


async def test_a_developer_sees_its_own_and_decides_where_it_is_named(stage: Stage, owner: Caller) -> None:
    developer = await member(stage, owner, "developer")
    own = await stage.ask(owner.organization_id, owner_id=developer.owner_id)
    other = await stage.ask(owner.organization_id)
    named = await stage.ask(owner.organization_id, approvers=[f"user:{developer.owner_id}"])
    client = stage.client(developer)
    assert [each["id"] for each in (await client.get("/v1/approvals")).json()["items"]] == [str(named), str(own)]
    assert (await client.get(f"/v1/approvals/{other}")).status == 404
    assert (await client.get(f"/v1/approvals/{named}")).status == 200
    assert (await decide(stage, developer, named)).status == 200


async def test_whoever_may_decide_finds_it_page_by_page_and_nobody_else_hears_of_it(
    stage: Stage, owner: Caller
) -> None:
    developer = await member(stage, owner, "developer")
    named: list[UUID] = []
    for number in range(12):
        approvers = (["role:developer"], ["role:operator", f"user:{developer.owner_id}"], ["role:operator"], [])[
            number % 4
        ]
        asked = await stage.ask(owner.organization_id, approvers=approvers)
        named += [asked] if number % 4 < 2 else []
    client, pages, cursor = stage.client(developer), [], None
    for _ in range(3):
        query = {"limit": 2, "status": "pending"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/approvals", query=query)).json()
        pages.append([item["id"] for item in page["items"]])
        cursor = page["next_cursor"]
    assert (pages, cursor) == ([[str(named[n]), str(named[n - 1])] for n in (5, 3, 1)], None)
    assert (await client.get("/v1/approvals/count")).json() == {"count": 6}
    other = await member(stage, owner, "developer")
    assert (await stage.client(other).get("/v1/approvals/count")).json() == {"count": 3}
    assert (await stage.client(other).get(f"/v1/approvals/{named[1]}")).status == 404
    key = replace(other, kind="api_key", id=str(new_id()))
    assert (await stage.client(key).get("/v1/approvals/count")).json() == {"count": 3}


async def test_a_name_shows_nothing_to_whoever_never_decides(stage: Stage, owner: Caller) -> None:
    viewer = await member(stage, owner, "viewer")
    unowned = replace(await member(stage, owner, "developer"), kind="api_key", user_id=None, id=str(new_id()))
    approvers = ["role:viewer", f"user:{viewer.owner_id}", "role:developer", f"user:{unowned.id}"]
    asked = await stage.ask(owner.organization_id, approvers=approvers)
    for caller in (viewer, unowned, await stage.caller("developer")):
        client = stage.client(caller)
        assert (await client.get("/v1/approvals")).json()["items"] == []
        assert (await client.get(f"/v1/approvals/{asked}")).status == 404
        assert (await client.post(f"/v1/approvals/{asked}/decide", {"outcome": "approved"})).status in (403, 404)


async def test_what_nobody_decides_in_time_expires_once(stage: Stage, owner: Caller) -> None:
    late = await stage.ask(owner.organization_id, expires_at=utc_now() - timedelta(seconds=1))
    early = await stage.ask(owner.organization_id)
    refused = await decide(stage, owner, late)
    assert (refused.status, refused.json()["code"]) == (409, "approval_expired")
    for _ in range(2):
        await expire_approvals.run(stage.running)
    rows = await stage.database.sql("select id, status from approval_request where id = any($1)", [late, early])
    assert dict(map(tuple, rows)) == {late: "expired", early: "pending"}
    assert (await stage.types(owner.organization_id)).count("approval.expired.v1") == 1


@pytest.mark.parametrize(
    ("said", "most", "minutes"),
    [
        ({"expires_in_seconds": 7200}, None, 120),
        ({"expires_in_seconds": 7200}, "30m", 30),
        ({"expires_in_seconds": 600}, "30m", 10),
        ({}, None, 60),
        ({}, "30m", 30),
        ({}, "7d", 60),
    ],
)
async def test_an_approval_waits_by_this_clock_and_at_most_as_long_as_the_organization_says(
    stage: Stage, owner: Caller, said: dict[str, float], most: str | None, minutes: int
) -> None:
    if most is not None:
        text = f"apiVersion: policy/v1\ntype: abac\napprovals: {{expires_in: {most}}}\n"
        await stage.policy(owner, rules_yaml=text)
    elsewhere = utc_now() + timedelta(hours=1)
    asked = await stage.ask(owner.organization_id, expires_at=elsewhere, **said)
    shown = (await stage.client(owner).get(f"/v1/approvals/{asked}")).json()
    left = datetime.fromisoformat(shown["expires_at"]) - utc_now()
    assert abs(left - timedelta(minutes=minutes)) < timedelta(seconds=20)
    fact = (await stage.facts(organization_id=owner.organization_id))[-1]
    assert datetime.fromisoformat(fact.data["expires_at"]) == datetime.fromisoformat(shown["expires_at"])


async def test_a_run_that_ends_takes_its_questions_back(stage: Stage, owner: Caller) -> None:
    run_id, other_run = new_id(), new_id()
    pending = await stage.ask(owner.organization_id, run_id=run_id)
    decided = await stage.ask(owner.organization_id, run_id=run_id)
    kept = await stage.ask(owner.organization_id, run_id=other_run)
    await decide(stage, owner, decided)
    for _ in range(2):
        await stage.end(owner.organization_id, run_id, new_id())
    rows = await stage.database.sql(
        "select id, status from approval_request where organization_id = $1", owner.organization_id
    )
    assert dict(map(tuple, rows)) == {pending: "withdrawn", decided: "approved", kept: "pending"}
    assert (await stage.types(owner.organization_id)).count("approval.withdrawn.v1") == 1


@pytest.mark.parametrize(
    ("how", "why", "said"),
    [
        (RunFailed, "run_failed", "the run has failed"),
        (RunCancelled, "run_cancelled", "the run was cancelled"),
        (RunTimedOut, "run_timed_out", "the run's time was up"),
        (None, "step_skipped", "the run goes on without this step"),
    ],
)
async def test_whoever_decides_too_late_is_told_why_nobody_asks_any_more(
    stage: Stage, owner: Caller, how: type[RunEnded] | None, why: str, said: str
) -> None:
    run_id = new_id()
    asked = await stage.ask(owner.organization_id, run_id=run_id)
    await (
        stage.end(owner.organization_id, run_id, how=how) if how else stage.skip(owner.organization_id, run_id, asked)
    )
    (fact,) = [f for f in await stage.facts(organization_id=owner.organization_id) if f.type.endswith("withdrawn.v1")]
    assert (fact.data["approval_id"], fact.data["reason"]) == (str(asked), why)
    for outcome in ("approved", "rejected"):
        refused = await decide(stage, owner, asked, outcome)
        assert (refused.status, refused.json()["code"]) == (409, "approval_withdrawn")
        assert said in refused.json()["detail"]
    shown = (await stage.client(owner).get(f"/v1/approvals/{asked}")).json()
    assert (shown["status"], shown["reason"], shown["decided_at"]) == ("withdrawn", why, None)


async def test_a_skipped_step_takes_back_only_its_own_question(stage: Stage, owner: Caller) -> None:
    run_id = new_id()
    skipped, kept, decided = [await stage.ask(owner.organization_id, run_id=run_id) for _ in range(3)]
    await decide(stage, owner, decided)
    for _ in range(2):
        await stage.skip(owner.organization_id, run_id, skipped, decided)
    rows = await stage.database.sql("select id, status from approval_request where run_id = $1", run_id)
    assert dict(map(tuple, rows)) == {skipped: "withdrawn", kept: "pending", decided: "approved"}
    assert (await stage.types(owner.organization_id)).count("approval.withdrawn.v1") == 1
    await stage.ask(owner.organization_id, run_id=run_id, approval_id=skipped)  # the question comes again in a replay
    assert (await stage.client(owner).get(f"/v1/approvals/{skipped}")).json()["status"] == "withdrawn"

"""What has to hold when all is over; each check gives its findings, none when all is well."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
from tests.agents.logging_agent import Call
from tests.chaos.platform import Platform
from tests.chaos.scenario import PlannedRun
from tests.chaos.traffic import Organization, Traffic

from contracts.catalog import SERVICES

MAX_SHOWN = 5
RUNS = """select id::text, organization_id::text, status, output, error_code, stop_reason, cost_usd_micros from run
where parent_run_id is null"""
CHILDREN = """select s.run_id::text, s.node, s.iteration, s.status, count(c.id) as children,
  count(*) filter (where c.status = 'completed' and c.output = s.output) as told
from step s left join run c on c.parent_run_id = s.run_id and c.parent_step_id = s.id
where s.kind = 'subrun' group by s.run_id, s.node, s.iteration, s.status"""
STEPS = """select run_id::text, node, iteration, attempt, kind, status, effects, error_code, model_name, updated_at
from step where kind in ('agent', 'tool')"""
UNMADE = {("agent", "decided_retry"), ("tool", "decided_retry"), ("tool", "worker_lost")}
"""Attempts that may have ended without their call: a person saw that it was never made; or their worker was lost with
the tool's session open, in which no call had been made."""
FACTS = "select epoch, sequence, id from fact_log order by sequence"
ENTRIES = "select producer, epoch, sequence, id from entry order by producer, sequence, id"
LEAVES = """select organization_id, count(*) as entries, count(distinct leaf_index) as leaves, max(leaf_index) as last,
(select size from tree_head h where h.organization_id = e.organization_id) as size from entry e group by 1"""
BOOKED = "select organization_id::text, count(*) as steps, sum(cost_usd_micros) as cost from usage_event group by 1"
BY_DAY = "select organization_id::text, sum(steps) as steps, sum(cost_usd_micros) as cost from usage_day group by 1"
SPENT = """select organization_id::text, count(*) as steps, sum(cost_usd_micros) as cost from step
where status <> 'skipped' group by 1"""
BY_RUN = "select organization_id::text, sum(step_count) as steps, sum(cost_usd_micros) as cost from run group by 1"
PARKED = "select count(*) from parked_fact where resolved_at is null"

HANDED_ON = "select count(*) from run where token > 1"
LOST_CALLS = "select count(*) from step where error_code = 'worker_lost'"


async def check_runs(
    platform: Platform, organizations: Sequence[Organization], planned: Iterable[PlannedRun]
) -> list[str]:
    """Every run that was asked for is there once, and ended as the interpreter says."""
    rows = {row["id"]: row for row in await platform.query("execution", RUNS)}
    found, wanted = [], {}
    for run in planned:
        organization = organizations[run.organization]
        run_id = organization.accepted[run.key]
        wanted[run_id] = run
        row = rows.get(run_id)
        if row is None or row["organization_id"] != organization.id:
            found.append(f"run {run_id} was accepted and is not there")
            continue
        output = orjson.loads(row["output"]) if row["output"] is not None else None
        is_now = (row["status"], output, row["error_code"])
        should = (run.expected.status.value, run.expected.output, run.expected.error_code)
        if is_now != should:
            found.append(f"run {run_id} of {run.subject} ended with {is_now}, not {should}")
    return found + [f"run {run_id} was started twice or by nobody" for run_id in rows.keys() - wanted.keys()]


async def check_children(platform: Platform) -> list[str]:
    """Every step that is a child run has one, and completed with what that gave."""
    found = []
    for row in await platform.query("execution", CHILDREN):
        name = f"{row['run_id']}:{row['node']}:{row['iteration']}"
        if row["children"] != 1:
            found.append(f"step {name} has {row['children']} child runs")
        elif (row["status"] == "completed") != (row["told"] == 1):
            found.append(f"step {name} is {row['status']}, which its child run does not say")
    return found


async def check_calls(platform: Platform, calls: Sequence[Call]) -> list[str]:
    """No call arrived for a step that was committed, none is missing, and no write was called for twice.

    Committed means: when the transaction began that stored the step's last attempt.
    """
    ended: dict[str, datetime] = {}
    attempts: Counter[str] = Counter()
    writes: set[str] = set()
    for row in await platform.query("execution", STEPS):
        if row["model_name"] or row["status"] not in ("completed", "failed"):
            continue
        key = f"{row['run_id']}:{row['node']}:{row['iteration']}"
        attempts[key] += (row["kind"], row["error_code"]) not in UNMADE
        ended[key] = max(row["updated_at"], ended.get(key, row["updated_at"]))
        if row["effects"] == "write":
            writes.add(key)
    found = [
        f"call {call.key} came {call.at - ended[call.key].timestamp():.3f} s after its step was stored"
        for call in calls
        if call.key in ended and call.at > ended[call.key].timestamp()
    ]
    asked = Counter(call.key for call in calls)
    found += [f"write {key} was done {asked[key]} times" for key in writes if asked[key] > 1]
    found += [f"call {key} has no step" for key in asked.keys() - ended.keys()]
    return found + [f"step {key} ended without its calls" for key, most in attempts.items() if asked[key] < most]


async def check_facts(platform: Platform) -> tuple[list[str], int]:
    """Every producer's numbers have no hole, and audit holds each fact once; also how many there are."""
    entries: dict[str, list[tuple[int, int, Any]]] = defaultdict(list)
    for row in await platform.query("audit", ENTRIES):
        entries[row["producer"]].append((row["epoch"], row["sequence"], row["id"]))
    found, total = [], 0
    for service in SERVICES:
        facts = [tuple(row) for row in await platform.query(service, FACTS)]
        total += len(facts)
        numbers = [sequence for _, sequence, _ in facts]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(f"{service}: the numbers of {len(numbers)} facts have holes or doubles")
        stored = Counter(entries.pop(service, []))
        found += [f"{service}: fact {fact} is not in audit" for fact in facts if fact not in stored]
        found += [f"{service}: fact {fact} is {count} times in audit" for fact, count in stored.items() if count > 1]
        found += [f"{service}: entry {entry} was never a fact" for entry in stored.keys() - set(facts)]
        parked = (await platform.query(service, PARKED))[0][0]
        found += [f"{service}: {parked} facts parked"] if parked else []
    found += [f"entries of {producer!r}, which is no service" for producer in entries]
    for row in await platform.query("audit", LEAVES):
        if not row["entries"] == row["leaves"] == row["last"] + 1 == row["size"]:
            found.append(f"leaves of an organization: {dict(row)}")
    return found, total


async def check_money(
    platform: Platform, traffic: Traffic, organizations: Sequence[Organization]
) -> tuple[list[str], int]:
    """Billing's sums are the steps' sums, to the micro-USD; also how much it was."""
    spent = await _sums(platform, "execution", SPENT)
    others = {
        "runs": await _sums(platform, "execution", BY_RUN),
        "billing's ledger": await _sums(platform, "billing", BOOKED),
        "billing's days": await _sums(platform, "billing", BY_DAY),
    }
    found = [f"{name} say {sums}, the steps say {spent}" for name, sums in others.items() if sums != spent]
    for organization in organizations:
        cost = spent.get(organization.id, (0, 0))[1]
        told = (await traffic.send("GET", "/v1/usage?group_by=agent", organization.key))["total_cost_usd_micros"]
        if told != cost or not cost:
            found.append(f"organization {organization.id} is told {told}, its steps say {cost}")
    return found, sum(cost for _, cost in spent.values())


async def _sums(platform: Platform, service: str, statement: str) -> dict[str, tuple[int, int]]:
    return {row[0]: (int(row["steps"]), int(row["cost"])) for row in await platform.query(service, statement)}


def shown(findings: Sequence[str]) -> str:
    """The first few, and how many there are."""
    rest = f"\n  ... and {len(findings) - MAX_SHOWN} more" if len(findings) > MAX_SHOWN else ""
    return "".join(f"\n  {finding}" for finding in findings[:MAX_SHOWN]) + rest

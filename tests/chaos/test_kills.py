"""Faults of every kind in the middle of the work of two organizations, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.agents.logging_agent import logging_agent, read_calls
from tests.chaos import checks, victims
from tests.chaos.drain import drained
from tests.chaos.people import People
from tests.chaos.platform import Platform, running_platform
from tests.chaos.scenario import DETACH_SECONDS, SLOWLY, PlannedRun, planned_runs
from tests.chaos.traffic import Organization, Traffic

LATENCY_MS = 150
PACE_SECONDS = 0.06
"""Between two requests for a run; two organizations take turns, so this stays below the rate of one key."""
LONGEST_SECONDS = 6 * 3600


def say(text: str) -> None:
    print(text, flush=True)


@pytest.mark.chaos
@pytest.mark.anyio
@pytest.mark.seconds(LONGEST_SECONDS)
async def test_nothing_is_lost_or_doubled(faults: int, seed: int, runs: int, tmp_path: Path) -> None:
    chance, log = random.Random(seed), tmp_path / "calls.jsonl"
    plan, planned = victims.plan(faults, chance), planned_runs(runs, chance)
    say(f"\nseed {seed}: ./dev chaos --faults {faults} --seed {seed} --runs {runs}")
    began = time.monotonic()
    async with logging_agent(log, latency_ms=LATENCY_MS, script=SLOWLY) as agent_url:
        told = {
            "REMIT_EXECUTION_OUTBOUND_ALLOW": urlsplit(agent_url).netloc,
            "REMIT_EXECUTION_EMBEDDED_MODEL_URL": f"{agent_url}v1",
            "REMIT_EXECUTION_DETACH_SECONDS": str(DETACH_SECONDS),
        }
        async with running_platform(told) as platform, aiohttp.ClientSession() as session:
            say(f"{time.monotonic() - began:6.1f} s  the platform is ready")
            traffic = Traffic(session, platform.edge)
            key = platform.operator_key
            organizations = [await traffic.organization(key, slug, agent_url) for slug in ("first", "second")]
            people = asyncio.create_task(People(platform, traffic, organizations, log).answer_forever())
            people.add_done_callback(_tell_of_people)
            try:
                healed = await _storm(platform, traffic, organizations, plan, planned)
                say(f"{time.monotonic() - began:6.1f} s  all runs accepted; again because of {dict(traffic.repeated)}")
                seconds = await drained(platform, runs)
            finally:
                people.cancel()
            say(f"{time.monotonic() - began:6.1f} s  drained in {seconds:.1f} s")
            await _judge(platform, traffic, organizations, planned, log)
            victims.report(healed, say)
    say(f"{time.monotonic() - began:6.1f} s  done")


def _tell_of_people(people: asyncio.Task[None]) -> None:
    """Nobody answers any more once they have met what they should not, and then runs wait for ever."""
    if not people.cancelled() and (error := people.exception()) is not None:
        say(f"the people are gone: {error!r}")


async def _storm(
    platform: Platform,
    traffic: Traffic,
    organizations: list[Organization],
    plan: list[victims.Fault],
    planned: list[PlannedRun],
) -> list[victims.Healed]:
    """Start some runs before every kill, so that there is work under way whenever something dies."""
    healed, share = [], -(-len(planned) // max(1, len(plan)))
    async with asyncio.TaskGroup() as tasks:
        for number, fault in enumerate(plan):
            some = planned[number * share : (number + 1) * share]
            tasks.create_task(traffic.start_runs(organizations, some, PACE_SECONDS))
            await asyncio.sleep(fault.after_seconds)
            healed.append(await victims.strike(platform, fault))
            done = f"{fault.how} {fault.kind} ({fault.target})"
            say(f"{number + 1:>14}. {done}: healed in {healed[-1].seconds:.1f} s")
        tasks.create_task(traffic.start_runs(organizations, planned[len(plan) * share :], PACE_SECONDS))
    return healed


async def _judge(
    platform: Platform, traffic: Traffic, organizations: list[Organization], planned: list[PlannedRun], log: Path
) -> None:
    calls = read_calls(log)
    runs = await checks.check_runs(platform, organizations, planned)
    children = await checks.check_children(platform)
    repeated = await checks.check_calls(platform, calls)
    facts, total = await checks.check_facts(platform)
    money, cost = await checks.check_money(platform, traffic, organizations)
    handed_on = (await platform.query("execution", checks.HANDED_ON))[0][0]
    lost = (await platform.query("execution", checks.LOST_CALLS))[0][0]
    ends = Counter(run.expected.status.value for run in planned)
    say(f"{len(planned)} runs {dict(ends)}, {handed_on} of them in more than one worker's hands")
    again = len(calls) - len({call.key for call in calls})
    say(f"{len(calls)} calls of http agents, {again} of them repeated before their step was stored")
    say(f"{lost} calls that went on without their run lost their worker")
    say(f"{total} facts, {cost} micro-USD")
    findings = {"runs": runs, "children": children, "calls": repeated, "facts": facts, "money": money}
    assert not any(findings.values()), "".join(
        f"\n{name}:{checks.shown(them)}" for name, them in findings.items() if them
    )

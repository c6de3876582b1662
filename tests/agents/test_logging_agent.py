from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.agents.logging_agent import Script, answer, logging_agent, read_calls

from chassis.ids import new_id
from chassis.outbound import OutboundClient
from execution.clients.agents import AgentCall, AgentError
from execution.clients.http_agent import HttpRunner
from execution.domain.definitions import agent_of


@pytest.fixture
async def runner(anyio_backend: object) -> AsyncIterator[HttpRunner]:
    client = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    yield HttpRunner(client)
    await client.close()


def call(url: str, step: str, value: Any, attempt: int = 1, **changes: Any) -> AgentCall:
    spec = agent_of({"apiVersion": "agent/v1", "kind": "http", "http": {"url": url}})
    settled: dict[str, Any] = {"organization_id": new_id(), "run_id": new_id(), "deadline_seconds": 5.0}
    return AgentCall(
        **settled | changes, node=step, iteration=0, attempt=attempt, spec=spec, input=value, max_output_tokens=1
    )


@pytest.mark.anyio
async def test_each_call_is_in_the_log_and_the_answer_depends_on_the_input_alone(
    tmp_path: Path, runner: HttpRunner
) -> None:
    log = tmp_path / "calls.jsonl"
    async with logging_agent(log) as url:
        calls = [call(url, "draft", {"n": number % 5, "b": 1}) for number in range(50)]
        results = await asyncio.gather(*(runner.run(each) for each in calls))
    assert [each.output for each in results] == [answer("draft", each.input)["output"] for each in calls]
    assert len({each.output["text"] for each in results}) == 5
    written = read_calls(log)
    assert {each.key for each in written} == {each.idempotency_key for each in calls}
    assert len(written) == 50
    assert [each.at for each in written] == sorted(each.at for each in written)


@pytest.mark.anyio
async def test_failures_and_delays_follow_the_script(tmp_path: Path, runner: HttpRunner) -> None:
    log = tmp_path / "calls.jsonl"
    script: Script = {"draft": [{"status": 503}], "edit": [{"hang": True}]}
    async with logging_agent(log, script=script) as url:
        run_id = new_id()
        with pytest.raises(AgentError) as failed:
            await runner.run(call(url, "draft", 1, run_id=run_id))
        assert failed.value.code == "unavailable"
        assert (await runner.run(call(url, "draft", 1, attempt=2, run_id=run_id))).output["step"] == "draft"
        with pytest.raises(AgentError) as failed:
            await runner.run(call(url, "edit", 1, deadline_seconds=0.3))
        assert failed.value.code == "timeout"
        async with aiohttp.ClientSession() as session, session.post(f"{url}script", json={"*": [{"status": 500}]}):
            pass
        for _ in range(2):
            with pytest.raises(AgentError):
                await runner.run(call(url, "other", 1))
    keys = [each.key for each in read_calls(log)]
    assert keys[:2] == [f"{run_id}:draft:0"] * 2
    assert [each.attempt for each in read_calls(log)][:2] == [1, 2]
    assert len(keys) == 5

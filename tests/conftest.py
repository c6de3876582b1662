"""One platform for all tests that go through the edge: started when the first asks for it, in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.agents.logging_agent import logging_agent
from tests.chaos.platform import running_platform
from tests.chaos.traffic import Traffic
from tests.receiver import TraceReceiver
from tests.town import Town

from remit_local.loopback import free_port

UNLIMITED = str(1_000_000)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever needs the platform runs beside it, in one worker."""
    for item in items:
        if "town" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("platform"))


@pytest.fixture(scope="session")
def receiver() -> Iterator[TraceReceiver]:
    with TraceReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
async def town(receiver: TraceReceiver, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """Six services, their servers, an agent, and two organizations. Only traces that a caller samples are recorded."""
    log: Path = tmp_path_factory.mktemp("agent") / "calls.jsonl"
    execution_port = free_port()
    async with AsyncExitStack() as stack:
        agent_url = await stack.enter_async_context(logging_agent(log))
        told = {
            "REMIT_EXECUTION_OUTBOUND_ALLOW": urlsplit(agent_url).netloc,
            "REMIT_EXECUTION_EMBEDDED_MODEL_URL": f"{agent_url}v1",
            "REMIT_GATEWAY_KEY_RATE_PER_SECOND": UNLIMITED,
            "REMIT_GATEWAY_ORGANIZATION_RATE_PER_SECOND": UNLIMITED,
            "REMIT_OTLP_ENDPOINT": receiver.url,
            "REMIT_TRACE_SAMPLE_RATIO": "0",
            "REMIT_EXECUTION_PORT": str(execution_port),
        }
        platform = await stack.enter_async_context(running_platform(told, processes=False))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        traffic = Traffic(session, platform.edge)
        made = [await traffic.organization(platform.operator_key, slug, agent_url) for slug in ("northern", "southern")]
        yield Town(platform, traffic, made[0], made[1], told, execution_port)

"""The people in the organizations: they approve, send signals, and say what became of writes that nobody knows of."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import orjson
from tests.agents.logging_agent import answer, read_calls
from tests.chaos.platform import Platform
from tests.chaos.scenario import PAYLOAD
from tests.chaos.traffic import Organization, RefusedError, Traffic

LOOK_SECONDS = 0.3
ASKED = """select s.run_id::text, s.id::text, s.organization_id::text, s.node, s.iteration, s.kind, s.status,
  s.input from step s join run r on r.id = s.run_id and r.retention_class = s.retention_class
where s.status in ('waiting', 'needs_decision') and r.status in ('waiting', 'running')"""
AWAY = (
    *(aiohttp.ClientError, TimeoutError, OSError, RefusedError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)
"""What people meet while a fault is under way: they try again."""


@dataclass(frozen=True)
class People:
    """Everybody who is ever asked anything; `calls` is the log of the agent that they look into."""

    platform: Platform
    traffic: Traffic
    organizations: list[Organization]
    calls: Path

    async def answer_forever(self) -> None:
        """Answer whatever is asked, until cancelled."""
        keys = {organization.id: organization.key for organization in self.organizations}
        while True:
            with suppress(*AWAY):
                rows = await self.platform.query("execution", ASKED)
                made = {call.key for call in read_calls(self.calls)} if _is_undecided(rows) else set()
                for row in rows:
                    with suppress(*AWAY):
                        await self._answer(row, keys[row["organization_id"]], made)
            await asyncio.sleep(LOOK_SECONDS)

    async def _answer(self, row: Any, key: str, made: set[str]) -> None:
        if row["status"] == "needs_decision":
            path, body = f"/v1/runs/{row['run_id']}/steps/{row['id']}/decide", _decision(row, made)
        elif row["kind"] == "signal":
            path, body = f"/v1/runs/{row['run_id']}/signal", {"name": row["node"], "payload": PAYLOAD}
        elif row["kind"] == "approval":
            path, body = f"/v1/approvals/{row['id']}/decide", {"outcome": "approved"}
        else:
            return
        await self.traffic.once("POST", path, key, body)


def _is_undecided(rows: list[Any]) -> bool:
    return any(row["status"] == "needs_decision" for row in rows)


def _decision(row: Any, made: set[str]) -> dict[str, Any]:
    """It happened if it was called for, in whichever attempt: then it gave what it always gives."""
    if f"{row['run_id']}:{row['node']}:{row['iteration']}" not in made:
        return {"outcome": "retry"}
    return {"outcome": "completed", "output": answer(row["node"], orjson.loads(row["input"]))["output"]}

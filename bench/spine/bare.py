"""The list of agents as FastAPI's own tutorial would have it: SQLAlchemy Core, a declared answer, uvicorn; no edge,
no caller, no organizations kept apart by the database.

`python bench/spine/bare.py URL ORGANIZATION_ID` prints `READY <port>`. The same rows, columns and order as the edge's.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import sys
from datetime import datetime
from uuid import UUID

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from execution.tables.agents import Agent

_DIE_WITH_PARENT = 1


class AgentOut(BaseModel):
    """What both sides show of a row."""

    id: UUID
    organization_id: UUID
    workspace_id: UUID
    team_id: UUID | None
    created_by: str
    name: str
    description: str
    agent_type: str
    config_yaml: str
    current_version: str
    risk_level: str
    is_public: bool
    marketplace_listing_id: str | None
    status: str
    created_at: datetime
    updated_at: datetime
    version: int


class AgentsOut(BaseModel):
    """The bare page."""

    items: list[AgentOut]
    next_cursor: str | None = None


def bare_app(url: str, organization_id: UUID) -> FastAPI:
    app, engine = FastAPI(), create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    table = Agent.__table__
    columns = [table.c[name] for name in AgentOut.model_fields]

    @app.get("/v1/agents")
    async def list_agents(limit: int = 50) -> AgentsOut:
        statement = (
            select(*columns)
            .where(table.c.organization_id == organization_id, table.c.deleted_at.is_(None))
            .order_by(table.c.created_at.desc(), table.c.id.desc())
            .limit(limit)
        )
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        return AgentsOut(items=[AgentOut(**row._mapping) for row in rows])  # noqa: SLF001

    return app


async def serve(url: str, organization_id: UUID) -> None:
    config = uvicorn.Config(
        bare_app(url, organization_id),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"READY {listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], UUID(sys.argv[2])))

"""CPU of a service's list, 20 of 10,000 rows, beside FastAPI and SQLAlchemy Core doing the same query bare.

    python bench/lists.py [requests]

One process, requests in process (no socket on either side), rounds in turns; the database's CPU is in neither number.
Prints one JSON line per number.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from libs.resources.tests.crates import Crate, build  # noqa: E402

from chassis.settings import ServiceSettings  # noqa: E402
from remit_local.postgres import Postgres  # noqa: E402
from spine.testing import Client, Stage, staged  # noqa: E402

ROWS, LIMIT, ROUNDS = 10_000, 20, 7
FILL = """insert into crate (
  id, organization_id, name, colour, weight, content, created_by, created_at, updated_at, version)
select gen_random_uuid(), $1, 'crate ' || n, 'red', n % 100, '{"n": 1}', 'me', now() - n * interval '1 second', now(), 1
from generate_series(1, $2::integer) n"""


class ItemOut(BaseModel):
    """What both sides show of a row."""

    id: UUID
    name: str
    colour: str | None
    weight: int
    is_open: bool
    content: dict[str, Any]
    input: dict[str, Any] | None
    packed_on: date | None
    created_at: datetime
    version: int


class ItemsOut(BaseModel):
    """The bare page."""

    items: list[ItemOut]
    next_cursor: str | None = None


def bare_app(url: str, organization_id: UUID) -> FastAPI:
    """FastAPI as its own tutorial would have it, with SQLAlchemy Core and a declared answer."""
    app, engine = FastAPI(), create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    table = Crate.__table__
    columns = [table.c[name] for name in ItemOut.model_fields]

    @app.get("/v1/crates")
    async def list_crates(limit: int = 50) -> ItemsOut:
        statement = (
            select(*columns)
            .where(table.c.organization_id == organization_id, table.c.deleted_at.is_(None))
            .order_by(table.c.created_at.desc(), table.c.id.desc())
            .limit(limit)
        )
        async with engine.connect() as connection:
            rows = (await connection.execute(statement)).all()
        return ItemsOut(items=[ItemOut(**row._mapping) for row in rows])  # noqa: SLF001

    return app


async def cpu_of(client: Client, path: str, requests: int) -> float:
    """Microseconds of this process's CPU per request."""
    started = time.process_time()
    for _ in range(requests):
        answer = await client.get(path, query={"limit": LIMIT})
        if answer.status != 200 or len(answer.json()["items"]) != LIMIT:
            raise RuntimeError(answer.body)
    return (time.process_time() - started) / requests * 1e6


async def measure(stage: Stage, requests: int) -> None:
    """Take both in turns and print the medians."""
    for _ in range(3):
        await stage.database.sql(FILL, await stage.organization(), ROWS)
    caller = await stage.caller()
    await stage.database.sql(FILL, caller.organization_id, ROWS)
    await stage.database.sql("analyze crate")
    superuser = stage.database.superuser_url.rpartition("/")[0] + "/" + stage.database.name
    sides = {
        "list_bare": (Client(bare_app(superuser, caller.organization_id), None), "/v1/crates"),
        "list_service": (stage.client(caller), "/v1/crates"),
        "list_service_orm": (stage.client(caller), "/v1/crates/by-orm"),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, (client, path) in sides.items():
            taken[name].append(await cpu_of(client, path, requests))
    medians = {name: sorted(values)[ROUNDS // 2] for name, values in taken.items()}
    for name, value in medians.items():
        print(orjson.dumps({"name": name, "value": round(value), "unit": "us CPU/request"}).decode())
    for name in ("list_service", "list_service_orm"):
        ratio = medians[name] / medians["list_bare"]
        print(orjson.dumps({"name": f"{name}_vs_bare", "value": round(ratio, 2), "unit": "x"}).decode())


async def main(requests: int) -> None:
    """Run against a private PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        postgres = Postgres(Path(folder) / "postgres", fsync=False)
        await postgres.start_async()
        try:
            async with staged(build, ServiceSettings, "billing", postgres.superuser_url) as stage:
                await measure(stage, requests)
        finally:
            await postgres.stop_async()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))

"""`python -m remit_local.platform.prepare DIR`: databases, roles, migrations, queues, keys, bootstrap; repeatable."""

import asyncio
import sys
import time
from pathlib import Path

import asyncpg
from aio_pika.exceptions import AMQPError

import audit
import billing
import execution
import gateway
import identity
import policy
from chassis.auth import write_keys
from chassis.migrate import migrations_of, upgrade
from chassis.migration import create_database, create_roles, database_grants, role
from chassis.sealing import write_keyring
from contracts.catalog import SERVICES
from remit_local.platform.installation import INGEST, KEY_USES, Installation
from remit_local.platform.operator import ensure_operator
from remit_local.platform.turns import announce_turn, await_server
from spine.topology import declare_topology

PACKAGES = {
    "identity": identity,
    "billing": billing,
    "policy": policy,
    "gateway": gateway,
    "execution": execution,
    "audit": audit,
}
_BROKER_SECONDS = 30


async def prepare(installation: Installation) -> None:
    """Bring a data folder to what this version of Remit needs."""
    write_keys(installation.keys, KEY_USES)
    write_keyring(installation.keys / "execution.keyring")
    await asyncio.gather(_databases(installation), _topology(installation))
    if await ensure_operator(installation):
        _say("made the platform organization")
    announce_turn(installation)


async def _databases(installation: Installation) -> None:
    await asyncio.to_thread(await_server, installation.postgres)
    await _make_databases(installation)
    _say("migrating six databases")
    # One after the other: what runs a migration is one per process, and each costs a fraction of a second.
    done = [await _migrate(installation, service) for service in SERVICES]
    changed = [line for line in done if line]
    _say("; ".join(changed) if changed else "all databases are at their newest revision")


async def _make_databases(installation: Installation) -> None:
    superuser = await asyncpg.connect(installation.postgres.superuser_url)
    try:
        existing = {row["datname"] for row in await superuser.fetch("select datname from pg_database")}
        for service in SERVICES:
            for statement in create_roles(service, installation.database_roles(service)):
                await superuser.execute(statement)
            if role(service) not in existing:
                for statement in create_database(service):
                    await superuser.execute(statement)
    finally:
        await superuser.close()


async def _migrate(installation: Installation, service: str) -> str:
    url = installation.postgres.superuser_url.rpartition("/")[0] + f"/{role(service)}"
    superuser = await asyncpg.connect(url)
    try:
        for statement in database_grants(service, [INGEST] if service == "audit" else []):
            await superuser.execute(statement)
    finally:
        await superuser.close()
    before, after = await upgrade(installation.database_url(service, "owner"), migrations_of(PACKAGES[service]))
    return "" if before == after else f"{service} {before or 'new'} -> {after}"


async def _topology(installation: Installation) -> None:
    await asyncio.to_thread(await_server, installation.rabbitmq)
    _say("declaring streams and queues")
    deadline = time.monotonic() + _BROKER_SECONDS
    while True:
        try:
            await declare_topology(installation.rabbitmq.amqp_url, dict.fromkeys(SERVICES, ()))
            return
        except AMQPError:
            # A broker that was just started greets its clients before it has found its queues again.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(prepare(Installation(Path(sys.argv[1]))))

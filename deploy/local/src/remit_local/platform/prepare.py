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
from remit_local.platform.deployment import INGEST, KEY_USES, Deployment
from remit_local.platform.installation import Installation
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


async def prepare(deployment: Deployment) -> None:
    """Bring a data folder to what this version of Remit needs."""
    write_keys(deployment.keys, KEY_USES)
    write_keyring(deployment.keys / "execution.keyring")
    await asyncio.gather(_databases(deployment), _topology(deployment))
    if await ensure_operator(deployment):
        _say("made the platform organization")
    announce_turn(deployment)


async def _databases(deployment: Deployment) -> None:
    await asyncio.to_thread(await_server, deployment.database)
    await _make_databases(deployment)
    _say("migrating six databases")
    # One after the other: what runs a migration is one per process, and each costs a fraction of a second.
    done = [await _migrate(deployment, service) for service in SERVICES]
    changed = [line for line in done if line]
    _say("; ".join(changed) if changed else "all databases are at their newest revision")


async def _make_databases(deployment: Deployment) -> None:
    superuser = await asyncpg.connect(deployment.database.superuser_url)
    try:
        existing = {row["datname"] for row in await superuser.fetch("select datname from pg_database")}
        for service in SERVICES:
            for statement in create_roles(service, deployment.database_roles(service)):
                await superuser.execute(statement)
            if role(service) not in existing:
                for statement in create_database(service):
                    await superuser.execute(statement)
    finally:
        await superuser.close()


async def _migrate(deployment: Deployment, service: str) -> str:
    url = deployment.database.superuser_url.rpartition("/")[0] + f"/{role(service)}"
    superuser = await asyncpg.connect(url)
    try:
        for statement in database_grants(service, [INGEST] if service == "audit" else []):
            await superuser.execute(statement)
    finally:
        await superuser.close()
    before, after = await upgrade(deployment.database_url(service, "owner"), migrations_of(PACKAGES[service]))
    return "" if before == after else f"{service} {before or 'new'} -> {after}"


async def _topology(deployment: Deployment) -> None:
    await asyncio.to_thread(await_server, deployment.broker)
    _say("declaring streams and queues")
    deadline = time.monotonic() + _BROKER_SECONDS
    while True:
        try:
            await declare_topology(deployment.broker.amqp_url, dict.fromkeys(SERVICES, ()))
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

"""A service on stage: its real composition over a database of its own, with organizations and callers to play them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pydantic import SecretStr

from chassis.auth import Signer, TokenIssuer, write_keys
from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.ids import new_id
from chassis.permits import Permit
from chassis.settings import ServiceSettings
from chassis.uow import UnitOfWork, Units
from contracts.envelope import Envelope, Fact, wrap
from spine.service import Running, Service
from spine.testing.client import Client
from spine.testing.databases import Database, clone

S = TypeVar("S", bound=ServiceSettings)
NOWHERE_AMQP = "amqp://nobody@127.0.0.1:1/"
NOWHERE_STREAM = "rabbitmq-stream://nobody:nothing@127.0.0.1:1/"
"""Doors and use cases need no broker: a test that does reach for one is refused at once."""


@dataclass
class Stage:
    """What a test of one service plays on."""

    service: Service
    running: Running
    database: Database
    issuer: TokenIssuer

    @property
    def units(self) -> Units:
        """Units of work on the doors' own unprivileged role."""
        return self.running.units

    async def organization(self, status: str = "active") -> UUID:
        """A fresh organization the service knows as active, or as said."""
        organization_id = new_id()
        await self.database.sql(
            "insert into organization_rules (organization_id, status, status_version) values ($1, $2, 1)",
            organization_id,
            status,
        )
        return organization_id

    async def caller(
        self, role: str = "org_owner", organization_id: UUID | None = None, scopes: Sequence[str] = ()
    ) -> Caller:
        """A fresh user with this role, in this organization or in one of its own; an empty role has no right at all."""
        user_id = new_id()
        return Caller(
            organization_id or await self.organization(),
            "user",
            str(user_id),
            user_id=user_id,
            roles=frozenset((role,) if role else ()),
            scopes=frozenset(scopes),
        )

    def client(self, caller: Caller | None) -> Client:
        """The service's HTTP door as this caller sees it; None has no token."""
        name = self.service.name
        return Client(self.service, None if caller is None else lambda: self.issuer.issue(caller, name))

    @asynccontextmanager
    async def begin(self, caller: Caller, permit: Permit | None = None) -> AsyncIterator[UnitOfWork]:
        """A unit of work of this caller, committed at the end of the block."""
        async with self.units.begin(caller, permit) as uow:
            yield uow

    async def facts(self, *kinds: type[Fact] | str, organization_id: UUID | None = None) -> list[Envelope]:
        """What the service has published so far, oldest first: of these kinds, of this organization, or all."""
        rows = await self.database.sql("select body from outbox order by pos")
        names = {kind if isinstance(kind, str) else kind.type for kind in kinds}
        envelopes = [Envelope.parse(row["body"]) for row in rows]
        return [
            envelope
            for envelope in envelopes
            if (not names or envelope.type in names) and organization_id in (None, envelope.organization_id)
        ]

    async def receive(self, organization_id: UUID, *facts: Fact, actor: Caller | None = None) -> None:
        """Let the service's own consumers apply another service's facts, each in a unit of work as its loop would."""
        for fact in facts:
            envelope = _enveloped(fact, organization_id, actor)
            caller = replace(
                Caller.system(organization_id, f"{self.service.name}.facts"), causation_id=str(envelope.id)
            )
            for handler in self.service.consumers:
                if type(fact) in handler.facts and not handler.batch:
                    async with self.units.begin(caller) as uow:
                        await handler.call(uow, fact, *((envelope,) if handler.wants_envelope else ()))


def _enveloped(fact: Fact, organization_id: UUID, actor: Caller | None) -> Envelope:
    body = wrap(
        fact,
        fact_id=new_id(),
        source=fact.type.partition(".")[0],
        time=utc_now(),
        organization_id=organization_id,
        actor_type=actor.kind if actor else "system",
        actor_id=actor.id if actor else "test",
    )
    return Envelope.parse(body)


def settings_for(kind: type[S], database: Database, keys: Path | None = None, **values: Any) -> S:
    """Settings of a service on a test's database, without a broker; `values` are the service's own or override."""
    roles = ("owner", "batch", "relay", "sweep")
    given: dict[str, Any] = {
        "service": database.service,
        "database_url": SecretStr(database.url()),
        **{f"{suffix}_database_url": SecretStr(database.url(suffix)) for suffix in roles},
        "amqp_url": SecretStr(NOWHERE_AMQP),
        "stream_url": SecretStr(NOWHERE_STREAM),
        "log_level": "error",
        "log_format": "console",
    }
    if keys is not None:
        given |= {"key_file": keys / f"{database.service}.attest.pem", "trust_file": keys / "trust.json"}
    return kind(**(given | values))


def unstarted(build: Callable[[S], Service], kind: type[S], service: str, **values: Any) -> Service:
    """The service put together but connected to nothing: for its routes, its OpenAPI document, its consumers."""
    return build(settings_for(kind, Database(service, "none", "postgresql://nobody@127.0.0.1:1/none"), **values))


@asynccontextmanager
async def staged(
    build: Callable[[S], Service],
    kind: type[S],
    service: str,
    postgres_url: str,
    *,
    extra_roles: Sequence[str] = (),
    **values: Any,
) -> AsyncIterator[Stage]:
    """The service of `build(settings)` on a migrated database of its own, its door open, nothing else running.

    A conftest needs no more than:

        @pytest.fixture(scope="module")
        async def stage(servers, anyio_backend):
            async with staged(build, Settings, "policy", servers.postgres_url) as made:
                yield made
    """
    migrations = unstarted(build, kind, service, **values).migrations
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(clone(postgres_url, service, migrations, extra_roles))
        keys = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="remit-keys-")))
        write_keys(keys, {"gateway": ("token", "attest"), service: ("token", "attest", "seal")})
        made = build(settings_for(kind, database, keys, **values))
        running = await made._start(stack, listen=True)  # noqa: SLF001  (what `run` does before it listens)
        yield Stage(made, running, database, TokenIssuer(Signer.read(keys / "gateway.token.pem")))

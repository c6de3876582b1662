"""Gateway's table of contents: its noun, what it learns from identity, and the edge."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

import gateway
from chassis.auth import Signer, TokenIssuer
from chassis.migrate import migrations_of
from gateway.api import gateways
from gateway.api.edge import Edge
from gateway.api.edge_cors import Cors
from gateway.api.edge_open import OpenRoutes
from gateway.clients.hops import HttpHop
from gateway.consumers import callers, organizations
from gateway.jobs.freshness import note_freshness
from gateway.settings import Settings
from gateway.usecases.across import restate_gateways
from gateway.usecases.callers import CallerBook
from spine.facts import handlers_in
from spine.jobs import every
from spine.service import VERSION, PublicDoor, Service


def build(settings: Settings, hops: Mapping[str, ASGIApp] | None = None) -> Service:
    """The gateway service, ready to run; `hops` are the other services' apps where they share this process."""
    service = Service(
        "gateway",
        settings,
        migrations=migrations_of(gateway),
        routers=[gateways.router],
        consumers=handlers_in(organizations, callers),
        jobs=[every(seconds=1)(note_freshness)],
        restate={"gateway": restate_gateways},
    )
    edge = build_edge(service, settings, hops)
    service.closing = [hop.close for hop in edge.hops.values() if isinstance(hop, HttpHop)]
    if settings.edge_port:
        service.doors = [PublicDoor(edge, settings.edge_host, settings.edge_port)]
    return service


def build_edge(service: Service, settings: Settings, hops: Mapping[str, ASGIApp] | None) -> Edge:
    """The public door: its own service is always a call away, the others by `hops` or by the settings' addresses."""
    others = hops if hops is not None else {name: HttpHop(name, url) for name, url in settings.next_hops.items()}
    callers_known = CallerBook(
        lambda: _engine_of(service),
        key_rate=settings.key_rate_per_second,
        organization_rate=settings.organization_rate_per_second,
        max_staleness_seconds=settings.max_identity_staleness_seconds,
    )
    key_file = settings.token_key_file
    signer = Signer.read(key_file) if key_file else Signer.of(Ed25519PrivateKey.generate())
    all_hops: dict[str, ASGIApp] = {**others, "gateway": service}
    return Edge(
        hops=all_hops,
        issuer=TokenIssuer(signer),
        callers=callers_known,
        cors=Cors(settings.cors_origins),
        open_routes=OpenRoutes(all_hops, callers_known.require_fresh, VERSION),
    )


def _engine_of(service: Service) -> AsyncEngine:
    if service.running is None:
        raise RuntimeError("gateway is not started")
    return service.running.units.engine

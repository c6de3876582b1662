"""Keys and users by identity's own facts, a service behind the edge, and a caller before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.auth import TokenVerifier
from chassis.caller import Caller
from chassis.ids import new_id
from contracts.api_keys import ParsedKey, make_key
from contracts.identity import ApiKeyCreated, ApiKeyRevoked, OrganizationCreated, UserCreated, UserUpdated
from gateway.api.edge import Edge
from spine.testing.client import Answer, Client
from spine.testing.stage import Stage


@dataclass
class Played:
    """A service behind the edge: answers what it is told to, and remembers what it was asked."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append({
            "method": scope["method"], "path": scope["path"], "query": scope["query_string"].decode(),
            "headers": headers, "body": body,
        })  # fmt: skip
        status, says = self.answers.get(scope["path"], (200, {"path": scope["path"]}))
        content = orjson.dumps(says)
        sent = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": content})


@dataclass
class Holder:
    """Somebody with a key, and what identity said of both."""

    organization_id: UUID
    user_id: UUID
    key: str
    parsed: ParsedKey
    created: ApiKeyCreated
    user: UserCreated


@dataclass
class EdgeStage:
    """The gateway on stage, with its edge trusted by the services that verify its tokens."""

    stage: Stage
    edge: Edge

    @classmethod
    def of(cls, stage: Stage) -> EdgeStage:
        edge = stage.service.doors[0].app
        assert isinstance(edge, Edge)
        edge.issuer = stage.issuer
        return cls(stage, edge)

    def play(self, **services: ASGIApp) -> None:
        """Put these behind the edge, beside gateway itself."""
        self.edge.hops = {**services, "gateway": self.stage.service}
        self.edge.open_routes.hops = self.edge.hops

    def caller_of(self, headers: dict[str, str], audience: str) -> Caller:
        """Who the edge says is asking, as the service would read it."""
        scheme, _, token = headers["authorization"].partition(" ")
        assert scheme == "Bearer"
        return TokenVerifier(self.stage.running.trust, audience).verify(token)

    async def holder(
        self, role: str = "org_owner", scopes: Sequence[str] = (), *, expires_at: datetime | None = None
    ) -> Holder:
        """A user with a key in an organization of its own, by the facts identity publishes."""
        organization_id, user_id = new_id(), new_id()
        key, parsed = make_key()
        organization = OrganizationCreated(
            organization_id=organization_id, version=1, name="Acme", slug=f"acme-{organization_id.hex}",
            status="active", plan_tier="free", created_by=str(user_id),
        )  # fmt: skip
        user = UserCreated(user_id=user_id, version=1, role=role, status="active")
        created = ApiKeyCreated(
            api_key_id=new_id(), version=1, user_id=user_id, name="k", key_prefix=parsed.key_prefix,
            secret_sha256=parsed.secret_sha256, role=role, scopes=list(scopes), is_active=True, expires_at=expires_at,
        )  # fmt: skip
        await self.stage.receive(organization_id, organization, user, created)
        return Holder(organization_id, user_id, key, parsed, created, user)

    async def revoke(self, holder: Holder) -> None:
        """Identity says that the key is revoked."""
        fields = holder.created.model_dump() | {"version": 2, "is_active": False}
        await self.stage.receive(holder.organization_id, ApiKeyRevoked(**fields))

    async def change_user(self, holder: Holder, kind: type[UserUpdated], version: int, **fields: Any) -> None:
        """Identity says something new of the user."""
        await self.stage.receive(
            holder.organization_id, kind(**(holder.user.model_dump() | {"version": version} | fields))
        )

    def client(self, key: str | None) -> Client:
        """The public door as somebody with this key sees it."""
        return Client(self.edge, None if key is None else lambda: key)

    async def get(self, key: str | None, path: str, **headers: str) -> Answer:
        """GET at the public door."""
        return await self.client(key).get(
            path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

"""Caller grants: the sending service signs who is asking, for one command, until its deadline."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any
from uuid import UUID

import orjson

from chassis.auth import SKEW_SECONDS, Signer, Trust
from chassis.caller import Caller
from chassis.errors import UnauthenticatedError


class ExpiredError(UnauthenticatedError):
    """The command's deadline has passed: nobody waits for it any more."""


def grant(signer: Signer, service: str, caller: Caller, command: str, body: bytes, *, seconds: float) -> str:
    """A header for a command of type `command` with these bytes: `service` says the caller asks for it."""
    claims = {
        "by": service, "command": command, "body": hashlib.sha256(body).hexdigest(), "until": time.time() + seconds,
        "organization_id": caller.organization_id, "kind": caller.kind, "id": caller.id, "user_id": caller.user_id,
        "roles": sorted(caller.roles), "scopes": sorted(caller.scopes), "traceparent": caller.traceparent,
        "correlation_id": caller.correlation_id, "causation_id": caller.causation_id,
    }  # fmt: skip
    statement = orjson.dumps(claims)
    parts = (signer.kid.encode(), base64.b64encode(statement), base64.b64encode(signer.sign(statement)))
    return b".".join(parts).decode()


def granted(header: str, trust: Trust, command: str, body: bytes) -> Caller:
    """Who asks for this command; UnauthenticatedError for any other grant, ExpiredError after its deadline."""
    try:
        kid, statement, signature = header.split(".")
        signed = base64.b64decode(statement)
        claims: dict[str, Any] = orjson.loads(signed)
        proven = trust.verify(kid, signed, base64.b64decode(signature), service=claims["by"], use="attest")
    except (ValueError, KeyError, TypeError) as error:
        raise UnauthenticatedError("The command carries no readable grant.", code="no_grant") from error
    if not proven or claims["command"] != command or claims["body"] != hashlib.sha256(body).hexdigest():
        raise UnauthenticatedError("The command's grant was not made for it.", code="wrong_grant")
    if claims["until"] < time.time() - SKEW_SECONDS:
        raise ExpiredError("The command's deadline has passed.", code="expired")
    return Caller(
        UUID(claims["organization_id"]), claims["kind"], claims["id"],
        user_id=UUID(claims["user_id"]) if claims["user_id"] else None,
        roles=frozenset(claims["roles"]), scopes=frozenset(claims["scopes"]), traceparent=claims["traceparent"],
        correlation_id=claims["correlation_id"], causation_id=claims["causation_id"],
    )  # fmt: skip

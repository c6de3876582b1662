"""RabbitMQ definitions: users, permissions and policies that the broker loads when it starts."""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

_HASHING = "rabbit_password_hashing_sha256"
Definitions = Mapping[str, Sequence[Mapping[str, Any]]]
"""RabbitMQ's own definitions format; a user may carry `password` in clear, which is stored as a salted hash only."""

ADMIN = "remit_admin"
_STREAM_POLICY = {
    "vhost": "/",
    "name": "fact-streams",
    "pattern": r"^facts\.",
    "apply-to": "queues",
    "priority": 0,
    "definition": {"max-age": "7D", "stream-max-segment-size-bytes": 8_000_000},
}


def whole_definitions(admin_password: str, wanted: Definitions) -> dict[str, list[dict[str, Any]]]:
    """Return what a private broker loads: our administrator, the policy of fact streams, and what was asked for."""
    admin = {"name": ADMIN, "password": admin_password, "tags": "administrator"}
    merged: dict[str, list[dict[str, Any]]] = {
        "users": [admin],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": ADMIN, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        "policies": [_STREAM_POLICY],
    }
    for kind, entries in wanted.items():
        merged.setdefault(kind, []).extend(dict(entry) for entry in entries)
    merged["users"] = [_without_password(user) for user in merged["users"]]
    return merged


def service_user(name: str, password: str, *, configure: str, write: str, read: str) -> Definitions:
    """Return the definitions of one user whose rights on the vhost `/` are three regular expressions."""
    return {
        "users": [{"name": name, "password": password, "tags": ""}],
        "permissions": [{"user": name, "vhost": "/", "configure": configure, "write": write, "read": read}],
    }


def joined(*parts: Definitions) -> dict[str, list[Mapping[str, Any]]]:
    """Return one set of definitions with the entries of all parts."""
    whole: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        for kind, entries in part.items():
            whole.setdefault(kind, []).extend(entries)
    return whole


def _without_password(user: Mapping[str, Any]) -> dict[str, Any]:
    if "password" not in user:
        return dict(user)
    salt = secrets.token_bytes(4)
    digest = salt + hashlib.sha256(salt + str(user["password"]).encode()).digest()
    kept = {name: value for name, value in user.items() if name != "password"}
    return {**kept, "password_hash": base64.b64encode(digest).decode(), "hashing_algorithm": _HASHING}

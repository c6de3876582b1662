from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pdp.bundle import Bundle, BundleDocument
from pdp.decide import DecisionRequest, Principal, Resource

ORGANIZATION = "0199-organization"
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def make_request(
    action: str = "agent:execute", *, roles: tuple[str, ...] = ("developer",), **changes: Any
) -> DecisionRequest:
    """A request of one user about one row; `attr`, `id` and any field of principal or request can be changed."""
    attr, row = changes.pop("attr", {}), changes.pop("id", "row-1")
    about = {name: changes.pop(name) for name in ("organization_id",) if name in changes}
    asker = {
        name: changes.pop(name)
        for name in ("scopes", "teams", "team", "mfa", "kind", "principal_id")
        if name in changes
    }
    return DecisionRequest(
        principal=Principal(
            id=asker.pop("principal_id", "user-1"),
            kind=asker.pop("kind", "user"),
            organization_id=changes.pop("principal_organization_id", ORGANIZATION),
            roles=frozenset(roles),
            **asker,
        ),
        action=action,
        resource=Resource(
            kind=changes.pop("kind_of_resource", action.partition(":")[0]),
            id=row,
            organization_id=about.get("organization_id", ORGANIZATION),
            attr=attr,
        ),
        organization_id=ORGANIZATION,
        now=NOW,
        **changes,
    )


def make_bundle(*policies: str | tuple[int, str] | BundleDocument, revision: int = 7) -> Bundle:
    """A bundle of these policies; a plain text has priority 10."""
    documents = []
    for index, policy in enumerate(policies):
        if isinstance(policy, BundleDocument):
            documents.append(policy)
            continue
        priority, text = policy if isinstance(policy, tuple) else (10, policy)
        documents.append(BundleDocument(f"policy-{index}", f"policy {index}", priority, text))
    return Bundle.compile(ORGANIZATION, revision, documents)


def policy(*rules: str, type: str = "abac", head: str = "") -> str:
    """A policy of these one-line rules."""
    return "\n".join(["apiVersion: policy/v1", f"type: {type}", head, "rules:", *(f"  - {rule}" for rule in rules)])

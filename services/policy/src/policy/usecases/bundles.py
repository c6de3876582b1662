"""The bundle: all enabled policies of an organization, published whole whenever one of them changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select, func, select

from chassis.errors import InvalidError, LimitExceededError
from chassis.uow import UnitOfWork
from contracts.policy import BundlePublished, BundleRestated, BundleState
from pdp.bundle import Assignee, Bundle, BundleDocument
from pdp.problems import BundleError, DocumentError
from policy.tables.policies import Policy, PolicyAssignment, PolicyBundle

MAX_SOURCE_BYTES = 200 * 1024
MAX_ESCAPED_BYTES = 240 * 1024
"""A bundle travels in one fact of at most 256 KB, inside which its quotes and line ends are escaped once more."""
MAX_POLICIES = 500
B = TypeVar("B", bound=BundleState)


async def lock_bundle(uow: UnitOfWork) -> None:
    """Let no two changes of an organization's policies interleave: called before the first row is touched."""
    await uow.execute(select(func.pg_advisory_xact_lock(uow.organization_id.int & 0x7FFFFFFFFFFFFFFF)))


async def publish_bundle(uow: UnitOfWork) -> PolicyBundle:
    """Compile the organization's enabled policies and publish them as the next revision.

    InvalidError when they do not compile together, LimitExceededError when they do not fit into a fact.
    """
    await uow.flush()
    row: PolicyBundle | None = await uow.first(_of(uow).with_for_update())
    revision = row.revision + 1 if row else 1
    source = _compile(uow, revision, await _documents(uow)).source()
    _require_fits(source)
    if row is None:
        row = PolicyBundle(organization_id=uow.organization_id)
    row.revision, row.source, row.published_at = revision, source, uow.now
    row.source_sha256 = hashlib.sha256(source).hexdigest()
    await uow.add(row)
    uow.emit(_state(BundlePublished, row))
    return row


async def get_bundle(uow: UnitOfWork) -> PolicyBundle | None:
    """The bundle as it was last published; None while the organization has had no policy."""
    row: PolicyBundle | None = await uow.first(_of(uow))
    return row


async def find_longest_approval(uow: UnitOfWork) -> float | None:
    """For how many seconds an approval of the organization may wait at most; None where no policy says."""
    row = await get_bundle(uow)
    return (await asyncio.to_thread(Bundle.load, row.source)).longest_approval_seconds if row else None


async def restate_bundle(uow: UnitOfWork) -> int:
    """Publish the organization's bundle again; returns how many rows that was."""
    row = await get_bundle(uow)
    if row is None:
        return 0
    uow.emit(_state(BundleRestated, row))
    return 1


def _require_fits(source: bytes) -> None:
    escaped = len(json.dumps(source.decode(), ensure_ascii=False).encode())
    if len(source) > MAX_SOURCE_BYTES or escaped > MAX_ESCAPED_BYTES:
        raise LimitExceededError(
            f"The organization's enabled policies are {len(source)} bytes together, {escaped} with each quote and line "
            f"end escaped; the limits are {MAX_SOURCE_BYTES} and {MAX_ESCAPED_BYTES}.",
            code="bundle_too_large",
        )


def _compile(uow: UnitOfWork, revision: int, documents: list[BundleDocument]) -> Bundle:
    try:
        return Bundle.compile(str(uow.organization_id), revision, documents)
    except DocumentError as error:
        raise InvalidError(f"An enabled policy does not compile: {error}.", code="invalid_policy") from error
    except BundleError as error:
        raise InvalidError(str(error), code=error.code) from error


async def _documents(uow: UnitOfWork) -> list[BundleDocument]:
    assignees: dict[UUID, list[Assignee]] = defaultdict(list)
    assignments = select(PolicyAssignment).where(PolicyAssignment.organization_id == uow.organization_id)
    for assignment in await uow.all(assignments):
        assignees[assignment.policy_id].append(Assignee(assignment.assignee_type, str(assignment.assignee_id)))
    policies = select(Policy).where(Policy.organization_id == uow.organization_id, Policy.is_enabled)
    return [
        BundleDocument(
            policy_id=str(policy.id),
            name=policy.name,
            priority=policy.priority,
            rules_yaml=policy.rules_yaml,
            assignees=tuple(sorted(assignees[policy.id])),
            is_system=policy.is_system,
        )
        for policy in await uow.all(policies.order_by(Policy.id))
    ]


def _of(uow: UnitOfWork) -> Select[PolicyBundle]:
    return select(PolicyBundle).where(PolicyBundle.organization_id == uow.organization_id)


def _state(kind: type[B], row: PolicyBundle) -> B:
    return kind(
        organization_id=row.organization_id,
        version=row.revision,
        source=row.source.decode(),
        source_sha256=row.source_sha256,
    )

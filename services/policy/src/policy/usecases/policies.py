"""Policies: written as YAML, checked and tried on save, in force within two seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select

from chassis.errors import ConflictError, InvalidError, LimitExceededError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.policy import (
    PolicyAssigned,
    PolicyAssignmentState,
    PolicyCreated,
    PolicyDeleted,
    PolicyState,
    PolicyUnassigned,
    PolicyUpdated,
)
from pdp.document import Document, parse_document
from pdp.problems import DocumentError
from pdp.trials import run_document_tests
from policy.tables.policies import Policy, PolicyAssignment
from policy.usecases.bundles import MAX_POLICIES, lock_bundle, publish_bundle
from resources.listing import Resource, counter, lister
from resources.patches import apply_patch, touch
from resources.versions import require_version

P = TypeVar("P", bound=PolicyState)
A = TypeVar("A", bound=PolicyAssignmentState)

POLICIES = Resource(
    Policy,
    filters=("name", "policy_type", "is_enabled", "priority", "created_at"),
    sorts=("created_at", "name", "priority"),
    search=("name",),
)
list_policies = lister(POLICIES)
count_policies = counter(POLICIES)
MAX_ASSIGNMENTS = 1000
"""Of one policy."""


async def create_policy(
    uow: UnitOfWork, *, name: str, description: str, policy_type: str, rules_yaml: str, priority: int, is_enabled: bool
) -> Policy:
    """Save a policy and, if it is enabled, put it in force; InvalidError names each problem of its rules by line."""
    await lock_bundle(uow)
    await _require_room(uow)
    document = _checked(policy_type, rules_yaml)
    policy = Policy(
        id=new_id(),
        organization_id=uow.organization_id,
        name=name,
        description=description,
        policy_type=policy_type,
        rules_yaml=rules_yaml,
        rules_sha256=_digest(rules_yaml),
        revision=1,
        is_system=False,
        is_enabled=is_enabled,
        priority=priority,
        created_by=uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    if is_enabled:
        _require_passing(document)
    await uow.add(policy, conflict=f"There is a policy named {name!r} already.")
    uow.emit(_state(PolicyCreated, policy))
    if is_enabled:
        await publish_bundle(uow)
    return policy


async def get_policy(uow: UnitOfWork, policy_id: UUID) -> Policy:
    """One policy."""
    return await uow.get(Policy, policy_id)


async def update_policy(
    uow: UnitOfWork, policy_id: UUID, *, expected_version: int | None, changes: Mapping[str, Any]
) -> Policy:
    """Change some fields; new rules are checked first, and tried where the policy is or becomes enabled.

    Nothing changed: the policy stays at its version. A policy can be disabled whatever has become of its rules.
    """
    await lock_bundle(uow)
    policy = await uow.get(Policy, policy_id, lock=True)
    require_version(policy.version, expected_version)
    if policy.is_system:
        raise ConflictError("A system policy cannot be changed.", code="system_policy")
    was_enabled = policy.is_enabled
    changed = apply_patch(uow, policy, changes)
    if not changed:
        return policy
    if "rules_yaml" in changed or policy.is_enabled:
        document = _checked(policy.policy_type, policy.rules_yaml)
        if policy.is_enabled:
            _require_passing(document)
    if "rules_yaml" in changed:
        policy.rules_sha256 = _digest(policy.rules_yaml)
        policy.revision += 1
    await uow.add(policy, conflict=f"There is a policy named {policy.name!r} already.")
    uow.emit(_state(PolicyUpdated, policy))
    if was_enabled or policy.is_enabled:
        await publish_bundle(uow)
    return policy


async def delete_policy(uow: UnitOfWork, policy_id: UUID) -> None:
    """Remove a policy, and its rules from force."""
    await lock_bundle(uow)
    policy = await uow.get(Policy, policy_id, lock=True)
    if policy.is_system:
        raise ConflictError("A system policy cannot be deleted.", code="system_policy")
    await uow.execute(delete(PolicyAssignment).where(_of_policy(uow, policy_id)))
    await uow.delete(policy)
    touch(uow, policy)
    uow.emit(_state(PolicyDeleted, policy))
    if policy.is_enabled:
        await publish_bundle(uow)


async def delete_organization_policies(uow: UnitOfWork) -> None:
    """Remove all policies of an organization that is gone."""
    await lock_bundle(uow)
    policies = await uow.all(select(Policy).where(Policy.organization_id == uow.organization_id))
    await uow.execute(delete(PolicyAssignment).where(PolicyAssignment.organization_id == uow.organization_id))
    for policy in policies:
        await uow.delete(policy)
        touch(uow, policy)
        uow.emit(_state(PolicyDeleted, policy))
    if policies:
        await publish_bundle(uow)


async def assign_policy(uow: UnitOfWork, policy_id: UUID, *, assignee_type: str, assignee_id: UUID) -> PolicyAssignment:
    """Bind a policy to a team or a user: from the first binding on it is for the bound ones alone."""
    await lock_bundle(uow)
    policy = await uow.get(Policy, policy_id, lock=True)
    count = await uow.first(select(func.count()).where(_of_policy(uow, policy_id)))
    if count >= MAX_ASSIGNMENTS:
        raise LimitExceededError(f"A policy may have {MAX_ASSIGNMENTS} assignments.", code="too_many_assignments")
    assignment = PolicyAssignment(
        id=new_id(),
        organization_id=uow.organization_id,
        policy_id=policy_id,
        assignee_type=assignee_type,
        assignee_id=assignee_id,
        created_by=uow.caller.owner_id,
        created_at=uow.now,
    )
    await uow.add(assignment, conflict="This policy is assigned to it already.")
    uow.emit(_assignment(PolicyAssigned, assignment))
    if policy.is_enabled:
        await publish_bundle(uow)
    return assignment


async def list_policy_assignments(uow: UnitOfWork, policy_id: UUID) -> list[PolicyAssignment]:
    """Whom a policy is for; none means everyone."""
    await uow.get(Policy, policy_id)
    statement = select(PolicyAssignment).where(_of_policy(uow, policy_id)).order_by(PolicyAssignment.id)
    return list(await uow.all(statement.limit(MAX_ASSIGNMENTS)))


async def unassign_policy(uow: UnitOfWork, policy_id: UUID, assignment_id: UUID) -> None:
    """Remove a binding; without the last one the policy is for everyone again. Removing it again changes nothing."""
    await lock_bundle(uow)
    policy = await uow.get(Policy, policy_id, lock=True)
    assignment = await uow.find(PolicyAssignment, assignment_id)
    if assignment is None or assignment.policy_id != policy_id:
        return
    await uow.delete(assignment)
    uow.emit(_assignment(PolicyUnassigned, assignment))
    if policy.is_enabled:
        await publish_bundle(uow)


def _checked(policy_type: str, rules_yaml: str) -> Document:
    try:
        document = parse_document(rules_yaml)
        if document.withdrawn:
            raise DocumentError(document.withdrawn)
    except DocumentError as error:
        raise InvalidError(
            "The rules cannot be used; `errors` names each problem by line and column.",
            code=_code(error),
            errors=[{"line": p.line, "column": p.column, "message": p.message, "code": p.code} for p in error.problems],
        ) from error
    if document.type != policy_type:
        raise InvalidError(
            f"The policy is of type {policy_type!r}, its document of type {document.type!r}.", code="type_mismatch"
        )
    return document


def _code(error: DocumentError) -> str:
    unsupported = [problem for problem in error.problems if problem.code == "not_supported_yet"]
    return "not_supported_yet" if unsupported else "invalid_policy"


def _require_passing(document: Document) -> None:
    failed = [result for result in run_document_tests(document) if not result.passed]
    if failed:
        raise ConflictError(
            "A test inside the document fails, so it cannot be enabled; `errors` says what differs.",
            code="policy_tests_failed",
            errors=[{"test": result.name, "differences": list(result.differences)} for result in failed],
        )


async def _require_room(uow: UnitOfWork) -> None:
    count = await uow.first(select(func.count()).where(Policy.organization_id == uow.organization_id))
    if count >= MAX_POLICIES:
        raise LimitExceededError(f"An organization may have {MAX_POLICIES} policies.", code="too_many_policies")


def _of_policy(uow: UnitOfWork, policy_id: UUID) -> ColumnElement[bool]:
    return (PolicyAssignment.organization_id == uow.organization_id) & (PolicyAssignment.policy_id == policy_id)


def _digest(rules_yaml: str) -> str:
    return hashlib.sha256(rules_yaml.encode()).hexdigest()


def _state(kind: type[P], policy: Policy) -> P:
    return kind(
        policy_id=policy.id,
        version=policy.version,
        name=policy.name,
        policy_type=policy.policy_type,
        is_enabled=policy.is_enabled,
        priority=policy.priority,
        revision=policy.revision,
        rules_sha256=policy.rules_sha256,
    )


def _assignment(kind: type[A], row: PolicyAssignment) -> A:
    return kind(
        assignment_id=row.id, policy_id=row.policy_id, assignee_type=row.assignee_type, assignee_id=row.assignee_id
    )

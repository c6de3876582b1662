"""Organizations deleted in identity."""

from __future__ import annotations

from chassis.uow import UnitOfWork
from contracts.identity import OrganizationDeleted
from execution.domain.kills import KillScope
from execution.usecases import kill_switches
from spine.facts import on


@on(OrganizationDeleted)
async def stop_runs_of_organization(uow: UnitOfWork, fact: OrganizationDeleted) -> None:
    """Nothing of a deleted organization is let in any more: what waits there or runs is ended."""
    reason = "The organization was deleted."
    await kill_switches.engage_kill_switch(
        uow, scope=KillScope.ORGANIZATION, target_id=fact.organization_id, reason=reason
    )  # fmt: skip

"""Policy's table of contents."""

import policy
from chassis.migrate import migrations_of
from policy.api import approvals, decisions, policies, roles
from policy.consumers import decisions as decision_facts
from policy.consumers import organizations, promotions, runs
from policy.jobs.approvals import expire_approvals
from policy.settings import Settings
from policy.usecases.across import restate_bundles
from spine.facts import handlers_in
from spine.service import Service


def build(settings: Settings) -> Service:
    """The policy service, ready to run."""
    return Service(
        "policy",
        settings,
        migrations=migrations_of(policy),
        routers=[policies.router, decisions.router, roles.router, approvals.router],
        consumers=handlers_in(organizations, decision_facts, runs, promotions),
        jobs=[expire_approvals],
        restate={"bundle": restate_bundles},
    )

"""`python -m remit_local.platform.host`: all six services in one process. The edge hands on by calling their apps.

Nothing else is shared between them: each has its own database, roles, broker user and facts, as in six processes.
"""

from audit.main import build as build_audit
from audit.settings import Settings as AuditSettings
from billing.main import build as build_billing
from billing.settings import Settings as BillingSettings
from execution.main import build as build_execution
from execution.settings import Settings as ExecutionSettings
from gateway.main import build as build_gateway
from gateway.settings import Settings as GatewaySettings
from identity.main import build as build_identity
from identity.settings import Settings as IdentitySettings
from policy.main import build as build_policy
from policy.settings import Settings as PolicySettings
from remit_local.platform.turns import await_turn
from spine.process import environment, run
from spine.service import Service


def build_one(service: str) -> Service:
    """One service, as the environment tells it."""
    told = environment()
    match service:
        case "identity":
            return build_identity(IdentitySettings.load(service, told))
        case "billing":
            return build_billing(BillingSettings.load(service, told))
        case "policy":
            return build_policy(PolicySettings.load(service, told))
        case "execution":
            return build_execution(ExecutionSettings.load(service, told))
        case "audit":
            return build_audit(AuditSettings.load(service, told))
        case "gateway":
            return build_gateway(GatewaySettings.load(service, told))
    raise ValueError(f"there is no service {service!r}")


def build_all() -> list[Service]:
    """All six, the edge's next hops being the others themselves."""
    others = [build_one(service) for service in ("identity", "billing", "policy", "execution", "audit")]
    settings = GatewaySettings.load("gateway", environment())
    return [*others, build_gateway(settings, hops={service.name: service for service in others})]


if __name__ == "__main__":
    await_turn()
    run(build_all(), "all")

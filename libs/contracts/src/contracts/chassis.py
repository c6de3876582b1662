"""Messages every service understands because the chassis answers them: repair, restatement, refusals."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from contracts.envelope import Command, Fact, Reply


class RequestRefused(Fact):
    """An authenticated caller was refused, or its request failed: recorded although the request itself left nothing.

    Its type names the refusing service, so there is one class per service below.
    """

    subject_field: ClassVar = "resource_id"

    operation: str
    """The use case: `cancel_run`."""
    method: str
    path: str
    status: int
    code: str
    resource_id: str = ""
    """The id in the path, if it has one."""
    count: int = 1
    """Above 1: a summary of that many refusals of this caller within one minute."""


class IdentityRequestRefused(RequestRefused):
    """The identity service refused a request."""

    type: ClassVar = "identity.request.refused.v1"


class BillingRequestRefused(RequestRefused):
    """The billing service refused a request."""

    type: ClassVar = "billing.request.refused.v1"


class PolicyRequestRefused(RequestRefused):
    """The policy service refused a request."""

    type: ClassVar = "policy.request.refused.v1"


class GatewayRequestRefused(RequestRefused):
    """The gateway service refused a request."""

    type: ClassVar = "gateway.request.refused.v1"


class ExecutionRequestRefused(RequestRefused):
    """The execution service refused a request."""

    type: ClassVar = "execution.request.refused.v1"


class AuditRequestRefused(RequestRefused):
    """The audit service refused a request."""

    type: ClassVar = "audit.request.refused.v1"


REFUSED: dict[str, type[RequestRefused]] = {
    "identity": IdentityRequestRefused,
    "billing": BillingRequestRefused,
    "policy": PolicyRequestRefused,
    "gateway": GatewayRequestRefused,
    "execution": ExecutionRequestRefused,
    "audit": AuditRequestRefused,
}


class ResendFacts(Command):
    """Ask a producer's log for the facts `first`..`last` that the stream did not show."""

    type: ClassVar = "chassis.resend_facts.v1"

    first: int = Field(ge=1)
    last: int = Field(ge=1)


class FactsResent(Reply):
    """One page of a producer's log: at most 500 messages or 4 MB, and the ranges that exist nowhere any more."""

    type: ClassVar = "chassis.facts_resent.v1"

    messages: list[str] = []
    """The stream messages, base64, in order."""
    voids: list[tuple[int, int]] = []


class RestateRows(Command):
    """Ask an owner to publish its current rows again as `...Restated` facts, for a projection starting from nothing."""

    type: ClassVar = "chassis.restate_rows.v1"

    noun: str
    """Which rows: `workspace`."""
    organization_id: UUID | None = None
    """Of one organization only; None means all."""


class RowsRestated(Reply):
    """How many rows were published again."""

    type: ClassVar = "chassis.rows_restated.v1"

    count: int = 0

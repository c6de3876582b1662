"""The tests inside a policy's document: each makes a request of the document and compares the decision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pdp.bundle import Bundle, BundleDocument
from pdp.decide import decide
from pdp.document import Document, Trial, read_time
from pdp.request import Decision, DecisionRequest, Principal, Resource, RunContext

_ORGANIZATION: Final = "the-organization"
_PRIORITY: Final = 100
_NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""The moment of a test that names none: a test must not depend on when it runs."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How one test of a document went; `differences` is empty when it passed."""

    name: str
    decision: Decision
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the decision was the expected one."""
        return not self.differences


def run_document_tests(document: Document) -> tuple[TrialResult, ...]:
    """Run the tests inside a document against its rules and the role matrix alone."""
    source = BundleDocument(policy_id="this-policy", name="this policy", priority=_PRIORITY, rules_yaml=document.text)
    bundle = Bundle.compile(_ORGANIZATION, 1, [source])
    return tuple(_result(trial, decide(_request(trial), bundle, explain=True)) for trial in document.trials)


def _result(trial: Trial, decision: Decision) -> TrialResult:
    differences = []
    if decision.effect != trial.decision:
        differences.append(f"expected {trial.decision}, got {decision.effect} by {decision.rule_name}")
    if trial.rule_name not in (None, decision.rule_name):
        differences.append(f"expected the rule {trial.rule_name}, got {decision.rule_name}")
    if trial.obligations is not None and list(trial.obligations) != list(decision.obligations):
        differences.append(f"expected the obligations {list(trial.obligations)}, got {list(decision.obligations)}")
    return TrialResult(trial.name, decision, tuple(differences))


def _request(trial: Trial) -> DecisionRequest:
    given = trial.given
    who, what, run = given.principal, given.resource, given.run
    return DecisionRequest(
        principal=Principal(
            id=who.id,
            kind=who.kind,
            organization_id=_ORGANIZATION,
            roles=frozenset(who.roles),
            scopes=frozenset(who.scopes),
            teams=frozenset(who.teams),
            team=who.team,
            mfa=who.mfa,
            auth_age_s=who.auth_age_s,
            chain=tuple(who.chain),
        ),
        action=given.action,
        resource=Resource(
            kind=what.kind or given.action.partition(":")[0],
            id=what.id,
            organization_id=_ORGANIZATION,
            attr=what.attr,
        ),
        run=RunContext(**run.model_dump()) if run else None,
        request=given.request.model_dump() if given.request else {},
        now=(read_time(given.now) if given.now else None) or _NOW,
        organization_id=_ORGANIZATION,
        organization_status=given.organization_status,
    )

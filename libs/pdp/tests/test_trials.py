from __future__ import annotations

from pdp.document import parse_document
from pdp.trials import run_document_tests

TEXT = """
apiVersion: policy/v1
type: abac
rules:
  - rule_name: daylight
    effect: deny
    actions: ["agent:execute"]
    when: now.getHours() < 8 || resource.attr.secret
  - rule_name: cheap
    effect: obligate
    actions: ["agent:execute"]
    obligations: [{set: {run.max_cost_usd: 1}}]
tests:
  - name: at night
    given: {action: "agent:execute", now: "2026-11-22T03:00:00Z", resource: {attr: {secret: false}}, principal: {roles: [developer]}}
    expect: {decision: deny, rule_name: daylight}
  - name: by day
    given: {action: "agent:execute", resource: {attr: {secret: false}}, principal: {roles: [developer]}}
    expect: {decision: allow, rule_name: role-matrix, obligations: [{set: {run.max_cost_usd: 1}}]}
  - name: suspended
    given: {action: "agent:execute", organization_status: suspended, principal: {roles: [org_owner]}}
    expect: {decision: deny, rule_name: system-guard}
  - name: wrong in every way
    given: {action: "agent:execute", resource: {attr: {secret: false}}, principal: {roles: [developer]}}
    expect: {decision: deny, rule_name: daylight, obligations: []}
"""


def test_the_tests_inside_a_document_run_against_it_and_the_matrix() -> None:
    results = run_document_tests(parse_document(TEXT))
    assert [result.passed for result in results] == [True, True, True, False]
    wrong = results[3]
    assert wrong.name == "wrong in every way"
    assert wrong.differences == (
        "expected deny, got allow by role-matrix",
        "expected the rule daylight, got role-matrix",
        "expected the obligations [], got [{'set': {'run.max_cost_usd': 1}}]",
    )
    assert [clause.truth for clause in wrong.decision.clauses] == [False, True, True]


def test_a_document_without_tests_has_no_results() -> None:
    assert run_document_tests(parse_document("apiVersion: policy/v1\ntype: rbac")) == ()

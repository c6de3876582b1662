from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.pdp.tests.factories import policy

from pdp.document import Document, DocumentError, Problem, parse_document

WHOLE = """\
apiVersion: policy/v1
type: abac
variables:
  office_hours: now.getHours() >= 8 && now.getHours() < 18
  cheap: run.estimated_cost_usd < 0.5
rules:
  - rule_name: no-night-work
    effect: deny
    actions: ["agent:execute", "schedule:*"]
    roles: [developer, contractor]
    when:
      any:
        - "!vars.office_hours"
        - all: ["resource.attr.environment_type == 'production'", "!principal.mfa"]
        - none: [vars.cheap]
    reason: night-work
  - rule_name: keep-it-cheap
    effect: obligate
    actions: ["agent:*"]
    obligations: [{set: {run.max_cost_usd: 1.0, run.max_tokens: 2000}}, {notify: budget_warning}]
tests:
  - name: at noon
    given: {action: "agent:execute", principal: {roles: [developer], mfa: true}, run: {estimated_cost_usd: 0.1}}
    expect: {decision: allow}
"""


GATE = 'effect: require_approval\n    approval: {}\n    actions: ["agent:execute"]'


def problems_of(text: str, **options: object) -> tuple[Problem, ...]:
    with pytest.raises(DocumentError) as caught:
        parse_document(text, **options)  # type: ignore[arg-type]
    return caught.value.problems


def only_problem(text: str) -> tuple[int, int, str]:
    (problem,) = problems_of(text)
    return problem.line, problem.column, problem.code


def test_a_whole_document_is_read() -> None:
    document = parse_document(WHOLE)
    assert isinstance(document, Document)
    night, cheap = document.rules
    assert (night.rule_name, night.effect, night.reason) == ("no-night-work", "deny", "night-work")
    assert night.permissions > {"agent:execute", "schedule:pause"}
    assert night.roles == {"developer", "contractor"}
    assert night.condition
    assert [leaf.text for leaf in night.condition.leaves()] == [
        "!vars.office_hours",
        "resource.attr.environment_type == 'production'",
        "!principal.mfa",
        "vars.cheap",
    ]
    assert cheap.condition is None
    assert cheap.obligations == (
        {"set": {"run.max_cost_usd": 1.0, "run.max_tokens": 2000}},
        {"notify": "budget_warning"},
    )
    assert [trial.name for trial in document.trials] == ["at noon"]


def test_what_may_not_be_saved_any_more_is_still_read() -> None:
    text = WHOLE.replace("run.max_tokens: 2000", "run.max_tool_calls: 5")
    (problem,) = parse_document(text).withdrawn
    assert problem.code == "not_supported_yet"
    assert text.splitlines()[problem.line - 1][problem.column - 1 :].startswith("run.max_tool_calls")
    assert parse_document(WHOLE).withdrawn == ()


@pytest.mark.parametrize(
    ("old", "new", "found_at", "code"),
    [
        ("type: abac", "type: magic", "magic", "invalid_value"),
        ("apiVersion: policy/v1\n", "", "type: abac", "missing_key"),
        ("rules:\n", "rulez: []\nrules:\n", "rulez", "unknown_key"),
        ("reason: night-work", "because: night-work", "because", "unknown_key"),
        ("keep-it-cheap", "Keep_It", "Keep_It", "invalid_value"),
        ("keep-it-cheap", "no-night-work", "no-night-work\n    effect: obligate", "duplicate_name"),
        ('"schedule:*"', '"schedule:fly"', '"schedule:fly"', "unknown_permission"),
        ('"schedule:*"', '"*"', '"*"', "unknown_permission"),
        ("now.getHours() < 18", "nou.getHours() < 18", "nou.get", "invalid_expression"),
        ("!vars.office_hours", "!vars.office_ours", "office_ours", "invalid_expression"),
        ("!principal.mfa", "!principal.mfaa", "mfaa", "invalid_expression"),
        ("[vars.cheap]", "['size(principal.id)']", "size(", "invalid_expression"),
        ("[vars.cheap]", "['a) || (b']", ") || (b", "invalid_expression"),
        ("[vars.cheap]", "[]", "[]", "invalid_condition"),
        ("none: [vars.cheap]", "nun: [vars.cheap]", "nun: ", "invalid_condition"),
        ("run.max_tokens: 2000", "run.max_tokens: -1", "-1", "invalid_value"),
        ("run.max_tokens: 2000", "run.speed: 2000", "run.speed", "invalid_value"),
        ("{notify: budget_warning}", "{}", "{}", "invalid_value"),
        ("effect: obligate", "effect: require_approval", '"agent:*"', "not_supported_yet"),
        *(
            ('effect: obligate\n    actions: ["agent:*"]', GATE.replace("{}", f"{{{said}}}"), found_at, code)
            for said, found_at, code in (
                ("required: 2", "required", "not_supported_yet"),
                ("separation_of_duties: false", "separation", "not_supported_yet"),
                ("on_timeout: allow", "on_timeout", "not_supported_yet"),
                ("grant: {mode: once}", "grant", "not_supported_yet"),
                ("escalate: [{after: 1h}]", "escalate", "not_supported_yet"),
                ("expires_in: 31d", "31d", "invalid_value"),
                ("expires_in: soon", "soon", "invalid_value"),
                ("approvers: {any_of: [somebody]}", "somebody", "invalid_value"),
                ("approvers: {any_of: []}", "[]", "invalid_value"),
            )
        ),
        ("rules:\n", "approvals: {expires_in: 31d}\nrules:\n", "31d", "invalid_value"),
        ("rules:\n", "approvals: {expires_in: 0m}\nrules:\n", "0m", "invalid_value"),
        ("rules:\n", "approvals: {}\nrules:\n", "{}", "missing_key"),
        ("effect: obligate", "approval: {}\n    effect: obligate", "approval:", "invalid_value"),
        ("type: abac", "type: budget", "type: budget", "not_supported_yet"),
        ("rules:\n", "budgets: {}\nrules:\n", "budgets", "not_supported_yet"),
        ("effect: obligate", "effect: deny", "obligations", "invalid_value"),
        ("type: abac", "type: rbac", "obligate", "effect_not_in_type"),
        ("variables:", "roles: {auditor: {inherits: [viewer]}}\nvariables:", "roles: {a", "invalid_value"),
        ("reason: night-work", "reason: night-work\n    reason: x", "reason: x", "duplicate_key"),
        ("[developer, contractor]", "[&a developer, *a]", "&a", "alias_not_allowed"),
        ("name: at noon", "name: !!python/name:os.system at noon", "!!python", "tag_not_allowed"),
        ("mfa: true", 'mfa: "true"', '"true"', "invalid_value"),
        ('{action: "agent:execute"', '{action: "agent:*"', '"agent:*", principal', "unknown_permission"),
        ('{action: "agent:execute"', '{now: "noon", action: "agent:execute"', '"noon"', "invalid_value"),
    ],
)
def test_what_is_wrong_is_refused_at_its_place(old: str, new: str, found_at: str, code: str) -> None:
    text = WHOLE.replace(old, new, 1)
    assert text != WHOLE
    lines = text.splitlines(keepends=True)
    for problem in problems_of(text):
        rest = "".join(lines[problem.line - 1 :])[problem.column - 1 :]
        assert rest.startswith(found_at), problem
        assert problem.code == code


def test_a_condition_that_can_never_be_a_truth_is_refused() -> None:
    assert (
        problems_of(WHOLE.replace("vars.cheap]", "'size(principal.roles) + 1']"))[0].message
        == "a condition is true or false"
    )


def test_all_problems_are_reported_in_reading_order() -> None:
    text = policy(
        '{rule_name: a, effect: allow, actions: ["agent:fly"], when: "nobody == 1"}',
        '{rule_name: b, effect: allow, actions: ["agent:read"], when: "1 +"}',
    )
    assert [(problem.line, problem.code) for problem in problems_of(text)] == [
        (5, "unknown_permission"),
        (5, "invalid_expression"),
        (6, "invalid_expression"),
    ]


@pytest.mark.parametrize("action", ["organization:delete", "organization:*", "platform:replay", "subscription:update"])
def test_what_is_reserved_can_be_denied_but_never_allowed(action: str) -> None:
    assert only_problem(policy(f'{{rule_name: a, effect: allow, actions: ["{action}"]}}'))[2] == "reserved_permission"
    parse_document(policy(f'{{rule_name: a, effect: deny, actions: ["{action}"]}}'))


@pytest.mark.parametrize(
    ("roles", "code"),
    [
        ("{boss: {inherits: [org_owner]}}", "reserved_role"),
        ("{boss: {inherits: [platform_admin]}}", "reserved_role"),
        ('{boss: {grants: ["platform:read"]}}', "reserved_permission"),
        ("{developer: {inherits: [viewer]}}", "duplicate_name"),
        ("{boss: {inherits: [nobody]}}", "unknown_role"),
        ("{boss: {inherits: [boss]}}", "role_cycle"),
    ],
)
def test_a_custom_role_never_reaches_what_is_reserved(roles: str, code: str) -> None:
    assert only_problem(f"apiVersion: policy/v1\ntype: rbac\nroles: {roles}")[2] == code


def test_roles_that_inherit_each_other_are_refused() -> None:
    text = "apiVersion: policy/v1\ntype: rbac\nroles: {one: {inherits: [two]}, two: {inherits: [one]}}"
    assert {problem.code for problem in problems_of(text)} == {"role_cycle"}


def test_custom_roles_inherit_and_add() -> None:
    text = """
apiVersion: policy/v1
type: rbac
roles:
  releaser: {inherits: [developer], grants: ["deployment:activate"]}
  chief: {inherits: [releaser, operator], grants: ["agent:delete"]}
"""
    chief = next(role for role in parse_document(text).roles if role.name == "chief")
    assert chief.implied == {"chief", "releaser", "developer", "operator"}
    assert chief.grants == {"deployment:activate", "agent:delete"}


def test_unknown_roles_in_rules_are_refused_where_the_roles_are_known() -> None:
    text = policy('{rule_name: a, effect: deny, actions: ["agent:read"], roles: [viewer, develper]}')
    parse_document(text)
    parse_document(text, custom_roles=["develper"])
    (problem,) = problems_of(text, custom_roles=[])
    assert (problem.line, problem.column, problem.code) == (5, 75, "unknown_role")


def test_an_expression_in_a_block_is_located_inside_it() -> None:
    text = policy(
        'rule_name: a\n    effect: deny\n    actions: ["agent:read"]\n    when: |\n      principal.mfa &&\n        nobody.id == 1'
    )
    assert only_problem(text) == (10, 15, "invalid_expression")


def test_names_inside_strings_and_comments_are_not_names() -> None:
    condition = "resource.attr.note == 'principal.nothing and vars.none' // run.nothing"
    document = parse_document(policy(f'{{rule_name: a, effect: deny, actions: ["agent:read"], when: "{condition}"}}'))
    assert [rule.permissions for rule in document.rules] == [{"agent:read"}]


def test_size_depth_and_count_are_limited() -> None:
    assert only_problem("a: " + "x" * 70_000)[2] == "too_large"
    assert only_problem("a: " + "[" * 30_000 + "]" * 30_000)[2] == "too_deep"
    rule = '{{rule_name: r{}, effect: deny, actions: ["agent:read"]}}'
    parse_document(policy(*(rule.format(index) for index in range(200))))
    assert only_problem(policy(*(rule.format(index) for index in range(201))))[2] == "invalid_value"


@pytest.mark.parametrize(
    "text", ["", "[]", "just words", "a: b: c", "\t", "a: [", "---\na: 1\n---\nb: 2", "? {a: 1}\n: 2", "a: \ud800"]
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    assert problems_of(text)


def test_plain_words_are_what_they_look_like() -> None:
    text = "apiVersion: policy/v1\ntype: abac\ntests: [{name: no, given: {action: 'agent:read', resource: {attr: {a: on, b: 4:30, c: 1e3, d: ~, e: 0o7}}}, expect: {decision: allow}}]"
    (trial,) = parse_document(text).trials
    assert trial.name == "no"
    assert trial.given.resource.attr == {"a": "on", "b": "4:30", "c": 1000.0, "d": None, "e": "0o7"}


def places_in(text: str) -> list[Problem]:
    try:
        parse_document(text)
    except DocumentError as error:
        return list(error.problems)
    return []


@given(st.text(max_size=200))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    assert all(problem.line >= 1 and problem.column >= 1 and problem.code for problem in places_in(text))


@given(st.integers(0, len(WHOLE) - 1), st.sampled_from(["", "\0", "]", "{", "'", '"', ":", "\n", "&a ", "!", "é"]))
def test_a_damaged_document_parses_or_is_refused(place: int, damage: str) -> None:
    lines = WHOLE.count("\n") + 3
    assert all(1 <= problem.line <= lines for problem in places_in(WHOLE[:place] + damage + WHOLE[place + 1 :]))

"""Policies, assignments, bundles and decisions."""

from alembic import op

from chassis.migration import chassis_tables, isolate, security_definer

revision = "0001"
down_revision = None

_POLICY = """create table policy (
  id uuid constraint policy_pkey primary key, organization_id uuid not null,
  name text not null check (length(name) between 1 and 100), description text not null check (length(description) <= 2000),
  policy_type text not null check (policy_type in ('rbac', 'abac', 'budget')),
  rules_yaml text not null check (length(rules_yaml) <= 65536), rules_sha256 text not null, revision integer not null,
  is_system boolean not null, is_enabled boolean not null, priority integer not null check (priority between 0 and 10000),
  created_by text not null, created_at timestamptz not null, updated_at timestamptz not null, version integer not null,
  constraint policy_organization_id_name_key unique (organization_id, name)
)"""

_POLICY_ASSIGNMENT = """create table policy_assignment (
  id uuid constraint policy_assignment_pkey primary key, organization_id uuid not null, policy_id uuid not null,
  assignee_type text not null check (assignee_type in ('team', 'user')), assignee_id uuid not null,
  created_by text not null, created_at timestamptz not null,
  constraint policy_assignment_assignee_key
    unique (organization_id, policy_id, assignee_type, assignee_id)
)"""

_POLICY_BUNDLE = """create table policy_bundle (
  organization_id uuid constraint policy_bundle_pkey primary key, revision integer not null, source bytea not null,
  source_sha256 text not null, published_at timestamptz not null
)"""

_DECISION = """create table decision (
  id uuid constraint decision_pkey primary key, organization_id uuid not null, service text not null,
  effect text not null check (effect in ('allow', 'deny')), action text not null, resource_type text not null,
  resource_id text not null, principal_type text not null, principal_id text not null, rule_name text not null,
  policy_id uuid, bundle_revision integer not null, reason text not null, obligations jsonb not null, error boolean not null,
  run_id uuid, decided_at timestamptz not null, created_by text not null
)"""

# Restatement publishes every organization's bundle again: one statement that must see them all, and returns ids only.
_ALL = """create function organizations_with_bundle() returns setof uuid
language sql stable security definer set search_path = public, pg_temp
as $$ select organization_id from policy_bundle order by organization_id $$"""


def upgrade() -> None:
    """Make everything."""
    statements = [
        *chassis_tables("policy"),
        _POLICY, _POLICY_ASSIGNMENT, _POLICY_BUNDLE, _DECISION, _ALL,
        "create index policy_organization_id_priority_id_idx on policy (organization_id, priority, id)",
        "create index decision_organization_id_id_idx on decision (organization_id, id)",
        "create index decision_organization_id_created_by_id_idx on decision (organization_id, created_by, id)",
        "create index decision_organization_id_run_id_idx on decision (organization_id, run_id) where run_id is not null",
    ]  # fmt: skip
    for table in ("policy", "policy_assignment"):
        statements += isolate("policy", table, batch=False)
    statements += isolate("policy", "policy_bundle", batch=False, privileges="select, insert, update")
    statements += isolate("policy", "decision", privileges="select, insert")
    statements += security_definer("policy", "organizations_with_bundle()")
    for statement in statements:
        op.execute(statement)

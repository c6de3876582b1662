"""Organizations, users, workspaces, API keys."""

from alembic import op

from chassis.migration import chassis_tables, isolate, security_definer

revision = "0001"
down_revision = None

_STAMPS = """created_by text not null, created_at timestamptz not null, updated_at timestamptz not null, version integer not null"""

_ORGANIZATION = f"""create table organization (
  id uuid constraint organization_pkey primary key, name text not null check (length(name) between 1 and 200),
  slug text not null constraint organization_slug_key unique check (slug ~ '^[a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?$'),
  logo_url text check (length(logo_url) <= 2000), status text not null check (status in ('active', 'suspended', 'deleted')),
  plan_tier text not null check (plan_tier in ('free', 'pro', 'enterprise')), is_platform boolean not null,
  has_subscription boolean not null, has_gateway boolean not null, provisioned_at timestamptz, {_STAMPS}
)"""

_USER = f"""create table app_user (
  id uuid constraint app_user_pkey primary key, organization_id uuid not null,
  email text not null check (length(email) between 3 and 320), name text not null check (length(name) <= 200),
  avatar_url text check (length(avatar_url) <= 2000), status text not null check (status in ('invited', 'active', 'suspended')),
  role text not null, last_login_at timestamptz, mfa_enabled boolean not null, sso_provider_id text, {_STAMPS}
)"""

_WORKSPACE = f"""create table workspace (
  id uuid constraint workspace_pkey primary key, organization_id uuid not null,
  name text not null check (length(name) between 1 and 100),
  environment_type text not null check (environment_type in ('development', 'staging', 'production', 'sandbox')),
  description text not null check (length(description) <= 2000), gateway_id uuid, max_agents integer not null,
  max_concurrent_executions integer not null, promotion_from uuid, requires_approval boolean not null,
  required_approvers jsonb not null, pii_allowed boolean not null, encryption_required boolean not null,
  retention_days integer not null check (retention_days in (30, 90, 365, 2555)), {_STAMPS},
  constraint workspace_organization_id_name_key unique (organization_id, name)
)"""

_API_KEY = f"""create table api_key (
  id uuid constraint api_key_pkey primary key, organization_id uuid not null, user_id uuid,
  name text not null check (length(name) between 1 and 100), role text not null,
  key_prefix text not null constraint api_key_key_prefix_key unique, key_hash text not null, scopes jsonb not null,
  expires_at timestamptz, last_used_at timestamptz, is_active boolean not null, replaced_by uuid, {_STAMPS}
)"""

_SUBSCRIPTION_LIMIT = """create table subscription_limit (
  organization_id uuid constraint subscription_limit_pkey primary key, max_users integer not null, version integer not null
)"""

# The platform lists organizations; bootstrap asks whether the operator's exists; restating visits all.
_ALL = """create function all_organizations(after uuid, most integer) returns setof organization
language sql stable security definer set search_path = public, pg_temp
as $$ select * from organization where id > after order by id limit most $$"""

_PLATFORM = """create function platform_organization() returns uuid
language sql stable security definer set search_path = public, pg_temp
as $$ select id from organization where is_platform $$"""


def upgrade() -> None:
    """Make everything."""
    statements = [
        *chassis_tables("identity"),
        _ORGANIZATION, _USER, _WORKSPACE, _API_KEY, _SUBSCRIPTION_LIMIT, _ALL, _PLATFORM,
        "create unique index organization_platform_key on organization (is_platform) where is_platform",
        "create unique index app_user_organization_id_email_key on app_user (organization_id, lower(email))",
        "create index app_user_organization_id_created_at_id_idx on app_user (organization_id, created_at, id)",
        "create index workspace_organization_id_created_at_id_idx on workspace (organization_id, created_at, id)",
        "create index api_key_organization_id_created_at_id_idx on api_key (organization_id, created_at, id)",
        "create index api_key_organization_id_user_id_idx on api_key (organization_id, user_id)",
        *isolate("identity", "organization", "id", batch=False, privileges="select, insert, update"),
    ]  # fmt: skip
    for table in ("app_user", "workspace", "api_key"):
        statements += isolate("identity", table, batch=False)
    statements += isolate("identity", "subscription_limit", batch=False, privileges="select, insert, update")
    statements += security_definer("identity", "all_organizations(uuid, integer)")
    statements += security_definer("identity", "platform_organization()")
    for statement in statements:
        op.execute(statement)

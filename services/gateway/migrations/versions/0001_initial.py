"""Gateways; keys and users as the edge needs them."""

from alembic import op

from chassis.migration import chassis_tables, isolate, security_definer, share

revision = "0001"
down_revision = None

_GATEWAY = """create table gateway (
  id uuid constraint gateway_pkey primary key, organization_id uuid not null,
  name text not null check (length(name) between 1 and 100),
  gateway_type text not null check (gateway_type in ('shared', 'dedicated', 'private')),
  status text not null check (status in ('running', 'stopped', 'provisioning', 'error')), is_default boolean not null,
  api_url text not null check (length(api_url) <= 2000), api_port integer not null,
  mcp_url text check (length(mcp_url) <= 2000), mcp_port integer,
  ssl_enabled boolean not null, ssl_cert_id text check (length(ssl_cert_id) <= 200),
  min_instances integer not null, max_instances integer not null, current_instances integer not null,
  global_rate_limit integer not null check (global_rate_limit >= 1),
  per_agent_rate_limit integer not null check (per_agent_rate_limit >= 1),
  per_user_rate_limit integer not null check (per_user_rate_limit >= 1),
  auth_methods jsonb not null, jwt_issuer text check (length(jwt_issuer) <= 2000),
  last_health_check timestamptz, health_status text not null check (health_status in ('healthy', 'degraded', 'unhealthy')),
  created_by text not null, created_at timestamptz not null, updated_at timestamptz not null, version integer not null,
  constraint gateway_organization_id_name_key unique (organization_id, name)
)"""

_API_KEY = """create table api_key (
  id uuid constraint api_key_pkey primary key, organization_id uuid not null, user_id uuid,
  key_prefix text not null constraint api_key_key_prefix_key unique, secret_sha256 text not null, role text not null,
  scopes text[] not null, is_active boolean not null, expires_at timestamptz, version integer not null
)"""

_KNOWN_USER = """create table known_user (
  id uuid constraint known_user_pkey primary key, organization_id uuid not null,
  role text not null, status text not null, version integer not null
)"""

_FRESHNESS = """create table producer_freshness (
  producer text constraint producer_freshness_pkey primary key, attested_at timestamptz not null
) with (fillfactor = 50)"""

# A key says nothing of its organization: the one look-up before it is known. One row or none, by the public part.
_FIND_API_KEY = """create function find_api_key(prefix text) returns table (
  api_key_id uuid, organization_id uuid, secret_sha256 text, user_id uuid, key_role text, scopes text[],
  is_active boolean, is_over boolean, user_role text, user_status text, organization_status text,
  per_user_rate_limit integer, global_rate_limit integer)
language sql stable security definer set search_path = public, pg_temp as $$
  select k.id, k.organization_id, k.secret_sha256, k.user_id, k.role, k.scopes, k.is_active,
    coalesce(k.expires_at <= now(), false), u.role, u.status, r.status, g.per_user_rate_limit, g.global_rate_limit
  from api_key k
  left join known_user u on u.id = k.user_id and u.organization_id = k.organization_id
  left join organization_rules r on r.organization_id = k.organization_id
  left join gateway g on g.organization_id = k.organization_id and g.is_default
  where k.key_prefix = prefix $$"""

# Restatement publishes every organization's gateways again: one statement that must see them all, and returns ids only.
_ALL = """create function organizations_with_gateway() returns setof uuid
language sql stable security definer set search_path = public, pg_temp
as $$ select distinct organization_id from gateway order by organization_id $$"""


def upgrade() -> None:
    """Make everything."""
    statements = [
        *chassis_tables("gateway"),
        _GATEWAY, _API_KEY, _KNOWN_USER, _FRESHNESS, _FIND_API_KEY, _ALL,
        "create index gateway_organization_id_created_at_id_idx on gateway (organization_id, created_at, id)",
        "create unique index gateway_default_key on gateway (organization_id) where is_default",
        "create index api_key_organization_id_id_idx on api_key (organization_id, id)",
        "create index known_user_organization_id_id_idx on known_user (organization_id, id)",
        *share("gateway", "producer_freshness", "select, insert, update", ("",)),
    ]  # fmt: skip
    for table in ("gateway", "api_key", "known_user"):
        statements += isolate("gateway", table, batch=False, privileges="select, insert, update")
    statements += security_definer("gateway", "find_api_key(text)")
    statements += security_definer("gateway", "organizations_with_gateway()")
    for statement in statements:
        op.execute(statement)

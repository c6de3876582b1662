"""The chassis' tables, what execution knows of others, and what may be run: agents, orchestrations, provider keys."""

from alembic import op

from chassis.migration import chassis_tables, drop_chassis_tables, isolate

revision = "0001"
down_revision = None

SERVICE = "execution"
DOORS, BATCH = "remit_execution", "remit_execution_batch"

STAMPS = """
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  version integer not null default 1"""

WORKSPACE = f"""create table workspace (
  id uuid primary key, organization_id uuid not null, name text not null, environment_type text not null,
  status text not null, gateway_id uuid, max_agents integer not null, max_concurrent_executions integer not null,
  promotion_from uuid, requires_approval boolean not null, pii_allowed boolean not null,
  encryption_required boolean not null, retention_days integer not null, {STAMPS}
)"""

SUBSCRIPTION = f"""create table subscription (
  id uuid primary key, organization_id uuid not null, plan_id text not null, status text not null,
  current_period_start timestamptz not null, current_period_end timestamptz not null,
  max_agents integer not null, max_executions_per_month integer not null, {STAMPS}
)"""

AGENT = f"""create table agent (
  id uuid primary key, organization_id uuid not null, workspace_id uuid not null, team_id uuid,
  created_by text not null, name text not null, description text not null default '', agent_type text not null,
  config_yaml text not null, current_version text not null, current_version_id uuid not null,
  risk_level text not null default 'low', is_public boolean not null default false, marketplace_listing_id text,
  status text not null default 'active', deleted_at timestamptz, {STAMPS},
  constraint agent_name_check check (length(name) between 1 and 100),
  constraint agent_description_check check (length(description) <= 2000),
  constraint agent_config_yaml_check check (octet_length(config_yaml) <= 131072),
  constraint agent_agent_type_check check (agent_type in ('llm', 'http', 'mcp', 'a2a', 'python')),
  constraint agent_risk_level_check check (risk_level in ('low', 'medium', 'high', 'critical')),
  constraint agent_status_check check (status in ('draft', 'active', 'deprecated'))
)"""

AGENT_VERSION = f"""create table agent_version (
  id uuid primary key, organization_id uuid not null, agent_id uuid not null references agent (id),
  workspace_id uuid not null, semver text not null, digest text not null, config_yaml text not null,
  config jsonb not null, graph jsonb not null, change_summary text not null default '', created_by text not null,
  is_current boolean not null, security_scan_status text not null default 'pending',
  security_scan_results jsonb not null default '{{}}', {STAMPS},
  constraint agent_version_config_yaml_check check (octet_length(config_yaml) <= 131072),
  constraint agent_version_change_summary_check check (length(change_summary) <= 2000),
  constraint agent_version_security_scan_status_check check (security_scan_status in ('pending', 'passed', 'failed'))
)"""

ORCHESTRATION = f"""create table orchestration (
  id uuid primary key, organization_id uuid not null, workspace_id uuid not null, team_id uuid,
  created_by text not null, name text not null, description text not null default '', pattern text not null,
  config_yaml text not null, agent_ids jsonb not null, current_version text not null,
  current_version_id uuid not null, status text not null default 'active', deleted_at timestamptz, {STAMPS},
  constraint orchestration_name_check check (length(name) between 1 and 100),
  constraint orchestration_description_check check (length(description) <= 2000),
  constraint orchestration_config_yaml_check check (octet_length(config_yaml) <= 131072),
  constraint orchestration_pattern_check check (pattern in ('sequential', 'parallel', 'router', 'supervisor',
    'map_reduce', 'loop_until', 'handoff', 'approval', 'graph')),
  constraint orchestration_status_check check (status in ('draft', 'active', 'deprecated'))
)"""

ORCHESTRATION_VERSION = f"""create table orchestration_version (
  id uuid primary key, organization_id uuid not null, orchestration_id uuid not null references orchestration (id),
  workspace_id uuid not null, semver text not null, digest text not null, config_yaml text not null,
  config jsonb not null, graph jsonb not null, agent_ids jsonb not null, change_summary text not null default '',
  created_by text not null, is_current boolean not null, {STAMPS},
  constraint orchestration_version_config_yaml_check check (octet_length(config_yaml) <= 131072),
  constraint orchestration_version_change_summary_check check (length(change_summary) <= 2000)
)"""

MODEL_CREDENTIAL = f"""create table model_credential (
  id uuid primary key, organization_id uuid not null, name text not null, provider text not null,
  base_url text, ciphertext bytea not null, wrapped_key bytea not null, kek_id text not null, hint text not null,
  created_by text not null, {STAMPS},
  constraint model_credential_name_check check (length(name) between 1 and 100),
  constraint model_credential_provider_check check (provider in ('openai', 'openai-compatible', 'anthropic')),
  constraint model_credential_base_url_check check (length(base_url) <= 2000),
  constraint model_credential_ciphertext_check check (octet_length(ciphertext) <= 16384)
)"""

INDEXES = (
    "create index workspace_organization_id_name_idx on workspace (organization_id, name)",
    "create unique index subscription_organization_id_key on subscription (organization_id)",
    """create unique index agent_organization_id_workspace_id_name_key on agent (organization_id, workspace_id, name)
  where deleted_at is null""",
    "create index agent_organization_id_workspace_id_status_idx on agent (organization_id, workspace_id, status)",
    "create index agent_organization_id_created_at_id_idx on agent (organization_id, created_at desc, id desc)",
    """create unique index agent_version_organization_id_agent_id_semver_key
  on agent_version (organization_id, agent_id, semver)""",
    """create unique index agent_version_organization_id_agent_id_current_key
  on agent_version (organization_id, agent_id) where is_current""",
    """create index agent_version_organization_id_agent_id_created_at_id_idx
  on agent_version (organization_id, agent_id, created_at desc, id desc)""",
    """create unique index orchestration_organization_id_workspace_id_name_key
  on orchestration (organization_id, workspace_id, name) where deleted_at is null""",
    """create index orchestration_organization_id_workspace_id_status_idx
  on orchestration (organization_id, workspace_id, status)""",
    """create index orchestration_organization_id_created_at_id_idx
  on orchestration (organization_id, created_at desc, id desc)""",
    """create unique index orchestration_version_organization_id_parent_semver_key
  on orchestration_version (organization_id, orchestration_id, semver)""",
    """create unique index orchestration_version_organization_id_parent_current_key
  on orchestration_version (organization_id, orchestration_id) where is_current""",
    """create index orchestration_version_organization_id_parent_created_at_idx
  on orchestration_version (organization_id, orchestration_id, created_at desc, id desc)""",
    """create unique index model_credential_organization_id_name_key
  on model_credential (organization_id, name)""",
    """create index model_credential_organization_id_created_at_id_idx
  on model_credential (organization_id, created_at desc, id desc)""",
)


def upgrade() -> None:
    tables = (WORKSPACE, SUBSCRIPTION, AGENT, AGENT_VERSION, ORCHESTRATION, ORCHESTRATION_VERSION, MODEL_CREDENTIAL)
    _run(chassis_tables(SERVICE))
    _run([*tables, *INDEXES])
    # Admission reads how much may run at once; nothing else of a workspace is the sweeper's business.
    _run(isolate(SERVICE, "workspace", sweep_columns=("id", "organization_id", "status", "max_concurrent_executions")))
    _run(isolate(SERVICE, "subscription"))
    for table in ("agent", "orchestration"):
        _run(isolate(SERVICE, table, privileges="select, insert, update"))
    for table, scan in (
        ("agent_version", ", security_scan_status, security_scan_results"),
        ("orchestration_version", ""),
    ):
        _run(isolate(SERVICE, table, privileges="select, insert"))
        # A version is immutable: only which one is current, and what the scan found, may be written later.
        _run([f"grant update (is_current, updated_at, version{scan}) on {table} to {DOORS}"])
    _run(isolate(SERVICE, "model_credential"))
    read_only = "model_credential, agent, orchestration, agent_version, orchestration_version, workspace, subscription"
    _run([f"revoke insert, update, delete on {read_only} from {BATCH}"])


def downgrade() -> None:
    _run([
        "drop table model_credential, orchestration_version, orchestration, agent_version, agent, subscription, workspace",
        *drop_chassis_tables(),
    ])  # fmt: skip


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)

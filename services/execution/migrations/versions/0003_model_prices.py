"""What organizations say their models cost."""

from alembic import op

from chassis.migration import isolate

revision = "0003"
down_revision = "0002"

SERVICE = "execution"
BATCH = "remit_execution_batch"

MODEL_PRICE = """create table model_price (
  id uuid primary key, organization_id uuid not null, provider text not null, model_name text not null,
  input_usd_micros_per_million bigint not null, output_usd_micros_per_million bigint not null,
  valid_from timestamptz not null, created_by text not null,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  version integer not null default 1,
  constraint model_price_provider_check check (provider in ('embedded', 'openai', 'openai-compatible')),
  constraint model_price_model_name_check check (length(model_name) between 1 and 200
    and model_name ~ '^[^*]*[*]?$'),
  constraint model_price_input_check check (input_usd_micros_per_million between 0 and 10000000000),
  constraint model_price_output_check check (output_usd_micros_per_million between 0 and 10000000000)
)"""

INDEXES = (
    """create unique index model_price_organization_id_provider_model_name_valid_from_key
  on model_price (organization_id, provider, model_name, valid_from)""",
    "create index model_price_organization_id_created_at_id_idx on model_price (organization_id, created_at desc, id desc)",
)


def upgrade() -> None:
    _run([MODEL_PRICE, *INDEXES, *isolate(SERVICE, "model_price")])
    _run([f"revoke insert, update, delete on model_price from {BATCH}"])


def downgrade() -> None:
    _run(["drop table model_price"])


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)

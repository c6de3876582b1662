"""Prices of Anthropic's models; keys of tool servers beside those of model providers."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    _allow("model_price", "'embedded', 'openai', 'openai-compatible', 'anthropic'")
    _allow("model_credential", "'openai', 'openai-compatible', 'anthropic', 'mcp'")


def downgrade() -> None:
    _allow("model_price", "'embedded', 'openai', 'openai-compatible'")
    _allow("model_credential", "'openai', 'openai-compatible', 'anthropic'")


def _allow(table: str, providers: str) -> None:
    name = f"{table}_provider_check"
    op.get_bind().exec_driver_sql(
        f"alter table {table} drop constraint {name}, add constraint {name} check (provider in ({providers}))"
    )

"""Keys of somebody's own services, beside those of model providers and tool servers."""

from alembic import op

revision = "0020"
down_revision = "0019"

CHECK = "model_credential_provider_check"
BEFORE = "'openai', 'openai-compatible', 'anthropic', 'mcp'"


def upgrade() -> None:
    _allow(f"{BEFORE}, 'http'")


def downgrade() -> None:
    op.get_bind().exec_driver_sql("delete from model_credential where provider = 'http'")
    _allow(BEFORE)


def _allow(providers: str) -> None:
    op.get_bind().exec_driver_sql(
        f"alter table model_credential drop constraint {CHECK}, add constraint {CHECK} check (provider in ({providers}))"
    )

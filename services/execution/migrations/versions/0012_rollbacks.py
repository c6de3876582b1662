"""Which version was current before the present one, so that one call goes back to it."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    for noun in ("agent", "orchestration"):
        op.get_bind().exec_driver_sql(
            f"alter table {noun} add column previous_version text, add column rolled_back_from text"
        )
        # What was current before was not kept until now: the newest other version is the best guess there is.
        op.get_bind().exec_driver_sql(
            f"""update {noun} set previous_version = (
              select v.semver from {noun}_version v
              where v.organization_id = {noun}.organization_id and v.{noun}_id = {noun}.id
                and v.id <> {noun}.current_version_id
              order by v.created_at desc, v.id desc limit 1)"""
        )


def downgrade() -> None:
    for noun in ("agent", "orchestration"):
        op.get_bind().exec_driver_sql(f"alter table {noun} drop column previous_version, drop column rolled_back_from")

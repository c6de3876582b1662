from __future__ import annotations

import pytest

from audit.settings import Settings
from chassis.settings import SettingsError

GIVEN = {
    "REMIT_AUDIT_DATABASE_URL": "postgresql://a@127.0.0.1/a", "REMIT_AMQP_URL": "amqp://a", "REMIT_STREAM_URL": "rabbitmq-stream://a",
}  # fmt: skip


def test_entries_are_kept_as_long_as_there_are_partitions_for() -> None:
    assert Settings.load("audit", {**GIVEN, "REMIT_AUDIT_RETENTION_CLASS": "90"}).retention_class == 90
    with pytest.raises(SettingsError, match=r"REMIT_AUDIT_RETENTION_CLASS.*30, 90, 365, 2555"):
        Settings.load("audit", {**GIVEN, "REMIT_AUDIT_RETENTION_CLASS": "100"})

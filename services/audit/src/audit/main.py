"""Audit's table of contents."""

import audit
from audit.api import coverage, entries
from audit.consumers import organizations
from audit.jobs.coverage import announce_gaps
from audit.jobs.partitions import make_months
from audit.settings import Settings
from audit.usecases.ingest import EntrySink
from chassis.migrate import migrations_of
from spine.facts import handlers_in
from spine.jobs import every
from spine.service import Service


def build(settings: Settings) -> Service:
    """The audit service, ready to run."""
    ingest_url = (settings.ingest_database_url or settings.database_url).get_secret_value()
    return Service(
        "audit",
        settings,
        migrations=migrations_of(audit),
        routers=[entries.router, coverage.router],
        consumers=handlers_in(organizations),
        jobs=[every(seconds=2)(announce_gaps), every(seconds=3600)(make_months)],
        sink=(EntrySink(settings.retention_class), ingest_url),
    )

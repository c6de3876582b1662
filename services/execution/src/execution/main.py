"""Execution's table of contents: every router, consumer, job and worker."""

from __future__ import annotations

import execution
from chassis.facts import handlers_in
from chassis.migrate import migrations_of
from chassis.sealing import Keyring
from chassis.service import Service
from execution.api import agents, model_credentials, orchestrations, runs
from execution.clients.objects import open_objects
from execution.consumers import subscriptions, workspaces
from execution.settings import Settings
from execution.usecases.signals import RunSignals


def build(settings: Settings) -> Service:
    """The execution service."""
    service = Service(
        "execution",
        settings,
        migrations_of(execution),
        routers=[agents.router, orchestrations.router, model_credentials.router, runs.router],
        consumers=handlers_in(workspaces, subscriptions),
    )
    keyring = Keyring.read(settings.key_encryption_file) if settings.key_encryption_file else None
    service.api.state.keyring = keyring
    service.api.state.objects = open_objects(settings.object_directory, keyring)
    service.api.state.signals = RunSignals(settings.database_url.get_secret_value())
    return service

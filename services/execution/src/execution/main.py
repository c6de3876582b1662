"""Execution's table of contents: every router, consumer, job and worker."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import execution
from chassis.addresses import Network
from chassis.migrate import migrations_of
from chassis.objects import open_objects
from chassis.outbound import OutboundClient
from chassis.sealing import Keyring
from execution.api import (
    agent_versions,
    agents,
    allowed_hosts,
    evaluations,
    forks,
    kill_switches,
    model_credentials,
    model_prices,
    orchestration_versions,
    orchestrations,
    promotions,
    run_events,
    run_explanations,
    run_feeds,
    runs,
    runs_bulk,
    schedules,
    steps,
)
from execution.clients.agents import AgentKinds
from execution.clients.fact_tail import FactTail
from execution.clients.http_agent import HttpRunner
from execution.clients.llm import Endpoint, LlmRunner
from execution.clients.mcp_agent import McpRunner
from execution.clients.python_agent import PythonRunner, installed_functions
from execution.consumers import approvals, organizations, subscriptions, users, workspaces
from execution.jobs.children import look_after_children
from execution.jobs.evaluations import judge_evaluations
from execution.jobs.kill_switches import sweep_kill_switches
from execution.jobs.leases import reap_leases
from execution.jobs.months import keep_months
from execution.jobs.schedules import tick_schedules
from execution.settings import Settings
from execution.usecases.admission import admission
from execution.usecases.engine_loop import Options, engine
from execution.usecases.run_feeds import RunFeed, changes_kept
from execution.usecases.run_texts import TextDesk, TextSource
from execution.usecases.wake_ups import WakeUps
from execution.usecases.waking import waking
from spine.facts import handlers_in
from spine.service import Running, Service
from spine.stream import StreamPlace


def build(settings: Settings) -> Service:
    """The execution service."""
    keyring = Keyring.read(settings.key_encryption_file) if settings.key_encryption_file else None
    objects = open_objects(settings.object_directory, keyring)
    wake_ups = WakeUps(settings.database_url.get_secret_value())
    feed = RunFeed(FactTail(StreamPlace.parse(settings.stream_url.get_secret_value()), "execution", changes_kept))
    to_models, to_others = _outbound(settings, with_embedded=True), _outbound(settings, with_embedded=False)
    models = LlmRunner(to_models, embedded=_embedded(settings), to_tools=to_others)
    kinds = _kinds(models, to_others)
    amqp_url = settings.amqp_url.get_secret_value()
    texts, desk = TextSource(amqp_url), TextDesk(amqp_url)
    options = Options(
        agents=kinds, objects=objects, keyring=keyring, on_ended=wake_ups.ended, texts=texts, **_sizes(settings)
    )
    ticks, keeper = tick_schedules(objects, wake_ups), look_after_children(objects, wake_ups)

    async def warm_models(_: Running) -> None:
        await models.warm()

    service = Service(
        "execution",
        settings,
        migrations_of(execution),
        routers=[
            run_feeds.router,  # before runs: `/v1/runs/events` names no run; first is what is asked for most
            runs.router,
            agents.router,
            agent_versions.router,
            allowed_hosts.router,
            evaluations.router,
            promotions.router,
            orchestrations.router,
            orchestration_versions.router,
            kill_switches.router,
            model_credentials.router,
            model_prices.router,
            runs_bulk.router,
            forks.router,
            run_events.router,
            run_explanations.router,
            steps.router,
            schedules.router,
        ],
        consumers=handlers_in(workspaces, organizations, subscriptions, users, approvals),
        jobs=[reap_leases, sweep_kill_switches, ticks, judge_evaluations(objects), keep_months(objects, wake_ups)],
        workers=[engine(options), admission(), waking(), keeper, warm_models, texts.run],
        closing=[to_models.close, to_others.close, wake_ups.close, feed.close, desk.close],
    )
    _hang_in(service, keyring=keyring, objects=objects, wake_ups=wake_ups, feed=feed, desk=desk)
    return service


def _hang_in(service: Service, **parts: object) -> None:
    """What routes use besides their unit of work."""
    for name, part in parts.items():
        setattr(service.api.state, name, part)


def _kinds(models: LlmRunner, to_others: OutboundClient) -> AgentKinds:
    return AgentKinds({
        "llm": models,
        "http": HttpRunner(to_others),
        "python": PythonRunner(installed_functions()),
        "mcp": McpRunner(to_others),
    })  # fmt: skip


def _sizes(settings: Settings) -> dict[str, Any]:
    return {"slots": settings.slots, "detach_seconds": settings.detach_seconds}


def _embedded(settings: Settings) -> Endpoint | None:
    if settings.embedded_model_url is None:
        return None
    key = settings.embedded_model_key_file
    return Endpoint(settings.embedded_model_url, key.read_text().strip() if key else None)


def _outbound(settings: Settings, *, with_embedded: bool) -> OutboundClient:
    """The one client for addresses that callers supply; only models reach the embedded one."""
    allow: list[Network | str] = [ip_network(entry) if "/" in entry else entry for entry in settings.outbound_allow]
    if with_embedded and settings.embedded_model_url:
        allow.append(urlsplit(settings.embedded_model_url).netloc)
    return OutboundClient("execution", allow=allow)

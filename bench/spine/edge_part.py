"""The list of agents through the edge, one process per service and role: beside a bare service, and with traces.

Client, servers and what is measured share the machine; processor time per request does not mind that, throughput does.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from bench.spine.lines import show
from bench.spine.machine import family, named, processor_seconds
from bench.spine.town import LIMIT, PATH, ROWS, Town, load, make_town
from tests.receiver import TraceReceiver

from chassis.migration import role
from contracts.catalog import SERVICES

DOORS = ("gateway.api", "execution.api")
TRACED = "0.1"
PAGE = f"{LIMIT} of {ROWS:,} agents"


@asynccontextmanager
async def bare_service(town: Town) -> AsyncIterator[tuple[int, str]]:
    """The bare list over the town's own database: its process and its URL."""
    url = town.platform.installation.postgres.superuser_url.rpartition("/")[0] + f"/{role('execution')}"
    script = str(Path(__file__).with_name("bare.py"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, url, town.organization_id, stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the bare service has no output")
        word, port = (await process.stdout.readline()).decode().split()
        if word != "READY":
            raise RuntimeError("the bare service did not start")
        yield process.pid, f"http://127.0.0.1:{port}{PATH}"
    finally:
        process.kill()
        await process.wait()


class Meter:
    """Processor time of some groups of processes while something runs, in microseconds per request."""

    def __init__(self, **groups: Callable[[], list[int]]) -> None:
        self.groups = groups
        self.taken: dict[str, list[float]] = {name: [] for name in groups}

    async def over(self, work: Awaitable[float], requests: int) -> float:
        before = {name: processor_seconds(find()) for name, find in self.groups.items()}
        seconds = await work
        for name, find in self.groups.items():
            self.taken[name].append((processor_seconds(find()) - before[name]) / requests * 1e6)
        return seconds


def _pid(town: Town, name: str) -> int:
    pid = town.platform.pid_of(name)
    if pid is None:
        raise RuntimeError(f"{name} is not running")
    return pid


def _doors(town: Town) -> list[int]:
    return [_pid(town, name) for name in DOORS]


def _others(town: Town) -> list[int]:
    names = (f"{service}.{kind}" for service in SERVICES for kind in ("api", "work"))
    return [_pid(town, name) for name in names if name not in DOORS]


def _database(town: Town) -> list[int]:
    return named(family(_pid(town, "postgres")), "postgres")


async def against_bare(town: Town, *, rounds: int, requests: int) -> None:
    """Processor time of edge and service together, over that of the bare service."""
    async with bare_service(town) as (pid, url):
        edge = Meter(python=lambda: _doors(town), others=lambda: _others(town), postgres=lambda: _database(town))
        bare = Meter(python=lambda: [pid], postgres=lambda: _database(town))
        await load(town.session, url, requests // 5, {})
        await town.load(requests // 5)
        for _ in range(rounds):
            await bare.over(load(town.session, url, requests, {}), requests)
            await edge.over(town.load(requests), requests)
    ours, theirs = edge.taken["python"], bare.taken["python"]
    show("edge_list_python_us", ours, "us CPU/request", page=PAGE, processes=list(DOORS))
    show("edge_list_other_python_us", edge.taken["others"], "us CPU/request", processes="the other ten")
    show("edge_list_postgres_us", edge.taken["postgres"], "us CPU/request")
    show("bare_list_python_us", theirs, "us CPU/request", page=PAGE)
    show("bare_list_postgres_us", bare.taken["postgres"], "us CPU/request")
    show("edge_list_vs_bare", [one / other for one, other in zip(ours, theirs, strict=True)], "x", aim="<= 2.5")


@contextmanager
def trace_receiver() -> Iterator[tuple[str, Connection]]:
    """A receiver in a process of its own: its URL, and where to ask how many traces it has seen."""
    here, there = multiprocessing.Pipe()

    def receive() -> None:
        with TraceReceiver() as receiver:
            there.send(receiver.url)
            while True:
                there.recv()
                there.send(len(receiver.trace_ids))

    child = multiprocessing.get_context("fork").Process(target=receive, daemon=True)
    child.start()
    try:
        yield here.recv(), here
    finally:
        child.kill()
        child.join()


async def cost_of_traces(plain: Town, traced: Town, *, rounds: int, requests: int) -> None:
    """What of the throughput goes to recording and sending every tenth trace; and of the processor time."""
    without = Meter(python=lambda: _doors(plain))
    with_them = Meter(python=lambda: _doors(traced))
    await traced.load(requests // 5)
    rates: list[float] = []
    costs: list[float] = []
    for _ in range(rounds):
        bare_seconds = await without.over(plain.load(requests), requests)
        seconds = await with_them.over(traced.load(requests), requests)
        rates.append(requests / bare_seconds)
        costs.append((1 - bare_seconds / seconds) * 100)
    show("edge_list_per_s", rates, "requests/s", at_once=8)
    show("tracing_10_percent_cost", costs, "% of throughput")
    ratios = zip(with_them.taken["python"], without.taken["python"], strict=True)
    show("tracing_10_percent_cpu_cost", [(one / other - 1) * 100 for one, other in ratios], "% of Python CPU")


async def measure_edge(*, rounds: int, requests: int) -> None:
    """First alone beside the bare service; then two platforms in turns, one of which sends traces."""
    with trace_receiver() as (url, receiver):
        told = {"REMIT_OTLP_ENDPOINT": url, "REMIT_TRACE_SAMPLE_RATIO": TRACED}
        async with make_town({}) as plain:
            await against_bare(plain, rounds=rounds, requests=requests)
            async with make_town(told) as traced:
                await cost_of_traces(plain, traced, rounds=rounds, requests=requests)
                await asyncio.sleep(3)  # exporters send once a second
                receiver.send("how many?")
                seen = receiver.recv()
    if not seen:
        raise SystemExit("no trace has arrived: nothing was measured")
    show("traces_received", [seen], "traces", of=requests * rounds + requests // 5)

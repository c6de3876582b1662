"""Which children an installation is made of, in the order they start."""

import asyncio

from remit_local.children import Child, program, rabbitmq_children, server_child
from remit_local.embedded_model import is_ready
from remit_local.environment import whole_environment
from remit_local.loopback import first_answer
from remit_local.platform.installation import MODEL, Installation
from remit_local.platform.turns import TURN, turn_to_wait_for

_READY = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_OK = b"HTTP/1.1 200"
PREPARE, SERVICES = "prepare", "remit"


def children_of(installation: Installation, *, processes: bool, with_model: bool) -> list[Child]:
    """The servers, what prepares them, the model, and the services in one process or in one per service and role."""
    folder = installation.folder
    servers = [server_child(installation.postgres), *rabbitmq_children(installation.rabbitmq)]
    prepare = program(
        PREPARE,
        installation.python("remit_local.platform.prepare", str(folder)),
        lambda: whole_environment({TURN: installation.turn}),
        cwd=folder,
        after=tuple(child.name for child in servers),
        once=True,
        early=True,
    )

    def told() -> dict[str, str]:
        model = installation.model_environment() if with_model else {}
        services = installation.whole_environment(own_ports=processes)
        return whole_environment({**services, **model, **turn_to_wait_for(installation)})

    arguments = ("forks", str(folder / "processes.json")) if processes else ("host",)
    services = program(
        SERVICES,
        installation.python(f"remit_local.platform.{arguments[0]}", *arguments[1:]),
        told,
        cwd=folder,
        ready=lambda: edge_is_ready(installation.edge_port),
        after=(PREPARE,),
        early=True,
    )
    return [*servers, *([_model(installation)] if with_model else []), prepare, services]


async def edge_is_ready(port: int) -> bool:
    """Whether the edge answers that it can serve."""
    return (await asyncio.to_thread(first_answer, port, _READY, len(_OK))) == _OK


def _model(installation: Installation) -> Child:
    async def ready() -> bool:
        return await is_ready(installation.model().base_url)

    return Child(MODEL, lambda: installation.model().command(), ready)

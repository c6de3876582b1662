"""Options that commands share, and how a command speaks to the edge."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from remit_cli.edge import Edge
from remit_cli.place import DATA, find_place

T = TypeVar("T")


@dataclass
class Chosen:
    """What was said before the command's name."""

    data: Path = DATA
    role: str | None = None


chosen = Chosen()

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="The data folder of this machine's Remit [.remit].")
]


def folder_of(data: Path | None) -> Path:
    """Return the data folder: the command's own option, else the one before its name, else `.remit`."""
    return (data or chosen.data).resolve()


def ask(do: Callable[[Edge], Awaitable[T]]) -> T:
    """Do something with the edge, by the key the caller chose."""
    place = find_place(chosen.data, chosen.role)

    async def inside() -> T:
        async with Edge(place) as edge:
            return await do(edge)

    return asyncio.run(inside())


async def id_of(edge: Edge, path: str, name_or_id: str, **narrowed: Any) -> str:
    """Return the id of something by its name; anything that looks like an id is one."""
    if len(name_or_id) == 36 and name_or_id.count("-") == 4:
        return name_or_id
    found = await edge.get(path, name=name_or_id, limit=2, **narrowed)
    items: list[dict[str, Any]] = found["items"]
    if len(items) != 1:
        many = "more than one" if items else "no"
        raise typer.BadParameter(f"there is {many} {path.rsplit('/', 1)[-1].removesuffix('s')} named {name_or_id!r}")
    return str(items[0]["id"])

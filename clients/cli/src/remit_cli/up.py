"""`remit up` and what belongs to it: a platform on this machine, started, looked at and stopped."""

import asyncio
from contextlib import suppress
from pathlib import Path

from rich.markup import escape

from remit_cli.demo import ensure_demo
from remit_cli.failures import CliError
from remit_cli.main_job import run_main_job
from remit_cli.place import DEMO_FILE
from remit_cli.progress import Progress
from remit_cli.show import console
from remit_local.embedded_model import is_installed
from remit_local.platform.edge_port import settle_edge_port
from remit_local.platform.installation import Installation
from remit_local.platform.keep import OUTPUT, detach, install_missing, keep
from remit_local.presence import status

START_SECONDS = 300
_POLL_SECONDS = 0.1


def start(folder: Path, *, processes: bool, detached: bool, port: int | None, with_demo: bool) -> None:
    """Bring the platform up and, unless asked not to, show the main job; stay until Ctrl-C unless detached."""
    progress = Progress()
    install_missing(progress.say, with_model=with_demo)
    port, note = settle_edge_port(folder, port)
    if note:
        progress.say(f"[yellow]{note}[/]")
    installation = Installation(folder, edge_port=port)
    with_model = with_demo or is_installed()
    if detached:
        asyncio.run(_detached(installation, progress, processes=processes, with_model=with_model, with_demo=with_demo))
    else:
        asyncio.run(_attached(installation, progress, processes=processes, with_model=with_model, with_demo=with_demo))


async def _attached(
    installation: Installation, progress: Progress, *, processes: bool, with_model: bool, with_demo: bool
) -> None:
    following = asyncio.create_task(progress.follow(installation.folder))

    async def when_ready() -> None:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        try:
            await _welcome(installation, progress, with_demo=with_demo)
        except CliError as error:
            console().print(f"[red]{escape(str(error))}[/]")  # the platform itself runs; it is not taken down for this
        console().print("\nCtrl-C stops it; nothing is lost.")

    try:
        await keep(installation, processes=processes, with_model=with_model, when_ready=when_ready)
    finally:
        following.cancel()
    console().print("stopped")


async def _detached(
    installation: Installation, progress: Progress, *, processes: bool, with_model: bool, with_demo: bool
) -> None:
    child = detach(installation, processes=processes, with_model=with_model)
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        running = status(installation.folder)
        if running is not None:
            progress.show(running.children)
            if running.state == "ready":
                break
        elif (code := child.poll()) is not None:  # and nobody else was faster
            said = (installation.folder / "logs" / OUTPUT).read_text(errors="replace").strip()
            raise CliError(f"Remit did not start (exit code {code}); `remit logs` says more. {said[-3000:]}")
        if asyncio.get_running_loop().time() > deadline:
            raise CliError(f"Remit is not ready after {START_SECONDS} s; `remit status` and `remit logs` say more")
        await asyncio.sleep(_POLL_SECONDS)
    await _welcome(installation, progress, with_demo=with_demo)


async def _welcome(installation: Installation, progress: Progress, *, with_demo: bool) -> None:
    folder = installation.folder
    console().print(f"\n[bold green]Remit is ready[/] at [bold]{installation.edge}[/] after {progress.seconds:.1f} s")
    demo = await ensure_demo(folder, installation.edge)
    console().print(f"[dim]edge, organization and a key for each role: {folder / DEMO_FILE}[/]")
    if with_demo and not demo.get("run_id"):
        await run_main_job(folder, demo)
    elif with_demo:
        console().print("[dim]`remit demo` shows the main job again.[/]")


async def show_main_job(folder: Path) -> None:
    """Show the main job once more on a running platform."""
    running = status(folder)
    if running is None:
        raise CliError("Remit is not running here: `remit up`")
    found = await ensure_demo(folder, str(running.details["edge"]))
    await run_main_job(folder, found)

"""What a person sees while a platform starts."""

import asyncio
import time
from pathlib import Path
from typing import Any

from remit_cli.show import console
from remit_local.presence import status

LABELS = {
    "postgres": "PostgreSQL",
    "epmd": "",
    "rabbitmq": "RabbitMQ",
    "model": "embedded language model",
    "prepare": "databases, migrations, queues, keys",
    "remit": "identity, billing, policy, execution, audit, gateway",
}
SETTLED = frozenset({"ready", "done"})
TROUBLED = frozenset({"restarting", "crash_loop"})
_POLL_SECONDS = 0.1


class Progress:
    """Prints each child once when it is ready, and again when it gets into trouble."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Print a line."""
        console().print(f"[dim]{self.seconds:5.1f} s[/]  {text}")

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._began

    def show(self, children: dict[str, dict[str, Any]]) -> None:
        """Print what changed."""
        for name, child in children.items():
            state, label = child["state"], LABELS.get(name, name)
            if not label or self._shown.get(name) == state:
                continue
            if state in SETTLED:
                self.say(f"[green]ready[/]  {label}")
            elif state in TROUBLED:
                self.say(f"[yellow]{state.replace('_', ' ')}[/]  {label}: {child['trouble']}")
            elif state not in ("starting", "waiting") or name not in self._shown:
                continue
            self._shown[name] = state

    async def follow(self, folder: Path) -> None:
        """Print what the supervisor of a data folder tells, until cancelled."""
        while True:
            running = status(folder)
            if running is not None:
                self.show(running.children)
            await asyncio.sleep(_POLL_SECONDS)

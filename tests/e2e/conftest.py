"""One platform on a data folder of its own, started by the command a person types."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from remit_local.environment import server_environment
from remit_local.loopback import free_port

UP_SECONDS = 280


@dataclass
class Answer:
    """What the edge said."""

    status: int
    body: Any


class Platform:
    """The command line on one data folder, and the edge it brings up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.first_output = ""

    def remit(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "remit_cli", "--data", str(self.folder), *arguments]
        environment = server_environment({})  # none of the caller's own edge and key
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=seconds)

    def up(self) -> str:
        done = self.remit("up", "--detach", "--port", str(self.port), seconds=UP_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def demo(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "demo.json").read_text())
        return found

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return found

    def ask(self, method: str, path: str, key: str, body: Any = None, **headers: str) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
        request = Request(self.demo["edge"] + path, content, sent, method=method)  # noqa: S310  (our own edge)
        try:
            with urlopen(request, timeout=90) as answer:  # noqa: S310
                return Answer(answer.status, json.load(answer))
        except HTTPError as error:
            return Answer(error.code, json.load(error))


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    started = Platform(tmp_path_factory.mktemp("platform") / "data")
    try:
        started.first_output = started.up()
        yield started
    finally:
        started.remit("down")

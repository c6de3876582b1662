"""A scripted edge on loopback, and the command line run against it."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from remit_cli.app import app
from remit_cli.failures import CliError
from remit_cli.options import chosen
from remit_cli.place import DATA

Answer = tuple[int, Any]


@dataclass
class Asked:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class ScriptedEdge:
    """Answers each `METHOD /path` from a list, the last answer for ever; remembers what was asked."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def on(self, what: str, *answers: Answer) -> None:
        self.answers[what] = list(answers)

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        known = self.answers.get(f"{asked.method} {asked.path}") or self.answers.get(
            f"{asked.method} {asked.path.partition('?')[0]}"
        )
        if not known:
            return 404, {"status": 404, "code": "not_found", "detail": "There is nothing here.", "trace_id": "ab12"}
        return known.pop(0) if len(known) > 1 else known[0]


def _door(edge: ScriptedEdge) -> type[BaseHTTPRequestHandler]:
    class Door(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            status, found = edge.answer(Asked(self.command, self.path, dict(self.headers), body))
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream" if isinstance(found, bytes) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  (the server's names)

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Door


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedEdge]:
    scripted = ScriptedEdge()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _door(scripted))
    scripted.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    monkeypatch.setenv("REMIT_EDGE", scripted.url)
    monkeypatch.setenv("REMIT_API_KEY", "rmt_key")
    yield scripted
    server.shutdown()
    serving.join()
    server.server_close()


class Terminal:
    """Runs command lines as `remit_cli.app.run` does, and keeps what they printed."""

    def __init__(self) -> None:
        self._runner = CliRunner()

    def __call__(self, *arguments: str) -> Result:
        chosen.data, chosen.role = DATA, None
        return self._runner.invoke(app, list(arguments))

    def refused(self, *arguments: str) -> CliError:
        result = self(*arguments)
        assert isinstance(result.exception, CliError), result.output
        return result.exception


@pytest.fixture
def remit() -> Terminal:
    return Terminal()

"""What a person sees of a run while it happens."""

import io
import json
from typing import Any

from clients.cli.tests.conftest import ScriptedEdge, Terminal
from rich.console import Console

from remit_cli.edge import Event
from remit_cli.watch import SHOWN_CHARACTERS, StepTree


def written(text: str, at: int, **more: Any) -> Event:
    told = {"stepName": "draft", "iteration": 0, "attempt": 1, "at": at, "delta": text, "isCut": False, **more}
    return Event("", "TEXT_MESSAGE_CONTENT", told)


def finished() -> Event:
    told = {"stepName": "draft", "iteration": 0, "attempt": 1, "status": "completed", "inputTokens": 1}
    return Event("9", "STEP_FINISHED", told | {"outputTokens": 1, "costUsdMicros": 0})


def seen(tree: StepTree) -> str:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        console.print(tree.shown())
    return captured.get()


def test_a_text_grows_in_its_step_until_the_step_has_ended() -> None:
    tree = StepTree("run")
    assert tree.take(written("Rivers ", 0)) == ""
    tree.take(written("are [bold] wet", 7))
    assert "draft" in seen(tree)
    assert "Rivers are [bold] wet" in seen(tree)
    assert "draft" in tree.take(finished())
    assert "Rivers" not in seen(tree)


def test_what_was_not_heard_and_what_is_void_can_be_seen() -> None:
    tree = StepTree("run")
    tree.take(written("the end", 40))
    assert "… the end" in seen(tree)
    tree.take(written("of it", 60))
    assert "… the end… of it" in seen(tree)
    tree.take(written("anew", 0))
    assert "end" not in seen(tree)
    tree.take(written("second try", 0, attempt=2, isCut=True))
    assert "second try …" in seen(tree)
    tree.take(written("x" * 2 * SHOWN_CHARACTERS, 10, attempt=2))
    assert seen(tree).count("x") == SHOWN_CHARACTERS


def test_texts_are_no_lines_where_there_is_no_terminal(edge: ScriptedEdge, remit: Terminal) -> None:
    run = {"id": "r1", "status": "completed", "cost_usd_micros": 0, "input_tokens": 0, "output_tokens": 0}
    texts = [f"event: TEXT_MESSAGE_CONTENT\ndata: {json.dumps(written('Rivers', at).data)}\n\n" for at in (0, 6)]
    end = "id: ended\nevent: RUN_FINISHED\ndata: {}\n\n"
    edge.on("POST /v1/runs", (202, run | {"status": "queued"}))
    edge.on("GET /v1/runs/r1", (200, run))
    edge.on("GET /v1/runs/r1/events", (200, ("".join(texts) + end).encode()))
    result = remit("runs", "start", "--agent", "a", "--watch")
    assert "Rivers" not in result.stdout
    assert "completed" in result.stdout
    assert edge.asked[0].headers["Prefer"] == "watch"

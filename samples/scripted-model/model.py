"""A model that does not think: an OpenAI-compatible server that answers by rule, for samples where one must choose.

The model this machine runs is too small to choose. `python samples/scripted-model/model.py` starts this one beside it.
"""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ADDRESS = ("127.0.0.1", 18099)
MAX_BYTES = 1_000_000


def lead(asked: dict[str, Any]) -> dict[str, Any]:
    """Give each worker one task, then be done."""
    done = {name for each in asked["history"] for name in each if name != "supervise"}
    for worker in asked["workers"]:
        if worker not in done:
            return {"worker": worker, "task": {"topic": f"{asked['input']['topic']}, for {worker}"}}
    texts = [step["text"] for each in asked["history"] for name, step in each.items() if name != "supervise"]
    return {"done": True, "answer": " ".join(texts)}


def triage(asked: dict[str, Any]) -> dict[str, Any]:
    """Hand over to whoever knows about it."""
    return {"handoff": "invoices" if "invoice" in asked["input"]["question"] else "support"}


def support(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer it."""
    return {"answer": f"We will look into it: {asked['input']['question']}"}


MODELS = {"lead": lead, "triage": triage, "support": support, "invoices": support}


class Door(BaseHTTPRequestHandler):
    """`POST /v1/chat/completions`, answered at once or as a stream of one chunk."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(min(int(self.headers["Content-Length"]), MAX_BYTES)))
        question = json.loads(asked["messages"][-1]["content"])
        text = json.dumps(MODELS[asked["model"]](question))
        usage = {"prompt_tokens": len(str(question)) // 4, "completion_tokens": len(text) // 4}
        usage["total_tokens"] = sum(usage.values())
        answer = {"id": "scripted", "created": int(time.time()), "model": asked["model"], "usage": usage}
        if asked.get("stream"):
            delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            chunk = answer | {"object": "chat.completion.chunk", "choices": [delta]}
            self._answer(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", "text/event-stream")
        else:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer(json.dumps(answer | {"object": "chat.completion", "choices": [choice]}), "application/json")

    def _answer(self, text: str, kind: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *parts: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    print("a scripted model listens at http://{}:{}/v1".format(*ADDRESS))
    ThreadingHTTPServer(ADDRESS, Door).serve_forever()

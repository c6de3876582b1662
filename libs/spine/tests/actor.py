"""A relay or a consumer in a process of its own, so that a test can kill -9 it."""

from __future__ import annotations

import json
import sys

import uvloop
from libs.spine.tests.stage import Stage, StreamPlace, happened, recorder

from remit_local.testing import Servers


async def act(role: str, servers: Servers, producer: str, consumer: str) -> None:
    stage = Stage(servers, producer, consumer, StreamPlace.parse(servers.stream_url))
    if role == "relay":
        await stage.relay().run()
    else:
        await stage.loop(recorder(happened(producer))).run()


if __name__ == "__main__":
    role, servers, producer, consumer = sys.argv[1:]
    uvloop.run(act(role, Servers(**json.loads(servers)), producer, consumer))

"""A worker as a process of its own, to be killed: `python engine_worker.py <JSON of Addresses>`."""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys
from ipaddress import ip_network

from chassis.outbound import OutboundClient
from execution.clients.agents import AgentKinds
from execution.clients.http_agent import HttpRunner
from execution.usecases.engine_loop import Addresses, EngineWorker, Options


async def main() -> None:
    outbound = OutboundClient("execution", allow=[ip_network("127.0.0.0/8")])
    agents = AgentKinds({"http": HttpRunner(outbound)})
    await EngineWorker(Addresses(**json.loads(sys.argv[1])), Options(agents=agents)).run()


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, 9)  # not to outlive the test
    asyncio.run(main())

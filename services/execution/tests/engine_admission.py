"""An admission as a process of its own, to be killed: `python engine_admission.py <JSON of Addresses>`."""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys

from execution.usecases.admission import Admission
from execution.usecases.engine_loop import Addresses

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, 9)  # not to outlive the test
    asyncio.run(Admission(Addresses(**json.loads(sys.argv[1]))).run())

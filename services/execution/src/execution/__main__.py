"""`python -m execution api|work|all`."""

from __future__ import annotations

from execution.main import build
from execution.settings import Settings
from spine.process import main

if __name__ == "__main__":
    main(build, Settings, "execution")

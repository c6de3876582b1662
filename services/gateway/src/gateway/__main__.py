"""`python -m gateway api|work|all`."""

from gateway.main import build
from gateway.settings import Settings
from spine.process import main

main(build, Settings, "gateway")

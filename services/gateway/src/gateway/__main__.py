"""`python -m gateway api|work|all`."""

from chassis.process import main
from gateway.main import build
from gateway.settings import Settings

main(build, Settings, "gateway")

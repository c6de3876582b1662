"""`python -m policy api|work|all`."""

from chassis.process import main
from policy.main import build
from policy.settings import Settings

main(build, Settings, "policy")

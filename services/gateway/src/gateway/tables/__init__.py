"""Rows of gateway's own database."""

from sqlalchemy import MetaData

from chassis.db import NAMING
from chassis.db import Row as ChassisRow


class Row(ChassisRow):
    """The root of gateway's rows."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)

"""Rows of audit's own database."""

from sqlalchemy import MetaData

from chassis.db import NAMING
from chassis.db import Row as ChassisRow


class Row(ChassisRow):
    """The root of audit's rows."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)

"""Rows of identity's own database."""

from sqlalchemy import MetaData

from chassis.db import NAMING
from chassis.db import Row as ChassisRow


class Row(ChassisRow):
    """The root of identity's rows."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from audit.domain.leaves import Partitions, leaf_hash

JANUARY = datetime(2027, 1, 15, tzinfo=UTC)


def id_at(time: datetime) -> bytes:
    digits = f"{int(time.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}-7abc-8def-0123456789ab".encode()


def test_a_leaf_is_rfc_6962s_over_the_numbers_and_the_bytes() -> None:
    leaf = b"remit-leaf/1 execution 2 17 5\n{}"
    assert leaf_hash("execution", 2, 17, 5, b"{}") == hashlib.sha256(b"\0" + leaf).digest()
    assert leaf_hash("execution", 2, 17, 5, b"{}") != leaf_hash("execution", 2, 1, 75, b"{}")


@pytest.mark.parametrize(
    ("time", "partition"),
    [
        (datetime(2026, 12, 1, tzinfo=UTC), "entry_90_202612"),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), "entry_90_202612"),
        (datetime(2027, 1, 1, tzinfo=UTC), "entry_90_202701"),
        (datetime(2027, 3, 31, tzinfo=UTC), "entry_90_202703"),
    ],
)
def test_the_month_of_an_id_is_its_partition(time: datetime, partition: str) -> None:
    assert Partitions(90, JANUARY).of(id_at(time)) == partition


@pytest.mark.parametrize("time", [datetime(2026, 11, 30, tzinfo=UTC), datetime(2027, 4, 1, tzinfo=UTC)])
def test_a_time_without_a_partition_is_refused(time: datetime) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Partitions(90, JANUARY).of(id_at(time))


def test_partitions_are_a_months() -> None:
    partitions = Partitions(90, JANUARY)
    assert partitions.are_of(datetime(2027, 1, 31, tzinfo=UTC))
    assert not partitions.are_of(datetime(2027, 2, 1, tzinfo=UTC))

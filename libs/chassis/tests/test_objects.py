from __future__ import annotations

from pathlib import Path

import pytest

from chassis.errors import TooLargeError, UnavailableError
from chassis.ids import new_id
from chassis.objects import OBJECT_BYTES, DirectoryObjects, NoObjects, open_objects
from chassis.sealing import Keyring, UnsealError

pytestmark = pytest.mark.anyio
KEYRING = Keyring("k", {"k": bytes(32)})


def _files(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]


async def test_the_same_bytes_of_a_run_are_one_sealed_object(tmp_path: Path) -> None:
    objects, organization_id, run_id = DirectoryObjects(tmp_path, KEYRING), new_id(), new_id()
    key = await objects.put(organization_id, run_id, b"river")
    assert key.startswith(f"{organization_id}/{run_id}/")
    assert await objects.put(organization_id, run_id, b"river") == key
    assert await objects.get(key) == b"river"
    (stored,) = _files(tmp_path)
    assert b"river" not in stored


async def test_an_object_opens_only_under_its_own_name(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path, KEYRING)
    key = await objects.put(new_id(), new_id(), b"mine")
    other = f"{new_id()}/{new_id()}/{key.rsplit('/', 1)[1]}"
    (tmp_path / other).parent.mkdir(parents=True)
    (tmp_path / other).write_bytes((tmp_path / key).read_bytes())
    with pytest.raises(UnsealError):
        await objects.get(other)


async def test_what_is_too_large_or_gone_is_refused(tmp_path: Path) -> None:
    objects = DirectoryObjects(tmp_path, KEYRING)
    with pytest.raises(TooLargeError):
        await objects.put(new_id(), new_id(), bytes(OBJECT_BYTES + 1))
    with pytest.raises(UnavailableError):
        await objects.get(f"{new_id()}/{new_id()}/none")


async def test_without_a_place_or_a_key_nothing_is_kept(tmp_path: Path) -> None:
    assert isinstance(open_objects(None, KEYRING), NoObjects)
    nothing = open_objects(tmp_path, None)
    with pytest.raises(TooLargeError):
        await nothing.put(new_id(), new_id(), b"x")
    with pytest.raises(UnavailableError):
        await nothing.get("key")


async def test_a_disk_that_takes_no_more_is_told_and_keeps_no_half_object(tmp_path: Path) -> None:
    objects, organization_id, run_id = DirectoryObjects(tmp_path, KEYRING), new_id(), new_id()
    (tmp_path / str(organization_id)).write_bytes(b"a file where a folder has to be")
    with pytest.raises(UnavailableError, match="cannot keep this now") as refusal:
        await objects.put(organization_id, run_id, b"river")
    assert refusal.value.code == "object_store_unavailable"
    assert len(_files(tmp_path)) == 1

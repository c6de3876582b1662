from __future__ import annotations

import json
from typing import TYPE_CHECKING

from contracts import catalog
from remit_local.dev.golden import as_text, differences, message_schemas, orphans, write

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_and_a_changed_file_are_named_then_written(tmp_path: Path) -> None:
    wanted = {tmp_path / "new" / "a.json": "1\n", tmp_path / "b.json": "2\n", tmp_path / "c.json": "3\n"}
    (tmp_path / "b.json").write_text("old\n")
    (tmp_path / "c.json").write_text("3\n")
    assert differences(wanted) == [
        f"{tmp_path / 'new' / 'a.json'}: missing",
        f"{tmp_path / 'b.json'}: differs from the code",
    ]
    assert write(wanted) == [tmp_path / "new" / "a.json", tmp_path / "b.json"]
    assert not differences(wanted)
    assert write(wanted) == []


def test_a_schema_without_a_message_is_named(tmp_path: Path) -> None:
    wanted = message_schemas(tmp_path)
    write(wanted)
    assert not orphans(wanted, tmp_path)
    (tmp_path / "gone.v1.json").touch()
    assert orphans(wanted, tmp_path) == [f"{tmp_path / 'gone.v1.json'}: no such message"]


def test_every_message_of_the_catalog_has_a_file(tmp_path: Path) -> None:
    names = {path.name.removesuffix(".json") for path in message_schemas(tmp_path)}
    assert names == {*catalog.FACTS, *catalog.COMMANDS, *catalog.REPLIES}


def test_text_is_the_same_whatever_the_order_of_keys() -> None:
    text = as_text({"b": 1, "a": "ü"})
    assert text == as_text({"a": "ü", "b": 1})
    assert json.loads(text) == {"a": "ü", "b": 1}
    assert "ü" in text

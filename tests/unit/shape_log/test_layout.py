from __future__ import annotations

import pytest

from pgshapes.shape_log.file_store.layout import Layout, is_handle, snapshot_name, snapshot_number

HANDLE = "ab" + "0" * 30


def test_paths() -> None:
    layout = Layout("/data")
    assert layout.directory(HANDLE) == f"/data/shapes/ab/{HANDLE}"
    assert layout.prefix(HANDLE) == "/data/shapes/ab"
    assert layout.trash == "/data/trash"


@pytest.mark.parametrize(
    "text", ["", "..", "AB" + "0" * 30, HANDLE + "0" * 9, HANDLE[1:], HANDLE + "\n", "٣" * 32]
)
def test_invalid_handles(text: str) -> None:
    assert not is_handle(text)
    with pytest.raises(ValueError, match="handle"):
        Layout("/data").directory(text)


def test_snapshot_names() -> None:
    for number in (0, 1, 10, 12345):
        assert snapshot_number(snapshot_name(number)) == number
    for name in ("snapshot.", "snapshot.01", "snapshot.1x", "snapshot.-1", "log", "snapshot.1\n"):
        assert snapshot_number(name) is None

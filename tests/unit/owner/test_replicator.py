"""A replicator that cannot be made leaves the storage directory to the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgshapes.config import Settings
from pgshapes.errors import ConfigError
from pgshapes.owner.replicator import Replicator
from pgshapes.owner.storage_dir import StorageDir
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.tables import Tables


def test_a_failed_start_releases_the_storage_directory(tmp_path: Path) -> None:
    def make_store() -> ShapeStore:
        raise ConfigError("cannot write")

    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none", insecure=True, storage_dir=tmp_path
    )
    with pytest.raises(ConfigError, match="cannot write"):
        Replicator(settings, Tables(), make_store)
    StorageDir(tmp_path).release()

"""What the catalogue of a running server has."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from pgshapes.owner.catalogue import CATALOGUE_VERSION


def is_durable(storage_dir: Path) -> bool:
    """Whether the one shape would survive a kill: its snapshot is complete in the catalogue."""
    path = storage_dir / f"catalogue.v{CATALOGUE_VERSION}.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as catalogue:
        row = catalogue.execute("SELECT is_snapshot_complete FROM shapes").fetchone()
    return bool(row and row[0])

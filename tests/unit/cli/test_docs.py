"""The generated pages in the repository are up to date."""

from __future__ import annotations

from pathlib import Path

from pgshapes.cli.docs import render_configuration
from pgshapes.config import settings

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_configuration_page_is_up_to_date() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == render_configuration(), "run make docs"


def test_every_setting_has_a_section() -> None:
    page = render_configuration()
    for setting in settings():
        assert f"\n## {setting.name}\n" in page
        assert f"`{setting.flag}`" in page
        assert all(f"`{variable}`" in page for variable in setting.variables)

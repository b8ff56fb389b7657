"""The versions of Postgres that the tests run on: found, or missing with a reason."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from tests.support.postgres import installations
from tests.support.postgres.installations import (
    FOLDER,
    VERSIONS,
    chosen_version,
    programs_of,
    versions_at_hand,
)

from pgshapes.errors import ConfigError


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without packages; the folder for installations of its system."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(installations, "_SYSTEM", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("other_machine")
def test_a_version_without_a_package_is_missing_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"^Postgres 14: npm has no package for \w+-riscv64$"):
        programs_of(14)
    reasons = versions_at_hand()
    assert {version for version, reason in reasons.items() if reason} == {14, 15, 17}
    installations.install(14)


def test_an_installation_of_the_system_takes_its_place(other_machine: Path) -> None:
    programs = other_machine / "14" / "bin"
    programs.mkdir(parents=True)
    (programs / "postgres").touch()
    assert programs_of(14) == programs
    assert not versions_at_hand()[14]


def test_a_version_that_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = Path("17", "package.json")
    (tmp_path / package).parent.mkdir()
    (tmp_path / package).write_bytes((FOLDER / package).read_bytes())
    monkeypatch.setattr(installations, "FOLDER", tmp_path)
    monkeypatch.setattr(installations, "_SYSTEM", tmp_path)
    with pytest.raises(ConfigError, match=r"run `make test-pg PG=17`"):
        programs_of(17)


@pytest.mark.parametrize(("text", "version"), [("", None), ("14", 14)])
def test_a_version_is_chosen(monkeypatch: pytest.MonkeyPatch, text: str, version: int | None) -> None:
    monkeypatch.setenv("PGSHAPES_TEST_PG", text)
    assert chosen_version() == version


def test_an_unknown_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSHAPES_TEST_PG", "13")
    with pytest.raises(ConfigError, match=rf"no tests on Postgres 13: choose one of {VERSIONS[0]}, 15"):
        chosen_version()

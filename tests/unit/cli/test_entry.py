"""Exit codes, and the line that a failed command prints."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from click.testing import CliRunner

from pgshapes import __version__
from pgshapes.cli import main
from pgshapes.cli.entry import commands
from pgshapes.cli.secret_arguments import secret_arguments
from pgshapes.cli.serve import serve
from pgshapes.config import Settings, settings
from pgshapes.errors import ConfigError, NotNow, PgShapesError, RequestError
from pgshapes.redaction import Redaction


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pgshapes", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(autouse=True)
def _own_redaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests hide is not hidden from the other tests of the process."""
    own = Redaction()
    for module in ("entry", "secret_arguments"):
        monkeypatch.setattr(f"pgshapes.cli.{module}.redaction", own)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in settings():
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)


@pytest.mark.usefixtures("no_settings")
def test_wrong_settings_print_one_line_and_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "serve", "--insecure") == 2
    error = capsys.readouterr().err
    assert error.startswith("pgshapes: no database: set DATABASE_URL")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["serve", "--prot", "1"], ["nothing"], ["tail"]])
def test_wrong_usage_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert "Usage: pgshapes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("do this\nor that"), 2, "pgshapes: do this or that\n"),
        (NotNow("no answer"), 1, "pgshapes: no answer\n"),
        (
            RequestError(errors={"table": ["not there"], "subset": {"limit": ["too small"]}}),
            1,
            "pgshapes: Invalid request: table: not there; subset: limit: too small\n",
        ),
    ],
)
def test_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: PgShapesError,
    status: int,
    line: str,
) -> None:
    def fail(settings: Any) -> int:
        raise error

    monkeypatch.setattr("pgshapes.cli.serve.run_server", fail)
    assert run(monkeypatch, "serve", "--insecure", "--database-url", "postgresql://a@b/c") == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "postgresql://me:zebra-zoo@db/app"],
        ["serve", "--insecure", "zebra-zoo"],
        ["serve", "--secrt", "zebra-zoo"],
        ["serve", "--secrt=zebra-zoo"],
        ["serve", "--insecure=zebra-zoo"],
        ["serve", "--database-url", "postgresql://me:x@zebra-zoo@db/app"],
        ["serve", "--database-url=zebra-zoo"],
        ["serve", "--pooled-database-url=zebra-zoo", "--database-url=postgresql://a@b/c", "--insecure"],
        ["postgresql://me:zebra-zoo@db/app"],
        ["tail", "postgresql://me:zebra-zoo@db/app", "x", "y"],
    ],
)
def test_messages_about_usage_contain_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert "zebra" not in "".join(capsys.readouterr())


def test_secrets_are_found_on_the_command_line() -> None:
    arguments = ["serve", "--secret", "a", "--port", "1", "--database-url=b=c", "--host=d", "e://f@g", "h"]
    assert secret_arguments(arguments) == ["a", "b=c", "e://f@g"]
    assert secret_arguments([]) == []


def test_options_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []

    def keep(settings: Settings) -> int:
        served.append(settings)
        return 0

    monkeypatch.setattr("pgshapes.cli.serve.run_server", keep)
    monkeypatch.setenv("PGSHAPES_ALLOW_DELETE", "true")
    monkeypatch.setenv("ELECTRIC_PORT", "7")
    arguments = ["serve", "--database-url", "postgresql://a@b/c", "--secret", "s", "--workers", "3"]
    assert run(monkeypatch, *arguments, "--no-allow-delete", "--long-poll-timeout-ms", "2s") == 0
    (got,) = served
    assert (got.secret, got.workers, got.port, got.allow_delete) == ("s", 3, 7, False)
    assert got.long_poll_timeout_ms == 2000


def test_the_status_of_the_server_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgshapes.cli.serve.run_server", lambda settings: 5)
    assert run(monkeypatch, "serve", "--insecure", "--database-url", "postgresql://a@b/c") == 5


def test_every_setting_is_an_option() -> None:
    names = {parameter.name for parameter in serve.params}
    assert names == {setting.name for setting in settings()}


def test_help_and_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert __version__ in capsys.readouterr().out
    for command in ("serve", "dev", "doctor", "tail", "docs"):
        assert CliRunner().invoke(commands, [command, "--help"]).exit_code == 0

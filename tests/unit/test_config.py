"""Settings: their sources, the values and messages of errors, and that secrets are masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgshapes.config import Settings, settings
from pgshapes.config_values import (
    ConcurrencyLimits,
    find_unknown_restrictions,
    parse_duration_ms,
    parse_size_bytes,
)
from pgshapes.database_url import redact_url
from pgshapes.errors import ConfigError

URL = "postgresql://me:hush@db:5432/app"
ENOUGH = {"DATABASE_URL": URL, "ELECTRIC_INSECURE": "true"}


def load(**env: str) -> Settings:
    return Settings.load({**ENOUGH, **env})


def complaint(env: dict[str, str], flags: dict[str, str | bool | None] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        Settings.load(env, flags)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_defaults() -> None:
    loaded = load()
    assert loaded.database_url == URL
    assert loaded.pooled_database_url is None
    assert (loaded.port, loaded.storage_dir, loaded.long_poll_timeout_ms) == (
        3000,
        Path("persistent"),
        20_000,
    )
    assert (loaded.cache_max_age_s, loaded.cache_stale_age_s) == (60, 300)
    assert loaded.chunk_bytes_threshold == 10_485_760
    assert loaded.max_txn_size_bytes == 262_144_000
    assert loaded.max_concurrent_requests == ConcurrencyLimits(initial=300, existing=10_000)
    assert loaded.max_shapes == 50_000
    assert loaded.workers >= 1
    assert not loaded.allow_delete


# Every variable of Electric's that is essential for a compatible server.
ESSENTIAL: list[tuple[str, str, str, Any]] = [
    ("DATABASE_URL", "postgres://a@b/c", "database_url", "postgres://a@b/c"),
    ("ELECTRIC_POOLED_DATABASE_URL", URL, "pooled_database_url", URL),
    ("ELECTRIC_DB_POOL_SIZE", "7", "db_pool_size", 7),
    ("ELECTRIC_PORT", "4000", "port", 4000),
    ("ELECTRIC_ENABLE_INTEGRATION_TESTING", "true", "allow_delete", True),
    ("ELECTRIC_CACHE_MAX_AGE", "5", "cache_max_age_s", 5),
    ("ELECTRIC_CACHE_STALE_AGE", "6", "cache_stale_age_s", 6),
    ("ELECTRIC_LONG_POLL_TIMEOUT", "2sec", "long_poll_timeout_ms", 2000),
    ("ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD", "10KiB", "chunk_bytes_threshold", 10_240),
    (
        "ELECTRIC_MAX_CONCURRENT_REQUESTS",
        '{"initial": 1, "existing": 2}',
        "max_concurrent_requests",
        ConcurrencyLimits(1, 2),
    ),
    ("ELECTRIC_MAX_SHAPES", "9", "max_shapes", 9),
    ("ELECTRIC_EXPERIMENTAL_MAX_SHAPES", "9", "max_shapes", 9),
    ("ELECTRIC_STORAGE_DIR", "/data", "storage_dir", Path("/data")),
    ("ELECTRIC_REPLICATION_STREAM_ID", "Blue_1", "replication_stream_id", "blue_1"),
    ("CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN", "true", "cleanup_replication_slots_on_shutdown", True),
    ("ELECTRIC_MANUAL_TABLE_PUBLISHING", "1", "manual_table_publishing", True),
    ("ELECTRIC_EXPERIMENTAL_MAX_TXN_SIZE", "1000", "max_txn_size_bytes", 1000),
    ("ELECTRIC_PROMETHEUS_PORT", "9090", "prometheus_port", 9090),
    ("ELECTRIC_LOG_LEVEL", "warn", "log_level", "warning"),
]


@pytest.mark.parametrize(("variable", "text", "name", "value"), ESSENTIAL)
def test_the_variables_of_electric_are_used(variable: str, text: str, name: str, value: Any) -> None:
    assert getattr(load(**{variable: text}), name) == value


@pytest.mark.parametrize(("variable", "text", "name", "value"), ESSENTIAL)
def test_pgshapes_variables_take_precedence(variable: str, text: str, name: str, value: Any) -> None:
    other = {"database_url": "postgres://other@b/c", "pooled_database_url": "postgres://other@b/c"}
    assert getattr(load(**{variable: other.get(name, "0"), f"PGSHAPES_{name.upper()}": text}), name) == value


def test_secret_and_insecure() -> None:
    assert Settings.load({"DATABASE_URL": URL, "ELECTRIC_SECRET": "s"}).secret == "s"
    assert "PGSHAPES_SECRET" in complaint({"DATABASE_URL": URL})
    assert "keep one" in complaint({**ENOUGH, "PGSHAPES_SECRET": "s"})


def test_options_take_precedence_over_variables() -> None:
    loaded = Settings.load(
        {**ENOUGH, "PGSHAPES_PORT": "1"}, {"port": "2", "host": None, "workers": "0", "allow_delete": True}
    )
    assert (loaded.port, loaded.host, loaded.workers, loaded.allow_delete) == (2, "0.0.0.0", 0, True)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(PGSHAPES_PORT="", ELECTRIC_PORT="4000").port == 4000


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("PGSHAPES_PORT", "http", "PGSHAPES_PORT must be a port number"),
        ("PGSHAPES_PORT", "65536", "must be a port number"),
        ("PGSHAPES_PORT", "tcp://10.0.0.1:3000", "enableServiceLinks"),
        ("PGSHAPES_WORKERS", "-1", "zero or more"),
        ("ELECTRIC_MAX_SHAPES", "0", "one or more"),
        ("ELECTRIC_INSECURE", "perhaps", "true or false"),
        ("ELECTRIC_LONG_POLL_TIMEOUT", "1h", "a duration"),
        ("ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD", "1TB", "a size"),
        ("ELECTRIC_MAX_CONCURRENT_REQUESTS", "{", "JSON with both keys"),
        ("ELECTRIC_MAX_CONCURRENT_REQUESTS", '{"initial": 1}', "JSON with both keys"),
        ("ELECTRIC_MAX_CONCURRENT_REQUESTS", '{"initial": 0, "existing": 1}', "JSON with both keys"),
        ("ELECTRIC_MAX_CONCURRENT_REQUESTS", '{"initial": true, "existing": 1}', "JSON with both keys"),
        ("ELECTRIC_REPLICATION_STREAM_ID", "a-b", "underscores"),
        ("ELECTRIC_LOG_LEVEL", "loud", "must be debug"),
        ("DATABASE_URL", "mysql://me@db/app", "postgresql://"),
        ("DATABASE_URL", "postgresql://db/app", "no user name"),
        ("DATABASE_URL", "postgresql://me@db/app?sslmode=strict", "sslmode"),
        (
            "ELECTRIC_DATABASE_CA_CERTIFICATE_FILE",
            "/not/there.pem",
            "names a file that cannot be read: No such",
        ),
        ("ELECTRIC_DATABASE_CA_CERTIFICATE_FILE", "/", "names a file that cannot be read"),
        ("DATABASE_URL", "postgresql://me@db/app?replication=database", "replication"),
        ("DATABASE_URL", "postgresql://me:p@[db/app", "brackets"),
    ],
)
def test_invalid_values(variable: str, text: str, words: str) -> None:
    message = complaint({**ENOUGH, variable: text})
    assert message.startswith(variable)
    assert words in message


@pytest.fixture
def root_certificate(tmp_path: Path) -> Path:
    file = tmp_path / "root.pem"
    file.write_text("certificates")
    return file


@pytest.mark.parametrize("name", ["database_url", "pooled_database_url"])
@pytest.mark.parametrize("off", ["sslmode=disable", "ssl=false"])
def test_a_ca_certificate_contradicts_a_connection_without_tls(
    root_certificate: Path, name: str, off: str
) -> None:
    message = complaint(
        {
            **ENOUGH,
            f"PGSHAPES_{name.upper()}": f"{URL}?{off}",
            "ELECTRIC_DATABASE_CA_CERTIFICATE_FILE": str(root_certificate),
        }
    )
    assert message.startswith(f"database_ca_certificate_file is set, but {name} has sslmode=disable")


def test_the_path_of_a_certificate_is_absolute(
    root_certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root_certificate.parent)
    loaded = load(PGSHAPES_DATABASE_CA_CERTIFICATE_FILE="root.pem")
    assert loaded.database_ca_certificate_file == root_certificate


def test_no_database() -> None:
    assert "DATABASE_URL" in complaint({"ELECTRIC_INSECURE": "true"})


def test_an_error_about_an_option_names_the_option() -> None:
    assert complaint(ENOUGH, {"port": "x"}).startswith("--port ")


def test_an_error_does_not_repeat_the_url() -> None:
    assert "hush" not in complaint({**ENOUGH, "DATABASE_URL": "mysql://me:hush@db/app"})


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("20000", 20_000),
        ("5ms", 5),
        ("5 msec", 5),
        ("1.5s", 1500),
        ("2sec", 2000),
        ("1m", 60_000),
        ("2min", 120_000),
    ],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10", 10),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("2MB", 2_000_000),
        ("2 MiB", 2**21),
        ("1GB", 10**9),
        ("0.5GiB", 2**29),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


def test_repr_shows_no_secret() -> None:
    shown = repr(
        Settings(
            database_url=URL,
            pooled_database_url="postgres://a@b/c?password=hush&sslmode=allow",
            secret="s3cret",
        )
    )
    assert "hush" not in shown
    assert "s3cret" not in shown
    assert "postgresql://me:***@db:5432/app" in shown


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        (URL, "postgresql://me:***@db:5432/app"),
        ("postgresql://me@db/app", "postgresql://me@db/app"),
        ("postgres://me:a%40b@[::1]:5/x?sslmode=allow", "postgres://me:***@[::1]:5/x?sslmode=allow"),
        ("postgres://db/x?user=me&password=p", "postgres://db/x?user=me&password=***"),
        ("postgresql://me@/app?host=/run/pg", "postgresql://me@/app?host=/run/pg"),
        ("postgresql://me@db/app?options=-c%20a=b&x=y", "postgresql://me@db/app?options=***&x=***"),
        ("postgresql://me:hu@sh@db/app", "***"),
        ("host=db user=me password=hush", "***"),
    ],
)
def test_redaction(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted


def test_the_secrets_are_known_in_every_form() -> None:
    loaded = load(
        PGSHAPES_DATABASE_URL="postgresql://me:a%40b@db/app?sslpassword=key-pass",
        PGSHAPES_POOLED_DATABASE_URL="user=me password='with space' host=db",
    )
    assert loaded.secrets() == {"a%40b", "a@b", "key-pass", "with space"}
    # What is shown as a name is not treated as a secret.
    assert load(PGSHAPES_DATABASE_URL="postgresql://postgres:postgres@db/app").secrets() == set()


def test_settings_are_frozen_and_documented() -> None:
    with pytest.raises(AttributeError):
        load().port = 1  # type: ignore[misc]  # what must fail
    for setting in settings():
        assert setting.about.endswith(".")
        assert setting.variables[0] == f"PGSHAPES_{setting.name.upper()}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_REQUIRE_SSL", "true"),
        ("ELECTRIC_DATABASE_SSL_MODE", "verify-full"),
        ("ELECTRIC_DATABASE_TLS_CA_FILE", "/ca.pem"),
        ("ELECTRIC_AUTH_MODE", "secure"),
        ("PGSHAPES_API_SECRET", "misspelt"),
        ("PGSHAPES_CA_CERTIFICATE_FILE", "/ca.pem"),
    ],
)
def test_a_restriction_that_is_not_understood_stops_the_start(variable: str, value: str) -> None:
    said = complaint({**ENOUGH, variable: value})
    assert said.startswith(f"{variable} would make the server stricter, but is not a setting of pgshapes")
    assert value not in said.replace(variable, "").replace("docs/configuration.md", "")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_REQUIRE_SSL", "false"),
        ("ELECTRIC_AUTH_MODE", "insecure"),
        ("ELECTRIC_AUTH_SERVICE_HOST", "10.0.0.7"),
        ("ELECTRIC_AUTH_PORT_80_TCP", "tcp://10.0.0.7:80"),
        ("ELECTRIC_USAGE_REPORTING", "true"),
        ("APP_SECRET", "of another program"),
    ],
)
def test_other_variables_are_ignored(variable: str, value: str) -> None:
    load(**{variable: value})


def test_every_setting_is_known() -> None:
    for setting in settings():
        assert find_unknown_restrictions(dict.fromkeys(setting.variables, "x"), setting.variables) == []

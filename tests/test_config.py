"""Settings: where a value comes from, what is accepted, what is refused, and what is shown."""

import argparse
import dataclasses
import ipaddress
from collections.abc import Mapping
from pathlib import Path

import pytest

from remora_server import __main__, app, config
from remora_server.config import Config, ConfigError


def load(
    environ: Mapping[str, str] | None = None, *arguments: str, not_yet: config.Unsupported = config.NOT_YET
) -> Config:
    """Load the settings as a program does that was given these flags in this environment."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    config.add_flags(parser)
    return config.load(environ or {}, parser.parse_args(arguments), not_yet)


def rows(settings: Config) -> dict[str, tuple[str, str]]:
    """Give the shown value and the origin of each setting."""
    return {row.name: (row.value, row.origin) for row in settings.rows()}


def test_nothing_needs_to_be_set() -> None:
    """With nothing set, every setting has its documented default, and says so."""
    settings = load()
    assert settings == Config()
    assert settings.data == Path("remora-data")
    assert (settings.listen, settings.grpc_port, settings.http_port) == ("127.0.0.1", 7460, 8460)
    assert settings.max_file_bytes == 5 * 2**30
    assert (settings.plane_max_bytes, settings.yandex_max_bytes) == (5 * 2**20, 2**30)
    assert settings.quota_bytes == 0
    assert settings.ticket_ttl_seconds == 24 * 3600
    assert settings.gc_grace_seconds == 7 * 24 * 3600
    assert (settings.idle_timeout_seconds, settings.drain_timeout_seconds, settings.min_rate) == (60, 30, 1024)
    assert (settings.dedup_mode, settings.strict_issues, settings.strip_query) == ("READABLE", False, ())
    assert settings.sqlite_path == Path("remora-data/remora.db")
    assert settings.blobs_path == Path("remora-data/blobs")
    assert {row.origin for row in settings.rows()} == {"default"}


def test_environment_and_flags_name_their_settings() -> None:
    """A value tells which variable or flag it came from, and a flag wins over the environment."""
    settings = load(
        {"REMORA_GRPC_PORT": "1", "REMORA_HTTP_PORT": "2", "REMORA_TICKET_TTL": "30m"},
        "--grpc-port",
        "0",
        "--strict-issues",
    )
    assert (settings.grpc_port, settings.http_port, settings.ticket_ttl_seconds) == (0, 2, 1800)
    shown = rows(settings)
    assert shown["REMORA_GRPC_PORT"] == ("0", "flag --grpc-port")
    assert shown["REMORA_HTTP_PORT"] == ("2", "environment REMORA_HTTP_PORT")
    assert shown["REMORA_TICKET_TTL"] == ("1800", "environment REMORA_TICKET_TTL")
    assert shown["REMORA_STRICT_ISSUES"] == ("true", "flag --strict-issues")
    assert shown["REMORA_LOG"] == ("info", "default")


def test_a_switch_can_be_turned_off_by_its_flag() -> None:
    """`--no-strict-issues` wins over an environment that turns it on."""
    assert load({"REMORA_STRICT_ISSUES": "yes"}).strict_issues
    assert not load({"REMORA_STRICT_ISSUES": "1"}, "--no-strict-issues").strict_issues


def test_an_empty_variable_is_not_set() -> None:
    """An empty variable, as compose files leave them, means the default."""
    assert load({"REMORA_GRPC_PORT": "", "REMORA_DATA": " "}) == Config()


def test_flags_work_on_a_command_and_its_subcommand() -> None:
    """A flag before the subcommand survives a subcommand that knows the same flag."""
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    config.add_flags(parser.add_subparsers().add_parser("serve"))
    settings = config.load({}, parser.parse_args(["--grpc-port", "1", "serve", "--http-port", "2"]))
    assert (settings.grpc_port, settings.http_port) == (1, 2)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1", 1),
        ("5GiB", 5 * 2**30),
        ("64 MiB", 64 * 2**20),
        ("1.5kib", 1536),
        ("2kB", 2000),
        ("7b", 7),
        ("1TB", 10**12),
    ],
)
def test_sizes_have_units(text: str, size_bytes: int) -> None:
    """A size is a number of bytes, or a number with a decimal or binary unit."""
    assert load({"REMORA_MAX_FILE_BYTES": text}).max_file_bytes == size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("0.5", 0.5), ("10s", 10), ("30m", 1800), ("24h", 86400), ("7 d", 604800)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    """A duration is a number of seconds, or a number with a unit."""
    assert load({}, "--gc-grace", text).gc_grace_seconds == seconds


@pytest.mark.parametrize(
    ("name", "text", "accepted"),
    [
        ("REMORA_GRPC_PORT", "65536", "must be a whole number from 0 to 65535"),
        ("REMORA_HTTP_PORT", "-1", "must be a whole number from 0 to 65535"),
        ("REMORA_HTTP_PORT", "eight", "must be a whole number from 0 to 65535"),
        ("REMORA_WORKERS", "0", "must be a whole number from 1 to 256"),
        ("REMORA_MAX_FILE_BYTES", "0", "must be at least 1, in bytes or with a unit, such as 64MiB or 5GiB"),
        ("REMORA_QUOTA_BYTES", "5 gallons", "must be at least 0, in bytes or with a unit, such as 64MiB or 5GiB"),
        ("REMORA_TICKET_TTL", "soon", "must be a time, in seconds or with a unit, such as 10s, 30m, 24h or 7d"),
        ("REMORA_TICKET_TTL", "0", "must be a time above zero"),
        ("REMORA_GC_GRACE", "nan", "must be a time, in seconds or with a unit, such as 10s, 30m, 24h or 7d"),
        ("REMORA_DEDUP_MODE", "proof", "must be one of READABLE, OWN, OFF"),
        ("REMORA_STRICT_ISSUES", "maybe", "must be true or false"),
        ("REMORA_LOG", "loud", "must be one of debug, info, warning, error"),
        (
            "REMORA_BLOBS",
            "s3://bucket",
            "must be a directory, file:///absolute/path, gs://bucket or gs://bucket/prefix",
        ),
        (
            "REMORA_PUBLIC_URL",
            "https://files.example.com/",
            "must be a URL such as https://files.example.com, without / at its end",
        ),
        (
            "REMORA_TRUSTED_PROXIES",
            "10.0.0.1/8",
            "must be a comma list of networks such as 10.0.0.0/8 or ::1, and 10.0.0.1/8 has host bits set",
        ),
        (
            "REMORA_CORS_ORIGINS",
            "https://a.example/path",
            "must be a comma list of origins such as https://tracker.example.com, or *",
        ),
        ("REMORA_PLANE_TYPES", "image/png,jpeg", "must be a comma list of content types such as image/png"),
        (
            "REMORA_SCANNER",
            "localhost:3310",
            "must be clamd:/path/of/its/socket, clamd:host:port or command:program and its arguments",
        ),
    ],
)
def test_a_bad_value_says_what_is_accepted(name: str, text: str, accepted: str) -> None:
    """A bad value is refused in one sentence with the setting, its origin, the value and what is accepted."""
    with pytest.raises(ConfigError) as refused:
        load({name: text})
    assert str(refused.value) == f"The value {text!r} of {name} (environment {name}) {accepted}."


@pytest.mark.parametrize("name", ["REMORA_LISTEN", "REMORA_DATA"])
def test_a_flag_may_not_empty_what_is_needed(name: str) -> None:
    """An empty flag is a value, and refused where there has to be one."""
    flag = "--" + name.removeprefix("REMORA_").lower()
    with pytest.raises(ConfigError, match=f"of {name} \\(flag {flag}\\) must not be empty"):
        load({}, flag, "")


def test_an_unknown_name_suggests_the_nearest() -> None:
    """A misspelt variable stops the start, and the message offers the right spelling."""
    with pytest.raises(ConfigError, match=r"REMORA_DATABSE_URL in .*; did you mean REMORA_DATABASE_URL\?$"):
        load({"REMORA_DATABSE_URL": "sqlite:///x"})
    with pytest.raises(ConfigError, match=r"REMORA_QWXYZ in .*; `remora-server config` lists every setting"):
        load({"REMORA_QWXYZ": ""})


def test_names_of_others_are_left_alone() -> None:
    """Client settings, those of test programs, and names that are not ours are no business of the server."""
    others = [
        "REMORA_ADDRESS",
        "REMORA_KEY",
        "REMORA_WORKSPACE",
        "REMORA_CA",
        "REMORA_CERT",
        "REMORA_TEST_X",
        "REMORA_BARS_X",
        "PATH",
    ]
    assert load(dict.fromkeys(others, "x")) == Config()


def test_what_has_no_effect_yet_is_refused() -> None:
    """A setting with nothing behind it stops the start instead of being dropped silently."""
    missing: config.Unsupported = {"glue_tickets": (lambda kind: kind != "put", "nobody built it")}
    with pytest.raises(
        ConfigError, match=r"of REMORA_GLUE_TICKETS .* can't be honoured by this version: nobody built it"
    ):
        load({"REMORA_GLUE_TICKETS": "form"}, not_yet=missing)
    assert load({"REMORA_GLUE_TICKETS": "put"}, not_yet=missing).glue_tickets == "put"


def test_the_table_of_what_is_missing_names_settings() -> None:
    """Every entry of `NOT_YET` names a setting, and lets its default pass."""
    for name, (unsupported, _) in config.NOT_YET.items():
        assert not unsupported(getattr(Config(), name))


def test_lists_and_paths_are_read() -> None:
    """Comma lists become tuples, networks become networks, and store URLs become paths."""
    settings = load(
        {
            "REMORA_STRIP_QUERY": "utm_source, utm_medium,",
            "REMORA_ALLOWED_NETWORKS": "10.0.0.0/8,::1",
            "REMORA_TLS_CERT": "cert.pem",
            "REMORA_CORS_ORIGINS": "https://a.example,http://localhost:3000",
            "REMORA_DATABASE_URL": "sqlite:////srv/my%20data/remora.db",
            "REMORA_BLOBS": "file:///srv/my%20blobs",
            "REMORA_PUBLIC_URL": "https://files.example.com/remora",
        },
        not_yet={},
    )
    assert settings.strip_query == ("utm_source", "utm_medium")
    assert settings.allowed_networks == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"))
    assert settings.tls_cert == Path("cert.pem")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.sqlite_path == Path("/srv/my data/remora.db")
    assert settings.blobs_path == Path("/srv/my blobs")
    assert settings.public_url == "https://files.example.com/remora"
    assert rows(settings)["REMORA_ALLOWED_NETWORKS"][0] == "10.0.0.0/8,::1/128"


@pytest.mark.parametrize(
    "text",
    ["clamd:/run/clamav/clamd.ctl", "clamd:scan.example:3310", "clamd:[::1]:3310", "command:clamdscan --fdpass -", ""],
)
def test_a_scanner_is_named_in_three_ways(text: str) -> None:
    """A clamd on a socket or a port, or a command; empty is none."""
    assert load({}, "--scanner", text).scanner == text


@pytest.mark.parametrize(
    "text", ["clamd:", "clamd:clamd.ctl", "clamd:host", "clamd:::1:3310", "command: ", "/bin/true"]
)
def test_a_scanner_of_another_kind_is_refused(text: str) -> None:
    """Before anything is scanned, or is not."""
    with pytest.raises(
        ConfigError, match=r"of REMORA_SCANNER .* must be clamd:/path/of/its/socket, clamd:host:port or"
    ):
        load({"REMORA_SCANNER": text})


def test_shown_values_can_be_given_back() -> None:
    """What `rows` shows for a default is accepted as a value, and means the same."""
    shown = {row.name: row.value for row in Config().rows()}
    given = load(shown)
    assert given.sqlite_path == Config().sqlite_path
    assert given.blobs_path == Config().blobs_path.absolute()
    assert dataclasses.replace(given, database_url="", blobs="") == Config()


@pytest.mark.parametrize(
    ("listen", "is_exposed"),
    [("127.0.0.2", False), ("::1", False), ("localhost", False), ("::", True), ("10.0.0.1", True), ("db", True)],
)
def test_who_is_exposed(listen: str, is_exposed: bool) -> None:  # noqa: FBT001
    """Whoever listens to other machines, but for TLS."""
    assert load({"REMORA_LISTEN": listen}).is_exposed is is_exposed
    assert not load({"REMORA_LISTEN": listen, "REMORA_TLS_CERT": "cert.pem"}).is_exposed


def test_secrets_are_masked() -> None:
    """Neither rows, nor repr, nor an error shows a secret."""
    url = "postgresql://remora:hush/@hush@db.example/remora?password=hush&x=1"
    settings = load({"REMORA_SIGNING_KEY": "hush://hush", "REMORA_DATABASE_URL": url}, not_yet={})
    assert rows(settings)["REMORA_SIGNING_KEY"][0] == "***"
    assert rows(settings)["REMORA_DATABASE_URL"][0] == "postgresql://remora:***@db.example/remora?password=***&x=1"
    assert "hush" not in repr(settings)
    with pytest.raises(ConfigError) as refused:
        load({"REMORA_DATABASE_URL": "mysql://remora:hush@db.example/remora"})
    assert "hush" not in str(refused.value)
    assert "must be sqlite:///relative/path" in str(refused.value)


def test_every_setting_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names each flag with its meaning and its variable."""
    with pytest.raises(SystemExit):
        load({}, "--help")
    text = " ".join(capsys.readouterr().out.split())
    for row in Config().rows():
        assert "--" + row.name.removeprefix("REMORA_").lower().replace("_", "-") in text
        assert f"({row.name})" in text
        assert row.help


@pytest.mark.parametrize(
    ("environ", "stores"),
    [
        ({}, "remora-data/remora.db + remora-data/blobs"),
        ({"REMORA_DATA": "/srv/r", "REMORA_BLOBS": "file:///mnt/a%20b"}, "/srv/r/remora.db + /mnt/a b"),
        ({"REMORA_BLOBS": "/mnt/a%20b"}, "remora-data/remora.db + /mnt/a%20b"),
        ({"REMORA_BLOBS": "gs://bucket/some/prefix"}, "remora-data/remora.db + gs://bucket/some/prefix"),
        (
            {"REMORA_DATABASE_URL": "postgresql://me:secret@host/db", "REMORA_BLOBS": "gs://bucket"},
            "postgresql://me:***@host/db + gs://bucket",
        ),
    ],
)
def test_the_banner_names_the_stores(environ: Mapping[str, str], stores: str) -> None:
    """A server that starts says where it keeps rows and contents, without passwords."""
    banner = __main__._banner(load(environ), app.Ready("127.0.0.1:7460", "http://127.0.0.1:8460", None))
    assert [line for line in banner.splitlines() if "stores" in line] == [f"│ stores    {stores}"]

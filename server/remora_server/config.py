"""Settings: environment and flags become one frozen `Config`, read once, by the composition root.

Every field of `Config` made with `_setting` is one setting, and this table is the only place that names it: the field
`gc_grace_seconds` is `REMORA_GC_GRACE` in the environment and `--gc-grace` as a flag. A flag wins over the environment.
"""

# ruff: noqa: RUF009 - `_setting` is `dataclasses.field` with our metadata, and as harmless as a class-level default.

import argparse
import dataclasses
import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

PREFIX = "REMORA_"
CLIENT_SETTINGS = frozenset({"REMORA_ADDRESS", "REMORA_KEY", "REMORA_WORKSPACE", "REMORA_CA", "REMORA_CERT"})
IGNORED_PREFIXES = ("REMORA_TEST_", "REMORA_BARS_")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]i?b|b|)", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZE_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?([smhd]|)", re.ASCII)
_DURATION_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_PASSWORD = re.compile(r"(?<=://)([^:/?#]*):.*@|([?&](?:ssl)?password=)[^&]*")


class ConfigError(Exception):
    """The server can't start with this setting; the message says which one, why, and what is accepted."""


class Row(NamedTuple):
    """One line of `remora-server config`; secrets in `value` are masked."""

    name: str
    value: str
    origin: str
    help: str


# One function for each kind of value: text in, value out. What a ValueError says completes "The value 'x' of REMORA_Y".


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError("must be true or false")
    return _SWITCH[text.lower()]


def _choice(*accepted: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for name in accepted:
            if name.lower() == text.lower():
                return name
        raise ValueError(f"must be one of {', '.join(accepted)}")

    return parse


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if re.fullmatch(r"\d{1,18}", text, re.ASCII) and lowest <= int(text) <= highest:
            return int(text)
        raise ValueError(f"must be a whole number from {lowest} to {highest}")

    return parse


def _size(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        found = _SIZE.fullmatch(text)
        size_bytes = int(float(found[1]) * _SIZE_UNITS[found[2].lower()]) if found else -1
        if size_bytes < lowest:
            raise ValueError(f"must be at least {lowest}, in bytes or with a unit, such as 64MiB or 5GiB")
        return size_bytes

    return parse


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError("must be a time, in seconds or with a unit, such as 10s, 30m, 24h or 7d")
    return float(found[1]) * _DURATION_UNITS[found[2]]


def duration(text: str) -> float:
    """Read a time as the settings do, for the option of a command; return it in seconds."""
    try:
        return _duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _some_duration(text: str) -> float:
    if not (seconds := _duration(text)):
        raise ValueError("must be a time above zero")
    return seconds


def _some_text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _path(text: str) -> Path:
    return Path(_some_text(text))


def _maybe_path(text: str) -> Path | None:
    return Path(text) if text else None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _types(text: str) -> tuple[str, ...]:
    words = _words(text)
    if any(not all(word.partition("/")) for word in words):
        raise ValueError("must be a comma list of content types such as image/png")
    return words


def _networks(text: str) -> tuple[IPNetwork, ...]:
    try:
        return tuple(ipaddress.ip_network(word) for word in _words(text))
    except ValueError as error:
        raise ValueError(f"must be a comma list of networks such as 10.0.0.0/8 or ::1, and {error}") from error


def _web_origins(text: str) -> tuple[str, ...]:
    for origin in _words(text):
        if not re.fullmatch(r"\*|https?://[^/?#@\s]+", origin):
            raise ValueError("must be a comma list of origins such as https://tracker.example.com, or *")
    return _words(text)


def _shaped(pattern: str, accepted: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise ValueError(f"must be {accepted}")
        return text

    return parse


_database_url = _shaped(
    r"sqlite:///[^?#]+|postgres(ql)?://\S+", "sqlite:///relative/path, sqlite:////absolute/path or postgresql://..."
)
_blobs_url = _shaped(
    r"file:///[^?#]+|gs://[^/?#]+(/[^?#]*)?", "a directory, file:///absolute/path, gs://bucket or gs://bucket/prefix"
)


def _blobs(text: str) -> str:
    # What names a scheme is a URL, known or not; anything else is a directory, as for DATA.
    is_directory = text.strip() and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text)
    return text if is_directory else _blobs_url(text)


_public_url = _shaped(
    r"https?://[^/?#@\s]+(/[^?#\s]*[^?#/\s])?", "a URL such as https://files.example.com, without / at its end"
)

_scanner = _shaped(
    r"clamd:(/.*|(\[[^\[\]\s]+\]|[^:/\[\]\s]+):\d{1,5})|command:.*\S.*",
    "clamd:/path/of/its/socket, clamd:host:port or command:program and its arguments",
)


def _setting(parse: Callable[[str], T], default: str, meaning: str, *, secret: bool = False) -> T:
    """Declare one setting: how its text is read, the text it has when nobody sets it, and what it is for."""
    metadata = {"parse": parse, "default": default, "help": meaning, "secret": secret}
    made: T = dataclasses.field(default=parse(default), metadata=metadata, repr=not secret)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of the server, and where each value came from."""

    data: Path = _setting(_path, "./remora-data", "directory that holds everything the server keeps")
    database_url: str = _setting(_database_url, "", "database; empty is a SQLite file under DATA", secret=True)
    blobs: str = _setting(_blobs, "", "directory or URL that keeps file contents; empty is DATA/blobs")
    listen: str = _setting(_some_text, "127.0.0.1", "address that both ports listen on")
    grpc_port: int = _setting(_whole(0, 65535), "7460", "port of gRPC; 0 takes a free one")
    http_port: int = _setting(_whole(0, 65535), "8460", "port of HTTP; 0 takes a free one")
    public_url: str = _setting(_public_url, "", "URL under which callers reach the HTTP port; empty is its own address")
    workers: int = _setting(_whole(1, 256), "1", "processes that serve")
    signing_key: str = _setting(str, "", "secret that signs tokens and URLs; empty is the database's own", secret=True)
    max_file_bytes: int = _setting(_size(1), "5GiB", "largest file that is accepted")
    quota_bytes: int = _setting(_size(0), "0", "bytes that one workspace may keep; 0 is no limit")
    ticket_ttl_seconds: float = _setting(_some_duration, "24h", "life of an upload ticket")
    gc_grace_seconds: float = _setting(_duration, "7d", "age below which gc leaves unused contents alone")
    gc_interval_seconds: float = _setting(
        _duration, "1h", "time between sweeps that a server makes by itself; 0 is never"
    )
    idle_timeout_seconds: float = _setting(_some_duration, "60", "silence after which an upload stream is cut off")
    min_rate: int = _setting(_size(0), "1024", "bytes a second below which an upload counts as silent; 0 is never")
    drain_timeout_seconds: float = _setting(_duration, "30", "time that running calls get to end at shutdown")
    dedup_mode: str = _setting(
        _choice("READABLE", "OWN", "OFF"),
        "READABLE",
        "whose files may spare an upload: READABLE by the caller, its OWN, or OFF",
    )
    strict_issues: bool = _setting(_switch, "false", "refuse issue keys that nobody registered")
    strip_query: tuple[str, ...] = _setting(_words, "", "query parameters (a,b,c) ignored when URLs are compared")
    tls_cert: Path | None = _setting(_maybe_path, "", "certificate chain (PEM) of both ports; empty is no TLS")
    tls_key: Path | None = _setting(_maybe_path, "", "private key (PEM) of that certificate")
    tls_client_ca: Path | None = _setting(_maybe_path, "", "certificates (PEM) that client certificates must chain to")
    trusted_proxies: tuple[IPNetwork, ...] = _setting(_networks, "", "proxies whose forwarding headers are believed")
    allowed_networks: tuple[IPNetwork, ...] = _setting(_networks, "", "private networks that webhooks may reach")
    webhook_timeout_seconds: float = _setting(_some_duration, "15s", "time that a receiver of webhooks has to answer")
    webhook_give_up_seconds: float = _setting(
        _some_duration, "24h", "time after which an endpoint that fails is disabled"
    )
    cors_origins: tuple[str, ...] = _setting(_web_origins, "", "web origins (a,b,c) that may call the HTTP port")
    plane_rate: int = _setting(_whole(0, 10**9), "0", "requests a minute that one key may make as Plane; 0 is no limit")
    plane_max_bytes: int = _setting(_size(1), "5MiB", "size to which files uploaded as Plane are clamped")
    plane_types: tuple[str, ...] = _setting(_types, "", "content types (a/b,c/d) accepted as Plane; empty is all")
    yandex_max_bytes: int = _setting(_size(1), "1GiB", "the largest file that is taken as Yandex Tracker")
    glue_tickets: str = _setting(_choice("put", "form"), "put", "how Glue tickets are uploaded: put or form")
    scanner: str = _setting(
        _scanner, "", "what scans each upload: clamd:/socket, clamd:host:port or command:program ...; empty is none"
    )
    log: str = _setting(_choice("debug", "info", "warning", "error"), "info", "least level that is logged")
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def is_exposed(self) -> bool:
        """Tell whether other machines can reach the ports without TLS."""
        try:
            is_loopback = ipaddress.ip_address(self.listen).is_loopback
        except ValueError:
            is_loopback = self.listen == "localhost"
        return self.tls_cert is None and not is_loopback

    @property
    def is_postgres(self) -> bool:
        """Tell which of the two databases is used."""
        return self.database_url.startswith(("postgres://", "postgresql://"))

    @property
    def database_name(self) -> str:
        """Name the database to people: a URL without its password, or the path of the SQLite file."""
        return _masked(self.database_url) if self.is_postgres else str(self.sqlite_path)

    @property
    def sqlite_path(self) -> Path:
        """Name the SQLite file: the one of `database_url`, else `remora.db` under `data`."""
        path = self.database_url.removeprefix("sqlite:///")
        return Path(unquote(path)) if path != self.database_url else self.data / "remora.db"

    @property
    def blobs_path(self) -> Path:
        """Name the directory of the local blob store: the one of `blobs`, else `blobs` under `data`."""
        path = self.blobs.removeprefix("file://")
        if path != self.blobs:
            return Path(unquote(path))
        return Path(path) if path else self.data / "blobs"

    @property
    def blobs_name(self) -> str:
        """Name the blob store to people: the URL of the bucket, or the path of the directory."""
        return _masked(self.blobs) if self.bucket else str(self.blobs_path)

    @property
    def bucket(self) -> tuple[str, str] | None:
        """Name the bucket of Cloud Storage and the prefix in it; None where a directory keeps the contents."""
        if not self.blobs.startswith("gs://"):
            return None
        bucket, _, prefix = self.blobs.removeprefix("gs://").partition("/")
        return bucket, prefix

    def rows(self) -> Sequence[Row]:
        """List every setting with its effective value and the origin of that value."""
        return [
            Row(_name(field), _shown(self, field), self.origins.get(_name(field), "default"), field.metadata["help"])
            for field in _settings()
        ]


# Settings that are understood but have nothing behind them yet: when a value is one of these, refuse to start instead
# of dropping it silently. Whoever builds the feature deletes its line.
Unsupported = Mapping[str, tuple[Callable[[Any], bool], str]]
NOT_YET: Unsupported = {}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Give `parser` one flag for each setting; `load` reads them from the namespace that it parses."""
    group = parser.add_argument_group("settings", "a flag wins over the environment; sizes take 5GiB, times 24h")
    for field in _settings():
        # A flag that is absent leaves no attribute, so that a command and its subcommand can both have it.
        added = (
            group.add_argument(_flag(field), action=argparse.BooleanOptionalAction, dest=_name(field))
            if field.type is bool
            else group.add_argument(_flag(field), metavar=_name(field).removeprefix(PREFIX), dest=_name(field))
        )
        added.default, added.help = argparse.SUPPRESS, f"{field.metadata['help']} ({_name(field)})"


def load(environ: Mapping[str, str], flags: argparse.Namespace, not_yet: Unsupported = NOT_YET) -> Config:
    """Read every setting, or raise `ConfigError`; an empty environment variable counts as not set."""
    _refuse_unknown(environ)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for field in _settings():
        name = _name(field)
        if (given := getattr(flags, name, None)) is not None:
            text, origins[name] = str(given), f"flag {_flag(field)}"
        elif text := environ.get(name, "").strip():
            origins[name] = f"environment {name}"
        else:
            continue
        values[field.name] = _read(field, text, origins[name], not_yet)
    return Config(**values, origins=origins)


def _read(field: "dataclasses.Field[Any]", text: str, origin: str, not_yet: Unsupported) -> Any:  # noqa: ANN401 - one type per field.
    told = "" if field.metadata["secret"] else f" {text!r}"
    try:
        value = field.metadata["parse"](text)
    except ValueError as error:
        raise ConfigError(f"The value{told} of {_name(field)} ({origin}) {error}.") from None
    unsupported, reason = not_yet.get(field.name, (lambda _: False, ""))
    if unsupported(value):
        raise ConfigError(f"The value{told} of {_name(field)} ({origin}) can't be honoured by this version: {reason}.")
    return value


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = CLIENT_SETTINGS.union(map(_name, _settings()))
    for name in sorted(environ):
        if name.startswith(PREFIX) and not name.startswith(IGNORED_PREFIXES) and name not in known:
            words = [other.removeprefix(PREFIX) for other in sorted(known)]
            near = difflib.get_close_matches(name.removeprefix(PREFIX), words, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "`remora-server config` lists every setting."
            raise ConfigError(f"{name} in the environment is not a setting; {hint}")


def _settings() -> "Sequence[dataclasses.Field[Any]]":
    return [field for field in dataclasses.fields(Config) if field.metadata]


def _name(field: "dataclasses.Field[Any]") -> str:
    return PREFIX + field.name.removesuffix("_seconds").upper()


def _flag(field: "dataclasses.Field[Any]") -> str:
    return "--" + _name(field).removeprefix(PREFIX).lower().replace("_", "-")


def _masked(url: str) -> str:
    return _PASSWORD.sub(lambda found: f"{found[1]}:***@" if found[2] is None else f"{found[2]}***", url)


def _shown(config: Config, field: "dataclasses.Field[Any]") -> str:
    """Write a value as `load` would read it, with what an empty one stands for, and without secrets."""
    value = getattr(config, field.name)
    match value:
        case "" if field.name == "database_url":
            shown = f"sqlite:///{config.sqlite_path}"
        case "" if field.name == "blobs":
            shown = config.blobs_path.absolute().as_uri()
        case str() if field.name == "database_url":
            shown = _masked(value)
        case str() if value and field.metadata["secret"]:
            shown = "***"
        case bool():
            shown = str(value).lower()
        case float():
            shown = f"{value:.12g}"
        case tuple():
            shown = ",".join(map(str, value))
        case _:
            shown = "" if value is None else str(value)
    return shown

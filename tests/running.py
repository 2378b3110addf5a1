"""A real server as a child process, and real stubs to call it: what every test above core stands on."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from remora.v1 import (
    activity_service_pb2_grpc,
    attachment_service_pb2_grpc,
    capability_service_pb2_grpc,
    common_pb2,
    file_service_pb2_grpc,
    issue_service_pb2_grpc,
    link_service_pb2_grpc,
    upload_ticket_service_pb2_grpc,
    webhook_service_pb2_grpc,
)
from remora_server import app, config, opening
from remora_server.config import Config
from remora_server.core.tenants import DEFAULT_SCOPES
from tests import combinations

PROGRAM = (sys.executable, "-m", "remora_server")
START_SECONDS = 30.0


class RunningServer:
    """`remora-server serve --dev` on free ports and a data directory of its own; may be killed and started again."""

    def __init__(
        self, data: Path, *options: str, environment: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> None:
        self.data = data
        self._program = (python, *PROGRAM[1:])
        self.options = options
        self.environment = {**_clean_environment(), **combinations.environment_of(data), **(environment or {})}
        self.ready: dict[str, Any] = {}
        self.rest_of_output = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, grpc_port: int = 0) -> RunningServer:
        """Start, and return once both ports answer."""
        command = [*self._program, "serve", "--dev", "--json", "--data", str(self.data), "--grpc-port", str(grpc_port)]
        with self._log_path.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--http-port", "0", *self.options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server did not start: {self.log()}"
        self.ready = json.loads(line)
        return self

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> str:
        """Where gRPC answers."""
        return str(self.ready["grpc"])

    @property
    def port(self) -> int:
        """The port of gRPC."""
        return int(self.address.rpartition(":")[2])

    def log(self) -> str:
        """Return what the server wrote to standard error."""
        return self._log_path.read_text()

    @property
    def _log_path(self) -> Path:
        return self.data.parent / f"{self.data.name}.log"

    def kill(self) -> None:
        """SIGKILL: no handler runs."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def signal(self, number: int) -> None:
        """Send a signal, if the server runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the end; return the exit code."""
        assert self._process is not None
        code = self._process.wait(seconds)
        assert self._process.stdout is not None
        if not self._process.stdout.closed:
            self.rest_of_output = self._process.stdout.read()
            self._process.stdout.close()
        return code

    def restart(self) -> RunningServer:
        """Start again on the same port and data."""
        return self.start(grpc_port=self.port)

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another `remora-server` command on the same data."""
        return subprocess.run(
            [*PROGRAM, *arguments, "--data", str(self.data)],
            check=check,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=110,
        )

    def report(self, *arguments: str, check: bool = True) -> dict[str, Any]:
        """Run a command with `--json` and return its object."""
        result: dict[str, Any] = json.loads(self.command(*arguments, "--json", check=check).stdout)
        return result

    def api(self, key: str | None = None) -> Api:
        """Return stubs that call with a key, the development one by default; an empty key calls anonymously."""
        return Api(self.address, str(self.ready["key"]) if key is None else key)

    def new_key(self, user: str, *, workspace: str = "demo", scopes: str = "", expires_in: float | None = None) -> str:
        """Make a key for a user, and the workspace if need be, as the commands do but without starting a program."""
        kept_for = None if expires_in is None else int(expires_in * app.SECOND)
        with opening.open_stores(self.config()) as stores:
            tenants = opening.tenants_of(stores)

            def make() -> str:
                owner, _ = tenants.create_workspace(workspace)
                return tenants.create_key(owner, user, scopes.split(",") if scopes else DEFAULT_SCOPES, kept_for)[0]

            return stores.writer.run(make)

    def staged_files(self, ticket_id: str = "") -> list[Path]:
        """Return where the bytes of one unfinished upload, or of all, gather."""
        return list((self.data / "blobs" / "staging").glob(f"*/{ticket_id}*"))

    def staged_bytes(self, ticket_id: str) -> int:
        """Return how many bytes of an unfinished upload are safe."""
        if combinations.BLOBS == "disk":
            return sum(path.stat().st_size for path in self.staged_files(ticket_id))
        size = "SELECT COALESCE(SUM(sent_bytes + LENGTH(tail)), 0) FROM upload_sessions WHERE name LIKE ?"
        return int(self.sql(size, f"{ticket_id}%")[0][0])

    def used_bytes(self) -> int:
        """Return what contents of files take where they are kept, staged ones too."""
        if combinations.BLOBS == "disk":
            return sum(map(_blocks_of, self.blob_files()))
        objects = combinations.fake_gcs().objects(combinations.prefix_of(self.data))
        return sum(objects.values()) + self.staged_bytes("")

    def config(self) -> Config:
        """Return the settings that the server runs with, but for its options."""
        ours = {name: value for name, value in self.environment.items() if name.startswith("REMORA_")}
        return config.load(ours, argparse.Namespace(REMORA_DATA=str(self.data)))

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement on the database, past the server; return its rows, or an empty one for each it changed."""
        return combinations.sql(self.data, statement, values)

    def open_files(self, part: str) -> list[str]:
        """Return what the server has open below its data, of paths with this part."""
        found = []
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found.append(str(descriptor.readlink()))
            except FileNotFoundError:
                continue
        return [path for path in found if path.startswith(str(self.data)) and part in path]

    def blob_files(self) -> list[Path]:
        """Every file of the blob store, or of the fake of Cloud Storage, staged ones too, without its marker.

        What is staged for a bucket lies in part, and less than 256 KiB as a whole, in the database.
        """
        if combinations.BLOBS == "gcs":
            prefix = combinations.prefix_of(self.data)
            kept = {
                **combinations.fake_gcs().files(f"{prefix}/blobs/"),
                **combinations.fake_gcs().files(f"{prefix}/forms/"),
            }
            return list(kept.values())
        folders = [self.data / "blobs" / name for name in ("blobs", "staging")]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


class Api:
    """Stubs of every service over one channel, with a key on each call."""

    def __init__(
        self,
        address: str,
        key: str,
        options: Sequence[tuple[str, Any]] = (),
        channel: grpc.Channel | None = None,
    ) -> None:
        self.address = address
        metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {key}"),) if key else ()
        self.channel: grpc.Channel = grpc.intercept_channel(
            channel or grpc.insecure_channel(address, options), _Signed(metadata)
        )
        self.tickets = upload_ticket_service_pb2_grpc.UploadTicketServiceStub(self.channel)
        self.files = file_service_pb2_grpc.FileServiceStub(self.channel)
        self.attachments = attachment_service_pb2_grpc.AttachmentServiceStub(self.channel)
        self.links = link_service_pb2_grpc.LinkServiceStub(self.channel)
        self.activity = activity_service_pb2_grpc.ActivityServiceStub(self.channel)
        self.issues = issue_service_pb2_grpc.IssueServiceStub(self.channel)
        self.webhooks = webhook_service_pb2_grpc.WebhookServiceStub(self.channel)
        self.capabilities = capability_service_pb2_grpc.CapabilityServiceStub(self.channel)


class _Signed(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the key to the metadata of every call."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def _signed(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=[*(details.metadata or ()), *self._metadata]), request)

    # One way to sign serves all four kinds of call, whose types differ.
    intercept_unary_unary = intercept_unary_stream = _signed  # type: ignore[assignment]
    intercept_stream_unary = intercept_stream_stream = _signed  # type: ignore[assignment]


class Refusal:
    """What a failed call told: the code, and each detail of the rich status."""

    def __init__(self, error: Any) -> None:  # A grpc.RpcError that is also a grpc.Call, as all are.
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details()
        status: status_pb2.Status | None = rpc_status.from_call(error)
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        self.retry = error_details_pb2.RetryInfo()
        self.details = list(status.details) if status else []
        for detail in self.details:
            for known in (self.info, self.bad_request, self.retry):
                detail.Unpack(known)

    @property
    def reason(self) -> str:
        """The reason of ErrorInfo."""
        return str(self.info.reason)

    @property
    def fields(self) -> list[str]:
        """The fields that BadRequest names."""
        return [violation.field for violation in self.bad_request.field_violations]


@contextmanager
def refused(code: grpc.StatusCode, reason: str) -> Iterator[list[Refusal]]:
    """Expect the body to fail with this code and reason; the list holds the Refusal afterwards."""
    seen: list[Refusal] = []
    try:
        yield seen
    except grpc.RpcError as error:
        refusal = Refusal(error)
        assert (refusal.code, refusal.reason) == (code, reason), (refusal.code, refusal.reason, refusal.message)
        assert refusal.info.domain == "remora"
        seen.append(refusal)
    else:
        raise AssertionError(f"the call succeeded instead of failing with {code} {reason}")


def issue(key: str) -> common_pb2.Subject:
    """Return the subject of an issue key."""
    return common_pb2.Subject(type="issue", key=key)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition of the world outside this process, which nothing tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)


def _blocks_of(path: Path) -> int:
    """Return what a file takes of its disk; nothing if it has just been removed."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REMORA_")}

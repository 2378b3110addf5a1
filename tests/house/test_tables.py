"""The tables are complete: each error has its code and its reason, and each RPC a test that calls it."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor

from remora import errors as client_errors
from remora.cli.settings import OWN_SETTINGS, SERVER_SETTINGS, UsageError, refuse_unknown
from remora.v1 import error_reason_pb2
from remora_server.config import CLIENT_SETTINGS, Config
from remora_server.core import errors
from remora_server.core.errors import RemoraError
from remora_server.gateway.errors import STATUSES
from remora_server.rpc.errors import CODES

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "proto" / "remora" / "v1"
PREFIX = "ERROR_REASON_"
REASONS = {name.removeprefix(PREFIX) for name in error_reason_pb2.ErrorReason.keys()[1:]}
# Reasons without a class in core: what is sent for a defect, and what no part of this version ever sends.
NOT_RAISED = {"INTERNAL", "RATE_LIMITED", "REQUEST_IN_PROGRESS"}
CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, RemoraError) and kind is not RemoraError
]


def methods() -> list[MethodDescriptor]:
    """Return every RPC of the contract."""
    modules = [importlib.import_module(f"remora.v1.{path.stem}_pb2") for path in PROTO.glob("*_service.proto")]
    return [
        method
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


METHODS = methods()
TESTS = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests").rglob("*.py"))
    if path.parent.name not in {"house", "bench"}
)


def test_both_programs_know_all_settings() -> None:
    """Each refuses a REMORA_ name that neither knows, so each has both lists."""
    with pytest.raises(UsageError, match="not a setting"):
        refuse_unknown({"REMORA_NONESUCH": "1"})
    server = {row.name for row in Config().rows()}
    assert {f"REMORA_{name}" for name in SERVER_SETTINGS} == server
    assert {f"REMORA_{name}" for name in OWN_SETTINGS} == CLIENT_SETTINGS


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.__name__))
def test_each_error_has_a_code_and_a_reason(kind: type[RemoraError]) -> None:
    """A class that the table lacks would reach its caller as INTERNAL."""
    assert kind in CODES
    assert kind.reason in REASONS


def test_each_reason_has_one_class() -> None:
    """A reason is one class, and a class one reason; the table holds nothing else."""
    raised = [kind.reason for kind in CLASSES]
    assert sorted(raised) == sorted(REASONS - NOT_RAISED)
    assert set(CODES) == set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.__name__))
def test_each_code_is_the_documented_one(kind: type[RemoraError]) -> None:
    """The comment of a reason names the code that the table gives it."""
    comment = " ".join(re.findall(r"// ?(.*)", _comment_of(kind.reason)))
    documented = re.search(r"Code: ([A-Z_]+)", comment)
    assert documented is not None
    assert documented[1] == CODES[kind].name


def test_http_knows_each_error() -> None:
    """Each error has a status, and beside it the code that gRPC gives it."""
    assert {kind: code for kind, (_, code) in STATUSES.items()} == {kind: code.name for kind, code in CODES.items()}
    assert all(400 <= status < 600 for status, _ in STATUSES.values())


def test_the_client_knows_each_reason() -> None:
    """A caller can catch each refusal by its class."""
    assert set(client_errors.BY_REASON) == REASONS


@pytest.mark.parametrize("method", METHODS, ids=[str(method.full_name) for method in METHODS])
def test_each_rpc_is_called_by_a_test(method: MethodDescriptor) -> None:
    """Its name stands in a test as a call of a stub: `.ListLinks(`, or as what is handed on to be called."""
    assert re.search(rf"\.{method.name}\b", TESTS)


def _comment_of(reason: str) -> str:
    source = (PROTO / "error_reason.proto").read_text(encoding="utf-8")
    found = re.search(rf"((?:^ *//.*\n)+) *{PREFIX}{reason} = ", source, re.MULTILINE)
    assert found is not None
    return found[1]

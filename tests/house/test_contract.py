"""The contract keeps its own rules, as read from the generated descriptors."""

import importlib
import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from remora.v1 import error_reason_pb2, options_pb2

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "proto" / "remora" / "v1").glob("*.proto"))
SCOPES = {
    "": {"CapabilityService"},
    "activity:read": {"ActivityService"},
    "attachments:read": {"AttachmentService"},
    "attachments:write": {"AttachmentService"},
    "files:read": {"FileService"},
    "files:write": {"FileService", "UploadTicketService"},
    "issues:read": {"IssueService"},
    "issues:write": {"IssueService"},
    "links:read": {"LinkService"},
    "links:write": {"LinkService"},
    "webhooks:manage": {"WebhookService"},
}
READING = re.compile(r"(Get|BatchGet|List|Lookup|Read|BatchRead|Watch)[A-Z]")
LONGEST_REASON = 63


def descriptor_of(proto: Path) -> FileDescriptor:
    """Return the descriptor that was generated from a proto file."""
    module = importlib.import_module(f"remora.v1.{proto.stem}_pb2")
    found = module.DESCRIPTOR
    assert isinstance(found, FileDescriptor)
    return found


METHODS: list[MethodDescriptor] = [
    method
    for proto in PROTOS
    for service in descriptor_of(proto).services_by_name.values()
    for method in service.methods
]
every_method = pytest.mark.parametrize("method", METHODS, ids=[str(method.full_name) for method in METHODS])


def test_there_are_methods() -> None:
    """The descriptors were found at all: an empty list would pass every test below."""
    assert {method.containing_service.name for method in METHODS} == set().union(*SCOPES.values())


@every_method
def test_each_rpc_declares_a_known_scope_of_its_service(method: MethodDescriptor) -> None:
    """An RPC without the option would be open to every key, so the option must be there even where it is empty."""
    options = method.GetOptions()
    assert isinstance(options, descriptor_pb2.MethodOptions)
    assert options.HasExtension(options_pb2.access)
    scope = options.Extensions[options_pb2.access].scope
    assert method.containing_service.name in SCOPES.get(scope, set())


@every_method
def test_each_rpc_that_changes_something_needs_a_write_scope(method: MethodDescriptor) -> None:
    """Read scopes open RPCs that read, and no others; tickets belong to writers altogether."""
    if method.containing_service.name in {"UploadTicketService", "CapabilityService", "WebhookService"}:
        return
    scope = method.GetOptions().Extensions[options_pb2.access].scope
    assert scope.endswith(":read" if READING.match(method.name) else ":write")


@every_method
def test_each_rpc_has_a_request_and_a_response_of_its_own(method: MethodDescriptor) -> None:
    """A shared message could not grow for one RPC without growing for the others."""
    assert method.input_type.full_name == f"remora.v1.{method.name}Request"
    assert method.output_type.full_name == f"remora.v1.{method.name}Response"


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.name.startswith(("List", "Lookup"))], ids=lambda method: str(method.full_name)
)
def test_each_list_is_paged(method: MethodDescriptor) -> None:
    """A list without pages cannot be given pages later."""
    assert {"workspace_id", "page_size", "page_token"} <= set(method.input_type.fields_by_name)
    assert "next_page_token" in method.output_type.fields_by_name
    assert ("include_total_size" in method.input_type.fields_by_name) == (
        "total_size" in method.output_type.fields_by_name
    )


@every_method
def test_each_batch_answers_item_by_item(method: MethodDescriptor) -> None:
    """A result is a value or an error, so that one bad item does not spoil the others."""
    if not method.name.startswith("Batch"):
        return
    results = method.output_type.fields_by_name["results"]
    assert results.is_repeated
    item = results.message_type
    assert item is not None
    members = {field.name for field in item.oneofs_by_name["result"].fields}
    assert "error" in members
    assert len(members) > 1


def test_reasons_are_short_enough_and_documented() -> None:
    """A reason has at most 63 characters, and its comment says when, which code, which metadata, and what to do."""
    source = (ROOT / "proto" / "remora" / "v1" / "error_reason.proto").read_text(encoding="utf-8")
    for name in error_reason_pb2.ErrorReason.keys()[1:]:
        comment = re.search(rf"((?:^ *//.*\n)+) *{name} = ", source, re.MULTILINE)
        assert comment is not None, name
        assert [word for word in ("When:", "Code:", "Metadata:", "Do:") if word not in comment[1]] == [], name
        assert len(name.removeprefix("ERROR_REASON_")) <= LONGEST_REASON


def test_every_stub_comes_from_a_proto() -> None:
    """No stub is left over from a proto that is gone, and message-only files leave no empty gRPC module."""
    generated = {path.name for path in (ROOT / "clients" / "python" / "remora" / "v1").glob("*_pb2*.py*")}
    wanted = {f"{proto.stem}_pb2{end}" for proto in PROTOS for end in (".py", ".pyi")}
    wanted |= {
        f"{proto.stem}_pb2_grpc{end}" for proto in PROTOS if proto.stem.endswith("_service") for end in (".py", ".pyi")
    }
    assert generated == wanted
    assert all(
        importlib.import_module(f"remora.v1.{name.removesuffix('.py')}") for name in wanted if name.endswith(".py")
    )

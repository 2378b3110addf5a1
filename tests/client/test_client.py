"""The rest of the client: cards, links, the log, settings, errors."""

from __future__ import annotations

import json
import time
from importlib import metadata, resources
from itertools import islice
from pathlib import Path

import grpc
import pytest
from google.rpc import status_pb2

import remora
from remora import Client, errors
from remora.addresses import is_local
from remora.model import subject_from_text
from remora.silence import Silence
from remora.v1 import activity_service_pb2, attachment_service_pb2, error_reason_pb2, link_service_pb2
from tests.client.fake_server import KEY, FakeServer, Wanted, activity

Watched = activity_service_pb2.WatchActivitiesResponse


def batch(*numbers: int) -> Watched:
    """Make a batch of activities."""
    activities = [activity(number) for number in numbers]
    return Watched(batch=Watched.Batch(activities=activities, cursor=activities[-1].cursor))


def test_attaching_twice_changes_nothing(fake: FakeServer, client: Client) -> None:
    """Each change has an id of its own, so that a retry is known."""
    first = client.attach("DEMO-1", "https://ci.example/7", title="Build 7", metadata={"n": 7}, sequence_number=3)
    again = client.attach("DEMO-1", "https://ci.example/7")
    assert (first.outcome, again.outcome) == ("created", "unchanged")
    assert first.attachment.id == again.attachment.id
    assert (first.attachment.name, first.attachment.metadata) == ("Build 7", {"n": 7})
    assert first.attachment.sequence_number == 3
    assert len({call.request_id for call in fake.calls}) == 2


def test_a_list_is_read_to_its_last_page(client: Client) -> None:
    """The fake gives one item a page."""
    for number in range(3):
        client.attach("DEMO-1", f"https://ci.example/{number}")
    assert [one.url[-1] for one in client.ls("DEMO-1")] == ["2", "1", "0"]


def test_an_attachment_is_removed_by_id_name_or_url(client: Client) -> None:
    """The newest that fits."""
    first = client.attach("DEMO-1", "https://ci.example/1", title="one").attachment
    client.attach("DEMO-1", "https://ci.example/2")
    assert client.rm("DEMO-1", "one").id == first.id
    client.rm("DEMO-1", "https://ci.example/2")
    with pytest.raises(errors.NotFoundError):
        client.rm("DEMO-1", "one")


def test_links_are_added_once(client: Client) -> None:
    """Created, found, listed, removed."""
    link, created = client.add_link("DEMO-1", "https://example.com/", title="Design")
    assert created
    assert client.add_link("DEMO-1", "https://example.com/") == (link, False)
    assert client.list_links("DEMO-1") == [link]
    client.remove_link(link.id)
    assert client.list_links("DEMO-1") == []


def test_the_log_is_listed(client: Client) -> None:
    """Newest first."""
    assert [one.id for one in client.activity("DEMO-1")] == ["act_2", "act_1"]


def test_a_watch_goes_on_after_a_break_and_gives_each_activity_once(fake: FakeServer, client: Client) -> None:
    """It asks again from the last cursor, and drops what it has seen."""
    started = Watched(started=Watched.Started(cursor="c0"))
    checkpoint = Watched(checkpoint=Watched.Checkpoint(cursor="c5"))
    fake.watches.extend([[started], [batch(1, 2)], [batch(2, 3), checkpoint], [batch(4)]])
    events = list(islice(client.watch("DEMO-1"), 4))
    assert [event.id for event in events] == ["act_1", "act_2", "act_3", "act_4"]
    assert [call.start_cursor for call in fake.calls] == ["", "c0", "c2", "c5"]


def test_a_watch_ends_when_the_log_lost_the_place(client: Client) -> None:
    """Trying the same cursor again never helps."""
    with pytest.raises(errors.CursorCompactedError) as caught:
        next(client.watch(cursor="c0"))
    assert caught.value.metadata == {"earliest_cursor": "c0"}


def test_the_stubs_are_there_and_sign_their_calls(fake: FakeServer, client: Client) -> None:
    """A change through a stub gets an id too, in a copy: the caller may use its message for another change."""
    request = link_service_pb2.CreateLinkRequest(workspace_id="demo", url="https://example.com/")
    client.links.CreateLink(request)
    client.links.CreateLink(request)
    assert request.request_id == ""
    assert len({call.request_id for call in fake.calls}) == 2
    assert fake.user_agents == {f"remora-python/{remora.__version__}"}


def test_a_wrong_key_is_refused(fake: FakeServer) -> None:
    """With the reason of the service."""
    with Client(fake.address, key="wrong", workspace="demo") as client, pytest.raises(errors.TokenMissingError):
        client.ls("DEMO-1")


def test_an_unavailable_service_is_asked_again(fake: FakeServer, client: Client) -> None:
    """By gRPC itself, as the service config says."""
    fake.unary_failures.append(Wanted(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", retry_after=0.01))
    assert client.ls("DEMO-1") == []
    assert len(fake.calls) == 2


def test_settings_come_from_the_environment(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a script need not name them."""
    monkeypatch.setenv("REMORA_ADDRESS", fake.address)
    monkeypatch.setenv("REMORA_KEY", KEY)
    monkeypatch.setenv("REMORA_WORKSPACE", "demo")
    with Client() as client:
        assert client.ls("DEMO-1") == []
    assert isinstance(fake.calls[0], attachment_service_pb2.ListAttachmentsRequest)
    assert fake.calls[0].workspace_id == "demo"


def test_a_workspace_is_needed() -> None:
    """There is no default that could be right."""
    with pytest.raises(ValueError, match="REMORA_WORKSPACE"):
        Client("localhost:1")


def test_certificates_turn_tls_on(tmp_path: Path, fake: FakeServer) -> None:
    """A server without TLS is then not spoken to."""
    path = tmp_path / "ca.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
    with Client(fake.address, key=KEY, workspace="demo", ca=path) as client, pytest.raises(errors.RemoraError):
        client.ls("DEMO-1")
    assert fake.calls == []


@pytest.mark.parametrize(
    ("text", "kind", "subject_id", "key"),
    [
        ("DEMO-1", "issue", "", "DEMO-1"),
        ("iss_01m7yk2mkfe55r9wf4ph8jnxem", "issue", "iss_01m7yk2mkfe55r9wf4ph8jnxem", ""),
        ("01890a5d-ac96-774b-bcce-b302099a8057", "issue", "01890a5d-ac96-774b-bcce-b302099a8057", ""),
        ("comment:42", "comment", "42", ""),
    ],
)
def test_a_subject_is_read_from_text(text: str, kind: str, subject_id: str, key: str) -> None:
    """An issue unless it says otherwise."""
    subject = subject_from_text(text)
    assert (subject.type, subject.id, subject.key) == (kind, subject_id, key)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("localhost:7460", True),
        ("127.0.0.2:1", True),
        ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("unix:/tmp/x", True),
        ("files.example:443", False),
        ("10.0.0.1:1", False),
    ],
)
def test_a_local_address_is_known(address: str, local: bool) -> None:  # noqa: FBT001
    """Such an address is not reached through a proxy."""
    assert is_local(address) is local


def test_each_reason_of_the_contract_has_its_error() -> None:
    """The table is complete, and has nothing that the contract has not."""
    names = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert set(errors.BY_REASON) == names


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("UNAVAILABLE", "Connection refused", errors.ConnectionFailedError),
        ("CANCELLED", "the server is gone", errors.ConnectionFailedError),
        ("INTERNAL", "Received RST_STREAM with error code 2", errors.ConnectionFailedError),
        ("RESOURCE_EXHAUSTED", "Received message larger than max", errors.RemoraError),
    ],
)
def test_a_status_without_a_reason_is_of_grpc_itself(code: str, message: str, kind: type[errors.RemoraError]) -> None:
    """Only a broken connection is worth another attempt."""
    error = errors.from_status(status_pb2.Status(message=message), code)
    assert type(error) is kind
    assert errors.worth_retrying(error) is (kind is errors.ConnectionFailedError)


def test_the_service_config_is_shipped_and_retries_no_stream() -> None:
    """Streams are taken up by the client; to gRPC they are not worth repeating."""
    config = json.loads(resources.files("remora").joinpath("service_config.json").read_text())
    (streams,) = [one for one in config["methodConfig"] if "retryPolicy" not in one]
    assert {name["method"] for name in streams["name"]} == {"WriteFile", "ReadFile", "WatchActivities"}


def test_the_version_is_that_of_the_distribution() -> None:
    """It stands in two places."""
    assert remora.__version__ == metadata.version("remora")


def test_the_package_has_what_it_names() -> None:
    """Its names are loaded only when they are used."""
    for name in remora.__all__:
        assert getattr(remora, name)
    with pytest.raises(AttributeError):
        getattr(remora, "Nope")  # noqa: B009 - mypy would object to the plain form.


def test_silence_ends_a_call() -> None:
    """Only if it lasts."""

    class Call:
        cancelled = 0

        def cancel(self) -> None:
            self.cancelled += 1

    call = Call()
    with Silence(call, 0.05) as silence:
        for _ in range(4):
            time.sleep(0.03)
            silence.heard()
        assert not call.cancelled
        time.sleep(0.2)
        assert call.cancelled

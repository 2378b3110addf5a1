"""AttachmentService over a real server."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2

from remora.v1 import attachment_pb2, common_pb2
from remora.v1 import attachment_service_pb2 as pb
from remora.v1 import file_service_pb2 as file_pb
from tests.rpc.asking import (
    WORKSPACE,
    at_once,
    attach,
    create,
    delete,
    events,
    get,
    known,
    listed,
    outcome_of,
    reason_of,
    second_user,
    types,
    upload,
    upsert,
    upsert_request,
    values,
)
from tests.running import Api, RunningServer, issue, refused

URL = "https://ci.example.com/builds/7"
CREATED, UPDATED = common_pb2.OUTCOME_CREATED, common_pb2.OUTCOME_UPDATED
UNCHANGED, STALE = common_pb2.OUTCOME_UNCHANGED, common_pb2.OUTCOME_STALE
CODE = grpc.StatusCode


def update(api: Api, attachment_id: str, *mask: str, **fields: Any) -> attachment_pb2.Attachment:
    """Update an attachment."""
    request = pb.UpdateAttachmentRequest(
        attachment=attachment_pb2.Attachment(id=attachment_id, **fields),
        update_mask=FieldMask(paths=mask) if mask else None,
    )
    return api.attachments.UpdateAttachment(request).attachment


def archive(api: Api, attachment_id: str, etag: str = "") -> attachment_pb2.Attachment:
    """Archive an attachment."""
    request = pb.ArchiveAttachmentRequest(attachment_id=attachment_id, etag=etag)
    return api.attachments.ArchiveAttachment(request).attachment


def undelete(api: Api, attachment_id: str) -> attachment_pb2.Attachment:
    """Undelete an attachment."""
    return api.attachments.UndeleteAttachment(pb.UndeleteAttachmentRequest(attachment_id=attachment_id)).attachment


class TestUpsert:
    """Makes sure that a subject shows a URL."""

    def test_creates_updates_and_leaves_alone(self, api: Api, new_issue: str) -> None:
        """The first call creates, one that differs updates, one that does not writes nothing and tells nobody (P28)."""
        first = upsert(api, new_issue, URL, title="Build 7")
        second = upsert(api, new_issue, URL, title="Build 7, green", subtitle="main")
        third = upsert(api, new_issue, URL, title="Build 7, green")
        assert [one.outcome for one in (first, second, third)] == [CREATED, UPDATED, UNCHANGED]
        assert first.attachment.id == second.attachment.id
        assert third.attachment == second.attachment == get(api, first.attachment.id)
        assert second.attachment.subtitle == "main"
        assert first.attachment.etag != second.attachment.etag
        found = events(api, new_issue)
        assert types(found) == ["attachment.created", "attachment.updated"]
        assert found[1].changed_fields == ["title", "subtitle"]

    def test_the_first_write_to_an_issue_registers_it(self, api: Api, new_issue: str) -> None:
        """An issue that nobody pushed becomes known by its key."""
        made = upsert(api, new_issue, URL).attachment
        assert made.subject.id == known(api, new_issue).issue.id
        assert made.subject.key == new_issue

    def test_one_url_in_many_spellings(self, api: Api, new_issue: str) -> None:
        """Spellings that RFC 3986 calls equal are one attachment, which keeps the URL that it was made with (P25)."""
        first = upsert(api, new_issue, "HTTPS://CI.Example.com:443/a/./b/../%7euser?q=1#top")
        again = upsert(api, new_issue, "https://ci.example.com/a/~user?q=1#top", title="t")
        assert (again.outcome, again.attachment.id) == (UPDATED, first.attachment.id)
        assert again.attachment.url == "HTTPS://CI.Example.com:443/a/./b/../%7euser?q=1#top"
        assert again.attachment.normalized_url == "https://ci.example.com/a/~user?q=1#top"

    def test_urls_that_may_differ_stay_apart(self, api: Api, new_issue: str) -> None:
        """Scheme, www, query order, fragment and trailing slash tell two attachments apart."""
        urls = [
            "https://e.example/a?x=1&y=2", "https://e.example/a?y=2&x=1", "http://e.example/a?x=1&y=2",
            "https://www.e.example/a?x=1&y=2", "https://e.example/a/?x=1&y=2", "https://e.example/a?x=1&y=2#f",
        ]  # fmt: skip
        assert {upsert(api, new_issue, url).outcome for url in urls} == {CREATED}
        assert len(listed(api, new_issue)) == len(urls)

    def test_the_same_url_on_another_subject_is_another_attachment(self, api: Api, new_issue: str) -> None:
        """The scope of a URL is its subject, whose type counts."""
        first = upsert(api, new_issue, URL).attachment
        comment = common_pb2.Subject(type="comment", id=new_issue)
        other = upsert(api, new_issue, URL, subject=comment)
        assert other.outcome == CREATED
        assert other.attachment.id != first.id
        assert (other.attachment.subject.type, other.attachment.subject.id) == ("comment", new_issue)

    def test_without_a_mask_only_what_is_set_changes(self, api: Api, new_issue: str) -> None:
        """An absent mask means every populated field."""
        upsert(api, new_issue, URL, title="t", subtitle="s", metadata=values(a=1, b="x"))
        after = upsert(api, new_issue, URL, subtitle="s2").attachment
        assert (after.title, after.subtitle, dict(after.metadata)) == ("t", "s2", values(a=1, b="x"))

    def test_a_mask_names_what_changes(self, api: Api, new_issue: str) -> None:
        """Fields outside the mask stay, fields inside it are emptied if they are not set."""
        upsert(api, new_issue, URL, title="t", subtitle="s", group_key="g")
        after = upsert(api, new_issue, URL, mask=["title", "group_key"], title="t2", subtitle="ignored").attachment
        assert (after.title, after.subtitle, after.group_key) == ("t2", "s", "")

    def test_a_mask_may_name_one_key_of_the_metadata(self, api: Api, new_issue: str) -> None:
        """`metadata.KEY` sets one value, or removes it, and leaves the other keys alone."""
        upsert(api, new_issue, URL, metadata=values(build=1, other="o", **{"a.b": 2}))
        changed = upsert(api, new_issue, URL, mask=["metadata.build"], metadata=values(build=2, other="no")).attachment
        assert dict(changed.metadata) == values(build=2, other="o", **{"a.b": 2})
        removed = upsert(api, new_issue, URL, mask=["metadata.build", "metadata.a.b"]).attachment
        assert dict(removed.metadata) == values(other="o")

    def test_metadata_given_whole_replaces_the_old(self, api: Api, new_issue: str) -> None:
        """Without a mask, or with `metadata` in it, the map is exchanged."""
        upsert(api, new_issue, URL, metadata=values(a=1, b=2))
        assert dict(upsert(api, new_issue, URL, metadata=values(a=1)).attachment.metadata) == values(a=1)
        assert dict(upsert(api, new_issue, URL, mask=["metadata"]).attachment.metadata) == {}

    def test_metadata_keeps_the_types_of_its_values(self, api: Api, new_issue: str) -> None:
        """All 64 bits of a number are kept, and 1 is not 1.0."""
        given = values(small=-(2**63), large=2**63 - 1, real=0.1, whole=1.0, text="ünï")
        made = upsert(api, new_issue, URL, metadata=given).attachment
        assert dict(get(api, made.id).metadata) == given
        assert upsert(api, new_issue, URL, mask=["metadata.whole"], metadata=values(whole=1)).outcome == UPDATED

    def test_metadata_can_not_grow_beyond_its_limits(self, api: Api, new_issue: str) -> None:
        """The limits hold for what would be stored, not just for what one request adds."""
        upsert(api, new_issue, URL, metadata=values(**{f"a{n}": n for n in range(50)}))
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            upsert(api, new_issue, URL, mask=["metadata.one_more"], metadata=values(one_more=1))
        assert seen[0].fields == ["attachment.metadata"]

    def test_a_star_replaces_everything(self, api: Api, new_issue: str) -> None:
        """`*` takes every changeable field, so those that are not given are emptied."""
        upsert(api, new_issue, URL, title="t", subtitle="s", icon_url="https://i.example/i.png", metadata=values(a=1))
        after = upsert(api, new_issue, URL, mask=["*"], subtitle="s2").attachment
        assert (after.title, after.subtitle, after.icon_url, len(after.metadata)) == ("", "s2", "", 0)

    def test_an_insert_takes_every_field(self, api: Api, new_issue: str) -> None:
        """A new attachment is stored whole, whatever the mask."""
        made = upsert(api, new_issue, URL, mask=["title"], title="t", subtitle="s", group_key="g", sequence_number=4)
        stored = get(api, made.attachment.id)
        assert (stored.title, stored.subtitle, stored.group_key, stored.sequence_number) == ("t", "s", "g", 4)

    def test_an_unknown_path_is_refused(self, api: Api, new_issue: str) -> None:
        """A mask that names no field is a mistake of the caller's."""
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            upsert(api, new_issue, URL, mask=["titel"], title="t")
        assert seen[0].fields == ["update_mask"]

    def test_a_mask_of_output_only_fields_changes_nothing(self, api: Api, new_issue: str) -> None:
        """Output-only paths are ignored; a mask of nothing else is still a mask."""
        upsert(api, new_issue, URL, title="t")
        after = upsert(api, new_issue, URL, mask=["etag", "create_time"], title="t2")
        assert (after.outcome, after.attachment.title) == (UNCHANGED, "t")

    def test_insert_only(self, api: Api, new_issue: str) -> None:
        """What exists is left alone and named."""
        mode = common_pb2.UPSERT_MODE_INSERT_ONLY
        made = upsert(api, new_issue, URL, mode=mode, title="t")
        assert made.outcome == CREATED
        with refused(CODE.ALREADY_EXISTS, "ATTACHMENT_URL_EXISTS") as seen:
            upsert(api, new_issue, URL, mode=mode, title="t2")
        assert seen[0].info.metadata["attachment_id"] == made.attachment.id
        assert get(api, made.attachment.id).title == "t"

    def test_update_only(self, api: Api, new_issue: str) -> None:
        """What is missing stays missing, even the issue."""
        mode = common_pb2.UPSERT_MODE_UPDATE_ONLY
        for _ in range(2):
            with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
                upsert(api, new_issue, URL, mode=mode, title="t")
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            known(api, new_issue)
        upsert(api, new_issue, URL)
        assert upsert(api, new_issue, URL, mode=mode, title="t").outcome == UPDATED

    def test_etag(self, api: Api, new_issue: str) -> None:
        """Only the version that the caller read is changed; the right etag comes with the refusal."""
        old = upsert(api, new_issue, URL).attachment
        new = upsert(api, new_issue, URL, etag=old.etag, title="t").attachment
        with refused(CODE.ABORTED, "ETAG_MISMATCH") as seen:
            upsert(api, new_issue, URL, etag=old.etag, title="t2")
        assert seen[0].info.metadata["current_etag"] == new.etag
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            upsert(api, new_issue, f"{URL}/other", etag=old.etag)

    def test_a_deleted_attachment_does_not_match(self, api: Api, new_issue: str) -> None:
        """After a delete the URL is free, and a new attachment takes it."""
        old = upsert(api, new_issue, URL, title="old").attachment
        delete(api, old.id)
        new = upsert(api, new_issue, URL)
        assert (new.outcome, new.attachment.title) == (CREATED, "")
        assert new.attachment.id != old.id

    @pytest.mark.parametrize("number", [4, 5])
    def test_stale_sequence_numbers_change_nothing(self, api: Api, new_issue: str, number: int) -> None:
        """A number not above the stored one answers STALE with what is stored, and leaves no trace (P25)."""
        stored = upsert(api, new_issue, URL, sequence_number=5, title="five").attachment
        late = upsert(api, new_issue, URL, sequence_number=number, title="late", mask=["*"])
        assert (late.outcome, late.attachment) == (STALE, stored)
        assert get(api, stored.id) == stored
        assert types(events(api, new_issue)) == ["attachment.created"]

    def test_a_higher_sequence_number_counts_even_if_nothing_else_changed(self, api: Api, new_issue: str) -> None:
        """The number is kept with an UNCHANGED answer, so a writer that comes later is recognised as stale (P25)."""
        upsert(api, new_issue, URL, sequence_number=1, title="t")
        assert upsert(api, new_issue, URL, sequence_number=9, title="t").outcome == UNCHANGED
        assert upsert(api, new_issue, URL, sequence_number=8, title="old").outcome == STALE
        assert upsert(api, new_issue, URL, title="without a number").outcome == UPDATED
        assert upsert(api, new_issue, URL, sequence_number=9, title="old").outcome == STALE

    def test_64_at_once(self, api: Api, new_issue: str) -> None:
        """Of 64 concurrent upserts of one URL one creates, all get one id, and the fields are one call's (P25)."""

        def call(number: int) -> pb.UpsertAttachmentResponse:
            text = f"call {number}"
            return upsert(api, new_issue, URL, title=text, subtitle=text, group_key=text, metadata=values(by=text))

        answers = at_once(64, call)
        assert sorted(one.outcome for one in answers) == [CREATED] + [UPDATED] * 63
        assert len({one.attachment.id for one in answers}) == 1
        (stored,) = listed(api, new_issue, show_archived=True, show_deleted=True)
        for one in (stored, *(answer.attachment for answer in answers)):
            assert {one.title, one.subtitle, one.group_key, one.metadata["by"].string_value} == {one.title}
        assert stored.title in {f"call {number}" for number in range(64)}
        assert types(events(api, new_issue)) == ["attachment.created"] + ["attachment.updated"] * 63

    def test_the_highest_sequence_number_wins(self, api: Api, new_issue: str) -> None:
        """However 32 numbered writers race, what the last of them sent stands in the end (P25)."""

        def call(number: int) -> pb.UpsertAttachmentResponse:
            return upsert(api, new_issue, URL, sequence_number=number, title=f"n{number}", subtitle=f"n{number}")

        answers = at_once(32, call)
        (stored,) = listed(api, new_issue)
        assert (stored.sequence_number, stored.title, stored.subtitle) == (31, "n31", "n31")
        written = [one for one in answers if one.outcome in {CREATED, UPDATED}]
        assert len(events(api, new_issue)) == len(written)
        assert all(
            one.attachment.sequence_number > number for number, one in enumerate(answers) if one.outcome == STALE
        )

    def test_insert_only_at_once(self, api: Api, new_issue: str) -> None:
        """Exactly one of 16 racing inserts succeeds, and the others are told its id (P25)."""

        def call(number: int) -> grpc.StatusCode:
            mode = common_pb2.UPSERT_MODE_INSERT_ONLY
            return outcome_of(lambda: upsert(api, new_issue, URL, mode=mode, title=str(number)))

        ended = at_once(16, call)
        assert sorted(ended, key=lambda code: code is CODE.OK) == [CODE.ALREADY_EXISTS] * 15 + [CODE.OK]
        assert [one.title for one in listed(api, new_issue)] == [str(ended.index(CODE.OK))]

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"title": "x" * 1025}, "attachment.title"),
            ({"subtitle": "x" * 4097}, "attachment.subtitle"),
            ({"icon_url": "https://e.example/" + "x" * 2048}, "attachment.icon_url"),
            ({"icon_url": "javascript:alert(1)"}, "attachment.icon_url"),
            ({"group_key": "x" * 256}, "attachment.group_key"),
            ({"title": "a\0b"}, "attachment.title"),
            ({"external_ref": common_pb2.ExternalRef(source="x" * 256)}, "attachment.external_ref.source"),
            ({"metadata": values(a="x" * 4097)}, "attachment.metadata.a"),
            ({"metadata": values(**{"x" * 129: 1})}, "attachment.metadata"),
            ({"metadata": values(a=float("nan"))}, "attachment.metadata.a"),
            ({"subject": common_pb2.Subject(type="Issue", key="A-1")}, "subject.type"),
            ({"subject": common_pb2.Subject(type="issue")}, "subject.key"),
            ({"workspace_id": ""}, "attachment.workspace_id"),
        ],
    )
    def test_limits(self, api: Api, new_issue: str, fields: dict[str, Any], named: str) -> None:
        """A field beyond its limits is refused by name, and nothing is stored."""
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            upsert(api, new_issue, URL, **fields)
        assert seen[0].fields == [named]
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            known(api, new_issue)

    @pytest.mark.parametrize(
        "url", ["", "ftp://e.example/", "javascript:alert(1)", "//e.example/", "https://a:b@e.example/", "https://a b/"]
    )
    def test_urls_that_are_not_allowed(self, api: Api, new_issue: str, url: str) -> None:
        """Only http and https without a user name become attachments."""
        with refused(CODE.INVALID_ARGUMENT, "URL_NOT_ALLOWED") as seen:
            upsert(api, new_issue, url)
        assert seen[0].fields == ["attachment.url"]


class TestRepeats:
    """A call with a request_id is done once."""

    def test_a_repeated_call_gets_its_first_answer(self, api: Api, new_issue: str) -> None:
        """Byte for byte, whatever happened since, and without a second event (P26, P28)."""
        request_id = str(uuid.uuid4())
        first = upsert(api, new_issue, URL, title="t", request_id=request_id)
        upsert(api, new_issue, URL, title="changed by somebody")
        again = upsert(api, new_issue, URL, title="t", request_id=request_id.upper())
        assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
        assert get(api, first.attachment.id).title == "changed by somebody"
        found = events(api, new_issue)
        assert types(found) == ["attachment.created", "attachment.updated"]
        assert [one.request_id for one in found] == [request_id, ""]

    def test_a_lost_answer(self, api: Api, new_issue: str) -> None:
        """A create that is repeated because its answer was lost returns the attachment instead of a refusal (P26)."""
        request_id = str(uuid.uuid4())
        first = create(api, new_issue, URL, request_id=request_id)
        assert create(api, new_issue, URL, request_id=request_id) == first
        with refused(CODE.ALREADY_EXISTS, "ATTACHMENT_URL_EXISTS"):
            create(api, new_issue, URL, request_id=str(uuid.uuid4()))

    def test_at_once(self, api: Api, new_issue: str) -> None:
        """Sixteen repeats that race get one answer (P26)."""
        request_id = str(uuid.uuid4())
        answers = at_once(16, lambda _: create(api, new_issue, URL, request_id=request_id))
        assert all(one == answers[0] for one in answers)
        assert types(events(api, new_issue)) == ["attachment.created"]

    def test_other_parameters(self, api: Api, new_issue: str) -> None:
        """The same request_id with another body is refused and does nothing (P26)."""
        request_id = str(uuid.uuid4())
        made = upsert(api, new_issue, URL, title="t", request_id=request_id).attachment
        with refused(CODE.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
            upsert(api, new_issue, URL, title="t2", request_id=request_id)
        assert get(api, made.id) == made

    def test_belongs_to_one_user_and_one_call(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Another user, and another RPC, may use the same request_id for something else (P26)."""
        request_id = str(uuid.uuid4())
        first = upsert(api, new_issue, URL, request_id=request_id).attachment
        other = upsert(second_user(server), new_issue, f"{URL}/2", request_id=request_id).attachment
        third = create(api, new_issue, f"{URL}/3", request_id=request_id)
        assert len({first.id, other.id, third.id}) == 3

    def test_a_refusal_is_not_kept(self, api: Api, new_issue: str) -> None:
        """What was refused may be tried again with the same request_id (P26)."""
        request_id, mode = str(uuid.uuid4()), common_pb2.UPSERT_MODE_UPDATE_ONLY
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            upsert(api, new_issue, URL, mode=mode, title="t", request_id=request_id)
        upsert(api, new_issue, URL)
        assert upsert(api, new_issue, URL, mode=mode, title="t", request_id=request_id).outcome == UPDATED

    @pytest.mark.parametrize("request_id", ["x", "1" * 37, "not-a-uuid-not-a-uuid-not-a-uuid-not", "\0"])
    def test_must_be_a_uuid(self, api: Api, new_issue: str, request_id: str) -> None:
        """Anything else is refused by name."""
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            upsert(api, new_issue, URL, request_id=request_id)
        assert seen[0].fields == ["request_id"]

    def test_over_a_kill(self, start_server: Callable[..., RunningServer], new_issue: str) -> None:
        """The answer survives the server, since it was committed with its effect (P26)."""
        server = start_server()
        api, request_id = server.api(), str(uuid.uuid4())
        first = upsert(api, new_issue, URL, title="t", request_id=request_id)
        server.kill()
        api = server.restart().api()
        assert upsert(api, new_issue, URL, title="t", request_id=request_id) == first
        with refused(CODE.INVALID_ARGUMENT, "REQUEST_ID_REUSED"):
            upsert(api, new_issue, URL, title="other", request_id=request_id)
        assert types(events(api, new_issue)) == ["attachment.created"]


class TestBatchUpsert:
    """Up to a hundred upserts, each by itself."""

    def call(self, api: Api, *requests: pb.UpsertAttachmentRequest, **fields: Any) -> pb.BatchUpsertAttachmentsResponse:
        """Send a batch."""
        return api.attachments.BatchUpsertAttachments(
            pb.BatchUpsertAttachmentsRequest(workspace_id=WORKSPACE, requests=requests, **fields)
        )

    def test_each_item_by_itself(self, api: Api, new_issue: str) -> None:
        """Results come in order; a refused item leaves no trace and harms no other."""
        results = self.call(
            api,
            upsert_request(new_issue, URL, title="one", workspace_id=""),
            upsert_request(new_issue, "ftp://e.example/"),
            upsert_request(new_issue, f"{URL}/2", title="x" * 2000),
            upsert_request(new_issue, f"{URL}/3", workspace_id="other"),
            upsert_request(new_issue, f"{URL}/4"),
        ).results
        reasons = [reason_of(one.error) if one.HasField("error") else one.outcome for one in results]
        assert reasons == [CREATED, "URL_NOT_ALLOWED", "VALIDATION_FAILED", "RESOURCE_NOT_FOUND", CREATED]
        assert {one.url for one in listed(api, new_issue)} == {URL, f"{URL}/4"}
        assert types(events(api, new_issue)) == ["attachment.created"] * 2

    def test_a_value_that_nobody_knows_harms_one_item_only(self, api: Api, new_issue: str) -> None:
        """An item with an unknown mode fails by itself too."""
        results = self.call(api, upsert_request(new_issue, URL, mode=99), upsert_request(new_issue, f"{URL}/2")).results
        assert [reason_of(results[0].error), results[1].outcome] == ["VALIDATION_FAILED", CREATED]

    def test_duplicates(self, api: Api, new_issue: str) -> None:
        """The second item for one subject and URL, in whatever spelling, is refused."""
        results = self.call(
            api,
            upsert_request(new_issue, "https://e.example", title="first"),
            upsert_request(new_issue, "https://E.example:443/", title="second"),
            upsert_request(f"{new_issue}-b", "https://e.example/"),
        ).results
        assert [reason_of(one.error) if one.HasField("error") else one.outcome for one in results] == [
            CREATED,
            "DUPLICATE_IN_BATCH",
            CREATED,
        ]
        assert [one.title for one in listed(api, new_issue)] == ["first"]

    def test_a_repeated_batch(self, api: Api, new_issue: str) -> None:
        """The request_id of the batch stands for all of it (P26)."""
        request_id = str(uuid.uuid4())
        first = self.call(api, upsert_request(new_issue, URL, title="t"), request_id=request_id)
        upsert(api, new_issue, URL, title="t2")
        assert self.call(api, upsert_request(new_issue, URL, title="t"), request_id=request_id) == first
        assert [one.request_id for one in events(api, new_issue)] == [request_id, ""]

    def test_forms_that_are_refused(self, api: Api, new_issue: str) -> None:
        """An empty batch, one of 101 items, and a request_id inside one are mistakes of the whole call."""
        one = upsert_request(new_issue, URL)
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            self.call(api)
        assert seen[0].fields == ["requests"]
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            self.call(api, *[one] * 101)
        assert seen[0].fields == ["requests"]
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            self.call(api, upsert_request(new_issue, URL, request_id=str(uuid.uuid4())))
        assert seen[0].fields == ["requests.request_id"]

    def test_a_hundred(self, api: Api, new_issue: str) -> None:
        """The largest batch is done in one call."""
        results = self.call(api, *[upsert_request(new_issue, f"{URL}/{n}") for n in range(100)]).results
        assert [one.attachment.url for one in results] == [f"{URL}/{n}" for n in range(100)]


class TestCreate:
    """Creates what must not be there yet."""

    def test_a_url_that_is_there(self, api: Api, new_issue: str) -> None:
        """The refusal names the attachment that has the URL."""
        made = create(api, new_issue, URL, title="t")
        with refused(CODE.ALREADY_EXISTS, "ATTACHMENT_URL_EXISTS") as seen:
            create(api, new_issue, "HTTPS://ci.example.com:443/builds/7", title="t2")
        assert seen[0].info.metadata["attachment_id"] == made.id
        (resource,) = [one for one in seen[0].details if one.type_url.endswith("ResourceInfo")]
        info = error_details_pb2.ResourceInfo()
        resource.Unpack(info)
        assert info.resource_name == f"attachments/{made.id}"
        assert get(api, made.id) == made

    def test_needs_a_target(self, api: Api, new_issue: str) -> None:
        """Neither URL nor file is refused."""
        wanted = attachment_pb2.Attachment(workspace_id=WORKSPACE, subject=issue(new_issue), title="t")
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            api.attachments.CreateAttachment(pb.CreateAttachmentRequest(attachment=wanted))
        assert seen[0].fields == ["attachment.url"]

    def test_what_the_server_fills_in(self, api: Api, new_issue: str) -> None:
        """Ids, actors and times are the server's, whatever the caller wrote there."""
        made = create(api, new_issue, URL, id="att_00000000000000000000000000", etag='"77"', normalized_url="x")
        assert made.id != "att_00000000000000000000000000"
        assert (made.normalized_url, made.etag) == (URL, '"1"')
        assert made.creator == made.updater
        assert made.creator.display_name == "Demo User"
        assert made.create_time == made.update_time
        assert not any(made.HasField(name) for name in ("archive_time", "delete_time", "purge_time", "file"))
        assert made.workspace_id.startswith("wks_")
        assert get(api, made.id) == made

    @pytest.mark.parametrize("spelled_as", ["id", "uuid"])
    def test_an_id_of_the_callers_own(self, api: Api, new_issue: str, spelled_as: str) -> None:
        """An id may be brought along, as such or as a UUID, and found by both (contract D3)."""
        bits = uuid.uuid4()
        first = create(api, new_issue, URL, attachment_id=str(bits))
        if spelled_as == "id":
            delete(api, first.id)
            with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
                create(api, new_issue, URL, attachment_id=first.id)
        assert first.id.startswith("att_")
        assert get(api, str(bits)).id == get(api, first.id).id == first.id

    def test_an_id_that_is_taken(self, api: Api, new_issue: str) -> None:
        """An id is used once, and a malformed one never."""
        made = create(api, new_issue, URL)
        for wrong in (made.id, "att_1", "lnk_01m7yggyheeq5rqe7req2vftaj", "\0"):
            with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
                create(api, new_issue, f"{URL}/2", attachment_id=wrong)
            assert seen[0].fields == ["attachment_id"]

    def test_an_upsert_uses_the_id_for_a_new_attachment_only(self, api: Api, new_issue: str) -> None:
        """An existing attachment keeps its id, and the one brought along is ignored."""
        first = upsert(api, new_issue, URL, attachment_id=str(uuid.uuid4()))
        again = upsert(api, new_issue, URL, attachment_id=str(uuid.uuid4()), title="t")
        assert (again.outcome, again.attachment.id) == (UPDATED, first.attachment.id)


class TestFiles:
    """Attachments that show a stored file."""

    def test_attaching(self, api: Api, new_issue: str) -> None:
        """The attachment shows the file, and takes its name for a title."""
        file = upload(api, "plan.pdf", b"%PDF")
        made = attach(api, new_issue, file.id)
        assert (made.file_id, made.title, made.url, made.normalized_url) == (file.id, "plan.pdf", "", "")
        assert made.file.checksums.sha256 == file.checksums.sha256
        assert attach(api, f"{new_issue}-b", file.id, title="mine").title == "mine"

    def test_attaching_again(self, api: Api, new_issue: str) -> None:
        """A file that hangs there already is no error: its attachment is returned unchanged."""
        file = upload(api)
        first = attach(api, new_issue, file.id, title="first")
        assert attach(api, new_issue, file.id, title="second") == first
        assert types(events(api, new_issue)) == ["attachment.created"]

    def test_at_once(self, api: Api, new_issue: str) -> None:
        """Racing attachers of one file share one attachment (P25)."""
        file = upload(api)
        made = at_once(16, lambda _: attach(api, new_issue, file.id))
        assert {one.id for one in made} == {one.id for one in listed(api, new_issue)}
        assert len(listed(api, new_issue)) == 1

    def test_one_file_on_two_issues(self, api: Api, new_issue: str) -> None:
        """A file may hang on several subjects, and lives until the last lets go."""
        file = upload(api)
        first, second = attach(api, new_issue, file.id), attach(api, f"{new_issue}-b", file.id)
        assert first.id != second.id
        delete(api, first.id)
        assert get(api, second.id).file.id == file.id

    def test_another_users_file(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Only who can read a file can attach it; attached, all can read it (P43)."""
        file = upload(api)
        other = second_user(server)
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            attach(other, new_issue, file.id)
        attach(api, new_issue, file.id)
        assert attach(other, f"{new_issue}-b", file.id).file.id == file.id

    def test_a_deleted_attachment_shows_no_file(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Once nothing holds a file, only its creator still sees it (P43)."""
        file = upload(api)
        made = attach(api, new_issue, file.id)
        other = second_user(server)
        assert get(other, made.id).HasField("file")
        delete(api, made.id)
        assert not get(other, made.id).HasField("file")
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            other.files.GetFile(file_pb.GetFileRequest(file_id=file.id))
        assert api.files.GetFile(file_pb.GetFileRequest(file_id=file.id)).file.id == file.id

    def test_a_deleted_file(self, api: Api, new_issue: str) -> None:
        """What is deleted can't be attached, nor an attachment of it be brought back."""
        file = upload(api)
        made = attach(api, new_issue, file.id)
        api.files.DeleteFile(file_pb.DeleteFileRequest(file_id=file.id, detach=True))
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            attach(api, new_issue, file.id)
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            undelete(api, made.id)

    def test_undeleting_one_whose_file_hangs_there_again(self, api: Api, new_issue: str) -> None:
        """The refusal names the attachment that took its place."""
        file = upload(api)
        old = attach(api, new_issue, file.id)
        delete(api, old.id)
        new = attach(api, new_issue, file.id)
        with refused(CODE.ALREADY_EXISTS, "ATTACHMENT_URL_EXISTS") as seen:
            undelete(api, old.id)
        assert seen[0].info.metadata["attachment_id"] == new.id

    def test_an_upsert_needs_a_url(self, api: Api, new_issue: str) -> None:
        """Files are attached by create; an upsert goes by URL."""
        file = upload(api)
        wanted = attachment_pb2.Attachment(workspace_id=WORKSPACE, subject=issue(new_issue), file_id=file.id)
        with refused(CODE.INVALID_ARGUMENT, "URL_NOT_ALLOWED"):
            api.attachments.UpsertAttachment(pb.UpsertAttachmentRequest(attachment=wanted))


class TestGet:
    """Reading by id."""

    def test_batch(self, api: Api, new_issue: str) -> None:
        """Results come in the order of the ids, each with its own success or error."""
        one, two = create(api, new_issue, URL), create(api, new_issue, f"{URL}/2")
        missing = "att_01m7yggyheeq5rqe7req2vftaj"
        request = pb.BatchGetAttachmentsRequest(attachment_ids=[two.id, missing, "nonsense", one.id])
        results = api.attachments.BatchGetAttachments(request).results
        assert [reason_of(r.error) if r.HasField("error") else r.attachment for r in results] == [
            two,
            "RESOURCE_NOT_FOUND",
            "VALIDATION_FAILED",
            one,
        ]

    def test_a_batch_has_limits(self, api: Api) -> None:
        """None, and more than a hundred, are refused."""
        for ids in ([], ["att_01m7yggyheeq5rqe7req2vftaj"] * 101):
            with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
                api.attachments.BatchGetAttachments(pb.BatchGetAttachmentsRequest(attachment_ids=ids))
            assert seen[0].fields == ["attachment_ids"]


class TestLookup:
    """Finding a URL on any subject."""

    def lookup(self, api: Api, url: str, **options: Any) -> pb.LookupAttachmentsResponse:
        """Look a URL up."""
        return api.attachments.LookupAttachments(
            pb.LookupAttachmentsRequest(workspace_id=WORKSPACE, url=url, **options)
        )

    def test_over_issues(self, api: Api, new_issue: str) -> None:
        """All live attachments of the URL are found, archived ones too, newest first, in any spelling."""
        url = f"https://lookup.example/{new_issue}"
        made = [create(api, f"{new_issue}-{n}", url) for n in range(4)]
        delete(api, made[1].id)
        archive(api, made[2].id)
        create(api, new_issue, f"{url}/other")
        found = self.lookup(api, f"HTTPS://LOOKUP.example:443/./{new_issue}").attachments
        assert [one.id for one in found] == [made[n].id for n in (3, 2, 0)]

    def test_pages(self, api: Api, new_issue: str) -> None:
        """A long answer comes in pages."""
        url = f"https://lookup.example/{new_issue}"
        made = {create(api, f"{new_issue}-{n}", url).id for n in range(5)}
        first = self.lookup(api, url, page_size=3)
        second = self.lookup(api, url, page_size=3, page_token=first.next_page_token)
        assert [len(first.attachments), len(second.attachments), second.next_page_token] == [3, 2, ""]
        assert {one.id for one in (*first.attachments, *second.attachments)} == made

    def test_nothing(self, api: Api, new_issue: str) -> None:
        """A URL that nobody attached is an empty answer; what is no URL is refused."""
        assert not self.lookup(api, f"https://lookup.example/{new_issue}").attachments
        with refused(CODE.INVALID_ARGUMENT, "URL_NOT_ALLOWED") as seen:
            self.lookup(api, "nonsense")
        assert seen[0].fields == ["url"]

    def test_only_ones_own_workspace(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Another tenant's attachment of the same URL does not show (P43)."""
        url = f"https://lookup.example/{new_issue}"
        create(api, new_issue, url)
        other = second_user(server, workspace="elsewhere")
        request = pb.LookupAttachmentsRequest(workspace_id="elsewhere", url=url)
        assert not other.attachments.LookupAttachments(request).attachments


class TestList:
    """Listing a subject or a workspace."""

    @pytest.fixture
    def cards(self, api: Api, new_issue: str) -> dict[str, attachment_pb2.Attachment]:
        """Attachments of every sort on one issue, by their titles, in the order of their creation."""
        ref = common_pb2.ExternalRef
        made = {
            "sentry 1": create(api, new_issue, f"{URL}/1", external_ref=ref(source="sentry", id="1")),
            "sentry 2": create(api, new_issue, f"{URL}/2", external_ref=ref(source="sentry", id="2")),
            "github 1": create(api, new_issue, f"{URL}/3", external_ref=ref(source="github", id="1")),
            "image": attach(api, new_issue, upload(api, "a.png").id),
            "text": attach(api, new_issue, upload(api, "b.txt").id),
            "archived": create(api, new_issue, f"{URL}/4"),
            "deleted": create(api, new_issue, f"{URL}/5"),
        }
        made["archived"] = archive(api, made["archived"].id)
        made["deleted"] = delete(api, made["deleted"].id)
        return made

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, "text, image, github 1, sentry 2, sentry 1"),
            ({"order": pb.ATTACHMENT_ORDER_CREATE_TIME_ASC}, "sentry 1, sentry 2, github 1, image, text"),
            ({"kinds": [attachment_pb2.ATTACHMENT_KIND_URL]}, "github 1, sentry 2, sentry 1"),
            ({"kinds": [attachment_pb2.ATTACHMENT_KIND_FILE]}, "text, image"),
            ({"kinds": [1, 2]}, "text, image, github 1, sentry 2, sentry 1"),
            ({"content_types": ["image/*"]}, "image"),
            ({"content_types": ["image/png", "text/plain"]}, "text, image"),
            ({"content_types": ["text/html"]}, ""),
            ({"external_ref": common_pb2.ExternalRef(source="sentry")}, "sentry 2, sentry 1"),
            ({"external_ref": common_pb2.ExternalRef(source="sentry", id="2")}, "sentry 2"),
            ({"show_archived": True}, "archived, text, image, github 1, sentry 2, sentry 1"),
            ({"show_deleted": True}, "deleted, text, image, github 1, sentry 2, sentry 1"),
            ({"show_archived": True, "show_deleted": True, "content_types": ["text/*"]}, "text"),
            ({"created_by": "usr_00000000000000000000000000"}, ""),
        ],
    )  # fmt: skip
    def test_filters(
        self,
        api: Api,
        new_issue: str,
        cards: dict[str, attachment_pb2.Attachment],
        options: dict[str, Any],
        expected: str,
    ) -> None:
        """Filters that are given must all match; the count is that of all pages."""
        names = {one.id: name for name, one in cards.items()}
        wanted = expected.split(", ") if expected else []
        assert [names[one.id] for one in listed(api, new_issue, **options)] == wanted
        options = {**options, "page_size": 1, "include_total_size": True}
        request = pb.ListAttachmentsRequest(workspace_id=WORKSPACE, subject=issue(new_issue), **options)
        assert api.attachments.ListAttachments(request).total_size == len(wanted)

    def test_last_changed_first(self, api: Api, new_issue: str) -> None:
        """UPDATE_TIME_DESC goes by the last change."""
        made = [create(api, new_issue, f"{URL}/{n}").id for n in range(3)]
        update(api, made[1], title="changed")
        update(api, made[0], title="changed")
        found = listed(api, new_issue, order=pb.ATTACHMENT_ORDER_UPDATE_TIME_DESC)
        assert [one.id for one in found] == [made[0], made[1], made[2]]

    def test_created_by(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """One may ask for the work of one user."""
        other = second_user(server)
        mine, theirs = create(api, new_issue, f"{URL}/1"), create(other, new_issue, f"{URL}/2")
        assert [one.id for one in listed(api, new_issue, created_by=theirs.creator.id)] == [theirs.id]
        assert [one.id for one in listed(api, new_issue, created_by=mine.creator.id)] == [mine.id]

    def test_the_whole_workspace(self, server: RunningServer, new_issue: str) -> None:
        """Without a subject everything of the workspace is listed."""
        workspace = f"whole-{new_issue.lower()}"
        api = second_user(server, workspace=workspace)
        made = [
            create(api, new_issue, URL, workspace_id=workspace).id,
            create(api, f"{new_issue}-b", URL, workspace_id=workspace).id,
        ]
        page = api.attachments.ListAttachments(pb.ListAttachmentsRequest(workspace_id=workspace))
        assert [one.id for one in page.attachments] == made[::-1]

    def test_reading_registers_nothing(self, api: Api, new_issue: str) -> None:
        """Listing an issue that nobody wrote to is NOT_FOUND."""
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            listed(api, new_issue)

    @pytest.mark.parametrize(
        ("options", "field"),
        [
            ({"page_size": -1}, "page_size"),
            ({"kinds": [0]}, "kinds"),
            ({"kinds": [1, 99]}, "kinds"),
            ({"order": 99}, "order"),
            ({"content_types": ["a/b"] * 101}, "content_types"),
        ],
    )
    def test_filters_that_are_refused(self, api: Api, new_issue: str, options: dict[str, Any], field: str) -> None:
        """A filter that can't be meant is refused instead of ignored."""
        create(api, new_issue, URL)
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED") as seen:
            listed(api, new_issue, **options)
        assert seen[0].fields == [field]


class TestUpdate:
    """Changing by id."""

    def test_fields_and_masks(self, api: Api, new_issue: str) -> None:
        """An update takes what is set or what its mask names, and tells who did it."""
        made = create(api, new_issue, URL, title="t", subtitle="s", metadata=values(a=1, b=2))
        assert update(api, made.id, title="t2").subtitle == "s"
        changed = update(api, made.id, "subtitle", "metadata.a", title="ignored")
        assert (changed.title, changed.subtitle, dict(changed.metadata)) == ("t2", "", values(b=2))
        assert update(api, made.id, title="t2") == changed
        assert [list(one.changed_fields) for one in events(api, new_issue)] == [[], ["title"], ["subtitle", "metadata"]]

    def test_the_updater(self, server: RunningServer, api: Api, new_issue: str) -> None:
        """Every holder of the write scope may change an attachment, and is named for it."""
        made = create(api, new_issue, URL)
        changed = update(second_user(server), made.id, title="by another")
        assert changed.creator == made.creator
        assert changed.updater != made.creator

    def test_subject_and_target_stay(self, api: Api, new_issue: str) -> None:
        """What is immutable may be named in a mask, and is ignored."""
        made = create(api, new_issue, URL)
        changed = update(
            api, made.id, "url", "subject", "title", url="https://other.example/", subject=issue("OTHER-1"), title="t"
        )
        assert (changed.url, changed.subject, changed.title) == (URL, made.subject, "t")

    def test_etag_and_limits(self, api: Api, new_issue: str) -> None:
        """A version that is gone, a field that is too long and metadata that would grow too far are refused."""
        made = create(api, new_issue, URL, metadata=values(**{f"a{n}": n for n in range(50)}))
        with refused(CODE.ABORTED, "ETAG_MISMATCH"):
            update(api, made.id, title="t", etag='"99"')
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            update(api, made.id, title="x" * 1025)
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            update(api, made.id, "metadata.more", metadata=values(more=1))
        with refused(CODE.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            update(api, made.id, "nonsense")
        assert get(api, made.id) == made

    def test_what_is_deleted(self, api: Api, new_issue: str) -> None:
        """A deleted attachment can be read, but not changed or archived."""
        made = create(api, new_issue, URL)
        delete(api, made.id)
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            update(api, made.id, title="t")
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            archive(api, made.id)


class TestArchive:
    """Hiding without deleting."""

    def test_there_and_back(self, api: Api, new_issue: str) -> None:
        """Archiving hides, unarchiving shows again, and repeating either changes nothing (P28)."""
        made = create(api, new_issue, URL)
        archived = archive(api, made.id, made.etag)
        assert archived.HasField("archive_time")
        assert archive(api, made.id) == archived
        assert not listed(api, new_issue)
        request = pb.UnarchiveAttachmentRequest(attachment_id=made.id)
        shown = api.attachments.UnarchiveAttachment(request).attachment
        assert not shown.HasField("archive_time")
        assert api.attachments.UnarchiveAttachment(request).attachment == shown
        assert [one.id for one in listed(api, new_issue)] == [made.id]
        verbs = ["created", "archived", "unarchived"]
        assert types(events(api, new_issue)) == [f"attachment.{verb}" for verb in verbs]

    def test_etags(self, api: Api, new_issue: str) -> None:
        """Both are refused for another version."""
        made = create(api, new_issue, URL)
        with refused(CODE.ABORTED, "ETAG_MISMATCH"):
            archive(api, made.id, '"9"')
        with refused(CODE.ABORTED, "ETAG_MISMATCH"):
            api.attachments.UnarchiveAttachment(pb.UnarchiveAttachmentRequest(attachment_id=made.id, etag='"9"'))

    def test_an_archived_attachment_still_holds_its_url(self, api: Api, new_issue: str) -> None:
        """Archived is live: an upsert finds and changes it."""
        made = create(api, new_issue, URL)
        archive(api, made.id)
        assert upsert(api, new_issue, URL, title="t").attachment.id == made.id


class TestDelete:
    """Deleting, and bringing back."""

    def test_there_and_back(self, api: Api, new_issue: str) -> None:
        """A deleted attachment is hidden but can be read and undeleted until it is purged (P28)."""
        made = create(api, new_issue, URL, title="t")
        gone = delete(api, made.id)
        assert gone.purge_time.ToMicroseconds() > gone.delete_time.ToMicroseconds()
        assert get(api, made.id) == gone
        assert not listed(api, new_issue)
        back = undelete(api, made.id)
        assert not back.HasField("delete_time")
        assert not back.HasField("purge_time")
        assert (back.id, back.title) == (made.id, "t")
        assert [one.id for one in listed(api, new_issue)] == [made.id]
        verbs = ["created", "deleted", "undeleted"]
        assert types(events(api, new_issue)) == [f"attachment.{verb}" for verb in verbs]

    def test_twice(self, api: Api, new_issue: str) -> None:
        """Deleting what is gone is NOT_FOUND, unless that is allowed (P28)."""
        made = create(api, new_issue, URL)
        gone = delete(api, made.id)
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            delete(api, made.id)
        request = pb.DeleteAttachmentRequest(attachment_id=made.id, allow_missing=True)
        assert api.attachments.DeleteAttachment(request).attachment == gone
        request.attachment_id = "att_01m7yggyheeq5rqe7req2vftaj"
        assert not api.attachments.DeleteAttachment(request).HasField("attachment")
        assert types(events(api, new_issue)) == ["attachment.created", "attachment.deleted"]

    def test_etag(self, api: Api, new_issue: str) -> None:
        """Only the version that the caller read is deleted, and only that undeleted."""
        made = create(api, new_issue, URL)
        with refused(CODE.ABORTED, "ETAG_MISMATCH"):
            api.attachments.DeleteAttachment(pb.DeleteAttachmentRequest(attachment_id=made.id, etag='"9"'))
        gone = delete(api, made.id)
        with refused(CODE.ABORTED, "ETAG_MISMATCH"):
            api.attachments.UndeleteAttachment(pb.UndeleteAttachmentRequest(attachment_id=made.id, etag=made.etag))
        request = pb.UndeleteAttachmentRequest(attachment_id=made.id, etag=gone.etag)
        assert api.attachments.UndeleteAttachment(request).attachment.id == made.id

    def test_undeleting_what_is_live_or_missing(self, api: Api, new_issue: str) -> None:
        """There is nothing to undo, or nothing at all."""
        made = create(api, new_issue, URL)
        with refused(CODE.ALREADY_EXISTS, "NOT_DELETED"):
            undelete(api, made.id)
        missing = "att_01m7yggyheeq5rqe7req2vftaj"
        with refused(CODE.NOT_FOUND, "RESOURCE_NOT_FOUND"):
            undelete(api, missing)
        request = pb.UndeleteAttachmentRequest(attachment_id=missing, allow_missing=True)
        assert not api.attachments.UndeleteAttachment(request).HasField("attachment")

    def test_a_url_that_was_taken_meanwhile(self, api: Api, new_issue: str) -> None:
        """The old attachment stays deleted while a new one has its URL, and can come back after that (P25)."""
        old = create(api, new_issue, URL)
        delete(api, old.id)
        new = create(api, new_issue, URL)
        with refused(CODE.ALREADY_EXISTS, "ATTACHMENT_URL_EXISTS") as seen:
            undelete(api, old.id)
        assert seen[0].info.metadata["attachment_id"] == new.id
        assert [one.id for one in listed(api, new_issue)] == [new.id]
        delete(api, new.id)
        undelete(api, old.id)
        assert [one.id for one in listed(api, new_issue)] == [old.id]

    def test_at_once(self, api: Api, new_issue: str) -> None:
        """Of 16 racing deleters one does it, and one event tells of it (P28)."""
        made = create(api, new_issue, URL)

        ended = at_once(16, lambda _: outcome_of(lambda: delete(api, made.id)))
        assert sorted(ended, key=lambda code: code is CODE.OK) == [CODE.NOT_FOUND] * 15 + [CODE.OK]
        assert types(events(api, new_issue)) == ["attachment.created", "attachment.deleted"]


def test_what_others_attach_is_theirs_to_change(server: RunningServer, api: Api, new_issue: str) -> None:
    """Every holder of the write scope may archive and delete an attachment, whoever made it (contract 4.1)."""
    made = create(api, new_issue, URL)
    other = second_user(server)
    assert archive(other, made.id).id == made.id
    assert delete(other, made.id).id == made.id


def test_a_whole_answer_can_be_sent_back(api: Api, new_issue: str) -> None:
    """What was read can be written as it is, with a mask made of all its fields, and changes nothing."""
    made = create(api, new_issue, URL, title="t", metadata=values(a=1))
    paths = [field.name for field in attachment_pb2.Attachment.DESCRIPTOR.fields]
    request = pb.UpdateAttachmentRequest(attachment=made, update_mask=FieldMask(paths=paths))
    assert api.attachments.UpdateAttachment(request).attachment == made

"""What becomes of bytes that have been received."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remora_server.core import errors, ids
from remora_server.core.hashing import measure
from remora_server.core.intake import Content, Purpose, Taken, require_match, require_size
from remora_server.core.model import Caller, Checksums, ExternalRef, FileSpec, Media, Subject, UploadOutcome
from tests.core.world import World, issue

DATA = b"content"
CONTENT = measure(DATA)


def take(world: World, caller: Caller, spec: FileSpec | None = None, subject: Subject | None = None) -> Taken:
    """Take the content in."""
    return world.do(world.intake.take, caller, spec or FileSpec("a.txt"), CONTENT, inline=DATA, attach_to=subject)


def test_new_content(world: World) -> None:
    """A blob and a file come into being, with all that was said of it."""
    spec = FileSpec("a.csv", 7, "", CONTENT.checksums, Media(1, 2), {"a": 1}, ExternalRef("x", "1"))
    taken = take(world, world.jo, spec)
    file = taken.file
    assert (taken.outcome, taken.blob_is_new, taken.attachment_id) == (UploadOutcome.STORED, True, "")
    assert (file.name, file.content_type, file.type, file.size_bytes) == ("a.csv", "text/csv", "DOCUMENT", 7)
    assert (file.media, file.metadata, file.external_ref) == (spec.media, spec.metadata, spec.external_ref)
    assert file.checksums == CONTENT.checksums
    assert world.files.read_whole(file) == DATA


def test_content_that_the_caller_can_read(world: World) -> None:
    """Ones own file of the same name comes back; under another name it is a new file on the same blob (P22)."""
    first = take(world, world.jo).file
    again = take(world, world.jo)
    assert (again.file, again.outcome, again.blob_is_new) == (first, UploadOutcome.ALREADY_EXISTS, False)
    renamed = take(world, world.jo, FileSpec("b.txt", metadata={"b": 1}))
    assert renamed.outcome is UploadOutcome.ALREADY_EXISTS
    assert renamed.file.id != first.id
    assert (renamed.file.blob_id, renamed.file.name, renamed.file.metadata) == (first.blob_id, "b.txt", {"b": 1})


def test_content_that_the_caller_can_not_read(world: World) -> None:
    """It is stored as if nobody had it, and yet kept once; never across workspaces (P21, P23)."""
    first = take(world, world.jo).file
    second = take(world, world.kim)
    assert (second.outcome, second.blob_is_new, second.file.blob_id) == (UploadOutcome.STORED, False, first.blob_id)
    third = take(world, world.stranger)
    assert (third.outcome, third.blob_is_new) == (UploadOutcome.STORED, True)
    assert third.file.blob_id != first.blob_id
    used = [world.store.used_bytes(one.workspace_id) for one in (world.jo, world.stranger)]
    assert used == [14, 7]


def test_attaching(world: World) -> None:
    """A new file, and one that was there, can be attached; a second time nothing happens."""
    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    taken = take(world, world.jo, subject=subject)
    assert taken.attachment_id == take(world, world.jo, subject=subject).attachment_id
    other = take(world, world.kim, subject=subject)
    assert other.outcome is UploadOutcome.ALREADY_EXISTS
    assert other.attachment_id != taken.attachment_id
    assert world.types() == ["file.created", "attachment.created"] * 2


def test_claims(world: World) -> None:
    """Without a size a claim says too little."""
    take(world, world.jo)
    known = FileSpec("a.txt", 7, checksums=Checksums(sha256=CONTENT.checksums.sha256))
    assert world.intake.find_existing(world.jo, known) is not None
    assert world.intake.find_existing(world.jo, replace(known, size_bytes=None)) is None
    assert world.intake.find_existing(world.kim, known) is None


def test_a_blob_that_is_gone(world: World) -> None:
    """A file whose blob has no row is a defect that is told, not handed on."""
    file = take(world, world.jo).file
    with pytest.raises(errors.StoredContentCorruptError):
        world.do(world.intake.reuse, world.jo, replace(file, blob_id="blb_gone"), FileSpec("c.txt"), None)


def test_comparing() -> None:
    """Whatever was declared is compared; the refusal shows both (P09, P11)."""
    sums = CONTENT.checksums
    for claimed, size in ((Checksums(), None), (sums, 7), (Checksums(md5=sums.md5), None)):
        require_match(claimed, size, CONTENT)
    for claimed, algorithm in (
        (Checksums(crc32c=1), "crc32c"),
        (Checksums(md5=bytes(16)), "md5"),
        (Checksums(sums.crc32c, sums.md5, bytes(32)), "sha256"),
    ):
        with pytest.raises(errors.ContentChecksumMismatchError) as refused:
            require_match(claimed, 7, CONTENT)
        assert refused.value.metadata["algorithm"] == algorithm
        assert refused.value.metadata["expected"] != refused.value.metadata["actual"]
    with pytest.raises(errors.SizeMismatchError) as wrong:
        require_match(Checksums(), 8, CONTENT)
    assert wrong.value.metadata == {"expected": "8", "actual": "7"}
    require_size(None, 5)
    require_size(5, 5)
    with pytest.raises(errors.SizeMismatchError):
        require_size(5, 6)
    assert Content(sums, 7, "text/plain") == measure(DATA)


def test_a_file_of_its_own(world: World) -> None:
    """Where each upload is a thing of its own, equal ones are files and attachments of their own, on one blob."""
    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    first, second = (
        world.do(
            world.intake.take,
            world.jo,
            FileSpec("a.txt"),
            CONTENT,
            inline=DATA,
            attach_to=subject,
            attachment_id=ids.new_id(ids.ATTACHMENT),
            purpose=Purpose(as_new_file=True),
        )
        for _ in range(2)
    )
    assert (first.outcome, second.outcome) == (UploadOutcome.STORED, UploadOutcome.STORED)
    assert (first.blob_is_new, second.blob_is_new) == (True, False)
    assert (first.file.id != second.file.id, first.file.blob_id) == (True, second.file.blob_id)
    assert first.attachment_id != second.attachment_id


def test_an_external_reference_of_its_own(world: World) -> None:
    """There a whole reference names one live file on a subject; elsewhere, or by half, it may name several."""
    subject = world.do(world.subjects.resolve, world.jo, issue(), register=True)
    other = world.do(world.subjects.resolve, world.jo, issue("ENG-2"), register=True)

    def take(to: Subject | None, source: str, id_: str, *, as_new_file: bool = True) -> str:
        spec = FileSpec("a.txt", external_ref=ExternalRef(source, id_))
        purpose = Purpose(as_new_file)
        taken = world.do(world.intake.take, world.jo, spec, CONTENT, inline=DATA, attach_to=to, purpose=purpose)
        return str(taken.attachment_id)

    first = take(subject, "jira", "7")
    with pytest.raises(errors.ExternalRefExistsError) as refused:
        take(subject, "jira", "7")
    assert refused.value.metadata == {"attachment_id": first}
    assert take(subject, "jira", "7", as_new_file=False) in {first, take(subject, "jira", "8")}
    for to, source, id_ in (
        (other, "jira", "7"),
        (subject, "other", "7"),
        (subject, "jira", ""),
        (subject, "jira", ""),
    ):
        assert take(to, source, id_)
    assert take(None, "jira", "7") == ""
    world.do(world.attachments.delete, world.jo, first)
    assert take(subject, "jira", "7")

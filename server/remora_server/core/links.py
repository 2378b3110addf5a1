"""Links: plain references from a subject to a URL. Creating one that is there returns it, and never edits it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from remora_server.core import access, batches, errors, etags, fields, ids, urls
from remora_server.core.activity import ActivityLog
from remora_server.core.model import Caller, Link, Page, Subject
from remora_server.core.pages import Pages
from remora_server.core.ports import Changes, Clock, LinkQuery, MetadataStore
from remora_server.core.subjects import Subjects
from remora_server.core.values import dataclass, replace

MUTABLE = ("url", "title")
NOTHING: Mapping[str, str] = MappingProxyType({})
OUTPUT_ONLY = ("id", "workspace_id", "subject", "normalized_url", "creator", "create_time", "etag")


@dataclass(frozen=True, slots=True)
class LinkDraft:
    """A link as a caller writes it."""

    workspace_id: str
    subject: Subject
    url: str
    title: str = ""


class Links:
    """The rules of links over a metadata store."""

    def __init__(
        self,
        store: MetadataStore,
        subjects: Subjects,
        log: ActivityLog,
        pages: Pages,
        clock: Clock,
        *,
        stripped_parameters: frozenset[str] = frozenset(),
    ) -> None:
        self._store = store
        self._subjects = subjects
        self._log = log
        self._pages = pages
        self._clock = clock
        self._stripped = stripped_parameters

    def create(self, caller: Caller, draft: LinkDraft) -> tuple[Link, bool]:
        """Return the subject's link for this URL, and whether it is new."""
        workspace_id = access.enter(caller, draft.workspace_id)
        self._check(draft.title)
        normalized = urls.normalize(draft.url, "url", self._stripped)
        link, created = self._store.find_or_add_link(
            Link(
                id=ids.new_id(ids.LINK),
                workspace_id=workspace_id,
                subject=self._subjects.resolve(caller, draft.subject, register=True),
                url=draft.url,
                normalized_url=normalized,
                url_key=urls.key(normalized),
                title=draft.title,
                creator=caller.actor,
                create_time=self._clock.now(),
                version=1,
            )
        )
        if created:
            self._record(caller, "created", link)
        return link, created

    def create_many(
        self, caller: Caller, workspace: str, drafts: Sequence[LinkDraft], changes: Changes
    ) -> list[tuple[Link, bool] | errors.RemoraError]:
        """Create each link by itself; a second one for the same subject and URL is refused."""
        access.enter(caller, workspace)
        seen: set[tuple[str, str, str]] = set()

        def one(draft: LinkDraft) -> tuple[Link, bool]:
            link, created = self.create(caller, draft)
            key = (link.subject.type, link.subject.id, link.url_key)
            if key in seen:
                raise errors.DuplicateInBatchError
            seen.add(key)
            return link, created

        return batches.each(changes, drafts, one)

    def get(self, caller: Caller, link_id: str) -> Link:
        """Return a link."""
        found = self._store.link(caller.workspace_id, ids.parse(ids.LINK, link_id, "link_id"))
        if found is None:
            raise errors.NotFoundError("link", f"links/{link_id}")
        return found

    def list(
        self,
        caller: Caller,
        workspace: str,
        subject: Subject | None,
        *,
        page_size: int = 0,
        page_token: str = "",
        include_total_size: bool = False,
    ) -> Page[Link]:
        """Return a page of the links of a subject, or of the workspace, newest first."""
        query = LinkQuery(access.enter(caller, workspace))
        if subject is not None:
            resolved = self._subjects.resolve(caller, subject, register=False)
            query = replace(query, subject_type=resolved.type, subject_id=resolved.id)
        page = self._pages.page(
            ("links", query),
            page_size,
            page_token,
            lambda after, limit: self._store.list_links(query, after, limit),
            lambda last: (last.create_time, last.id),
        )
        return replace(page, total_size=self._store.count_links(query)) if include_total_size else page

    def update(self, caller: Caller, link_id: str, draft: LinkDraft, mask: Collection[str], etag: str = "") -> Link:
        """Change the fields that the mask names, or without one those that are set."""
        stored = self.get(caller, link_id)
        self._check(draft.title)
        etags.require(etag, stored.version)
        paths = fields.mask(mask, MUTABLE, OUTPUT_ONLY, [name for name in MUTABLE if getattr(draft, name)])
        changed = replace(stored, title=draft.title) if "title" in paths else stored
        if "url" in paths:
            normalized = urls.normalize(draft.url, "link.url", self._stripped)
            changed = replace(changed, url=draft.url, normalized_url=normalized, url_key=urls.key(normalized))
        differing = [name for name in MUTABLE if getattr(changed, name) != getattr(stored, name)]
        if not differing:
            return stored
        changed = replace(changed, version=stored.version + 1)
        if not self._store.update_link(changed):
            other, _ = self._store.find_or_add_link(replace(changed, id=ids.new_id(ids.LINK)))
            raise errors.LinkUrlExistsError(other.id)
        self._record(caller, "updated", changed, {name: getattr(stored, name) for name in differing})
        return changed

    def delete(self, caller: Caller, link_id: str, etag: str = "", *, allow_missing: bool = False) -> Link | None:
        """Remove a link for good."""
        found = self._store.link(caller.workspace_id, ids.parse(ids.LINK, link_id, "link_id"))
        if found is None:
            if allow_missing:
                return None
            raise errors.NotFoundError("link", f"links/{link_id}")
        etags.require(etag, found.version)
        self._store.delete_link(found.id)
        self._record(caller, "deleted", found)
        return found

    def _record(self, caller: Caller, verb: str, link: Link, before: Mapping[str, str] = NOTHING) -> None:
        summary: dict[str, object] = {"id": link.id, "url": link.url, "title": link.title}
        if before:
            summary["before"] = dict(before)
        self._log.record(
            caller, f"link.{verb}.v1", link.id, {"link": summary}, subject=link.subject, changed_fields=tuple(before)
        )

    def _check(self, title: str) -> None:
        check = fields.Check()
        check.text("title", title)
        check.done()

"""Reading a multipart form as it comes: first the fields, compared with those wanted, then the bytes of one file."""

from __future__ import annotations

from collections.abc import Sequence

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from remora_server.gateway.errors import HttpError, SignedUrlInvalidError

MAX_VALUE_BYTES = 4096
# What a form may have beside its file: boundaries, headers of parts, fields.
OVERHEAD_BYTES = 64 * 1024


class FormError(HttpError):
    """Something that is no form, or not this one."""


class Form:
    """A form with exactly the fields that are wanted, in their order, of which the last takes the bytes of a file."""

    def __init__(self, content_type: str, wanted: Sequence[tuple[str, str]]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise FormError("the Content-Type must be multipart/form-data, with its boundary.")
        *self._fields, (self._file_field, _) = wanted
        self._seen = 0
        self._header = b""
        self._disposition = b""
        self._value = bytearray()
        self._content: list[bytes] = []
        self._in_file = self._file_ended = False
        self.is_complete = False
        callbacks = {
            "on_part_begin": self._begin_part,
            "on_part_data": self._take_data,
            "on_part_end": self._end_part,
            "on_header_field": self._take_header_name,
            "on_header_value": self._take_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type] # a TypedDict of these names
        except FormParserError as problem:
            raise FormError("the boundary of the form is not a good one.") from problem
        self._overhead = 0

    def feed(self, data: bytes) -> bytes:
        """Read on; return the file's bytes among these. Raise SignedUrlInvalidError for a field that is not wanted."""
        self._content.clear()
        try:
            self._parser.write(data)
        except FormParserError as problem:
            raise FormError("the body is not a multipart form.") from problem
        content = b"".join(self._content)
        self._overhead += len(data) - len(content)
        if self._overhead > OVERHEAD_BYTES:
            raise FormError(f"the form has more than {OVERHEAD_BYTES} bytes beside its file.")
        return content

    def _begin_part(self) -> None:
        if self._file_ended:
            raise SignedUrlInvalidError("the file must be the last field of the form.")
        self._disposition = self._header = b""
        self._value.clear()

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition += data[start:end]

    def _end_header(self) -> None:
        self._header = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        is_last = self._seen == len(self._fields)
        wanted = self._file_field if is_last else self._fields[self._seen][0]
        if name != wanted:
            raise SignedUrlInvalidError(f"the form must have the field {wanted} in this place, and no others.")
        self._in_file = is_last

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._content.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_VALUE_BYTES:
            raise SignedUrlInvalidError("a field of the form was altered; send each as it was given.")

    def _end_part(self) -> None:
        if self._in_file:
            self._file_ended = True
            return
        if bytes(self._value) != self._fields[self._seen][1].encode():
            raise SignedUrlInvalidError("a field of the form was altered; send each as it was given.")
        self._seen += 1

    def _end(self) -> None:
        self.is_complete = self._file_ended

"""Reading a multipart form as it comes: the bytes of one file, and what stands beside it."""

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


class _Parts:
    """The parts of a form, of which one takes the bytes of a file."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise FormError("the Content-Type must be multipart/form-data, with its boundary.")
        self._header = b""
        self._disposition = b""
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
        """Read on; return the file's bytes among these. Raise an HttpError for what does not belong there."""
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

    def _begins(self, name: str, filename: str) -> bool:
        """Tell whether a part is the file; raise for one that should not be there."""
        raise NotImplementedError

    def _take_value(self, data: bytes) -> None:
        """Take bytes of a part that is not the file."""

    def _end_value(self) -> None:
        """Hear that such a part has ended."""

    def _begin_part(self) -> None:
        self._disposition = self._header = b""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition += data[start:end]

    def _end_header(self) -> None:
        self._header = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        name, filename = (options.get(option, b"").decode("utf-8", "replace") for option in (b"name", b"filename"))
        self._in_file = self._begins(name, filename)

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._content.append(data[start:end])
        else:
            self._take_value(data[start:end])

    def _end_part(self) -> None:
        if self._in_file:
            self._in_file, self._file_ended = False, True
        else:
            self._end_value()

    def _end(self) -> None:
        self.is_complete = self._file_ended


class Form(_Parts):
    """A form with exactly the fields that are wanted, in their order, of which the last takes the bytes of a file."""

    def __init__(self, content_type: str, wanted: Sequence[tuple[str, str]]) -> None:
        super().__init__(content_type)
        *self._fields, (self._file_field, _) = wanted
        self._seen = 0
        self._value = bytearray()

    def _begins(self, name: str, filename: str) -> bool:
        del filename
        if self._file_ended:
            raise SignedUrlInvalidError("the file must be the last field of the form.")
        is_last = self._seen == len(self._fields)
        wanted = self._file_field if is_last else self._fields[self._seen][0]
        if name != wanted:
            place = self._seen + 1
            raise SignedUrlInvalidError(f"field {place} of the form must be {wanted}; send all in their given order.")
        self._value.clear()
        return is_last

    def _take_value(self, data: bytes) -> None:
        self._value += data
        if len(self._value) > MAX_VALUE_BYTES:
            raise SignedUrlInvalidError("a field of the form was altered; send each as it was given.")

    def _end_value(self) -> None:
        if bytes(self._value) != self._fields[self._seen][1].encode():
            raise SignedUrlInvalidError("a field of the form was altered; send each as it was given.")
        self._seen += 1


class FileForm(_Parts):
    """A form with one file, in whatever field; what other fields say is not read."""

    filename = ""

    @property
    def has_ended(self) -> bool:
        """Whether all bytes of the file have come."""
        return self._file_ended

    def _begins(self, name: str, filename: str) -> bool:
        del name
        if not filename:
            return False
        if self._file_ended:
            raise FormError("the form has more than one file; send each in a request of its own.")
        self.filename = filename
        return True

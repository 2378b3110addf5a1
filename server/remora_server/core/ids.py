"""Identifiers: TypeIDs, a prefix and 128 bits in 26 lower-case characters, and the other spellings of those bits."""

from __future__ import annotations

from uuid import UUID

import uuid_utils
from typeid import TypeID
from typeid.errors import TypeIDException

from remora_server.core.errors import invalid

ATTACHMENT, FILE, TICKET, LINK, ACTIVITY = "att", "fil", "upl", "lnk", "act"
ISSUE, WORKSPACE, PROJECT, USER, BLOB, KEY = "iss", "wks", "prj", "usr", "blb", "key"
WEBHOOK_ENDPOINT, WEBHOOK_DELIVERY = "whk", "whd"
MESSAGE = "msg"
BITS = 2**128
MOST_DIGITS = len(str(BITS))


def new_id(prefix: str) -> str:
    """Make an id that sorts after the earlier ones of its prefix (UUIDv7 inside)."""
    return str(TypeID(prefix))


def respelled(prefix: str, same_bits_as: str) -> str:
    """Return the id with another prefix and the same 128 bits."""
    return f"{prefix}_{same_bits_as.rpartition('_')[2]}"


def from_uuid(prefix: str, uuid: UUID) -> str:
    """Return the id that has the bits of `uuid`."""
    return str(TypeID.from_uuid(uuid_utils.UUID(int=uuid.int), prefix))


def to_uuid(id_: str) -> UUID:
    """Return the same bits as a UUID."""
    return UUID(bytes=bytes(TypeID.from_string(id_).uuid_bytes))


def to_decimal(id_: str) -> str:
    """Return the same bits as a number in decimal digits."""
    return str(to_uuid(id_).int)


def from_decimal(prefix: str, text: str, field: str) -> str:
    """Return the id whose bits `text` spells in decimal digits; raise ValidationFailedError naming `field`."""
    # Longer digits are no id, and need not be computed.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else BITS
    if number >= BITS or str(number) != text:
        raise invalid(field, "is not an id in decimal digits")
    return from_uuid(prefix, UUID(int=number))


def parse(prefix: str, text: str, field: str) -> str:
    """Return `text` as an id of `prefix`, written as such or as a UUID; raise ValidationFailedError naming `field`."""
    if not text:
        raise invalid(field, "is required")
    try:
        if "_" not in text:
            return from_uuid(prefix, UUID(text))
        parsed = TypeID.from_string(text)
    except (TypeIDException, ValueError) as problem:
        raise invalid(field, f"is not an id of the form {prefix}_… or a UUID") from problem
    if parsed.prefix != prefix:
        raise invalid(field, f"is not an id of the form {prefix}_…")
    return text

"""PDFs: how many pages, and what the first one looks like."""

from __future__ import annotations

import pytest

from remora_server.core.model import Media
from remora_server.core.ports import Look, PreviewRefusedError
from remora_server.core.values import replace
from remora_server.media.pool import Pool
from tests.media.making import near, opened, pages, pdf
from tests.media.sources import Bytes

LETTERS = "BT /F 40 Tf 60 700 Td (Remora) Tj ET 1 0 0 rg 0 0 300 421 re f"


def rendered(pool: Pool, data: bytes) -> Look:
    """Return the look of a PDF."""
    return pool.render("application/pdf", Bytes(data))


def sizes(look: Look) -> dict[str, tuple[int, int]]:
    """Return the size of each rendition."""
    return {one.rendition: (one.width, one.height) for one in look.pictures}


def test_the_first_page_on_white(pool: Pool) -> None:
    """Pages are counted; a page has no pixels, so no width and height are told."""
    look = rendered(pool, pages(["0 0 595 842"] * 3, LETTERS))
    assert replace(look.media, blur_hash="") == Media(page_count=3)
    assert look.media.blur_hash
    assert sizes(look) == {"PREVIEW": (1448, 2048), "THUMBNAIL": (362, 512)}
    picture = opened(look.pictures[0].data)
    assert near(picture.getpixel((100, 2000)), (255, 0, 0), 10)
    assert near(picture.getpixel((1400, 2000)), (255, 255, 255), 2)
    ink = picture.convert("L").crop((0, 200, 1448, 400)).histogram()
    assert sum(ink[:64]) > 1000  # Letters of a font that the file does not bring along.


def test_a_turned_page(pool: Pool) -> None:
    """It is shown as a reader would show it."""
    look = rendered(pool, pages(["0 0 595 842"], LETTERS, "/Rotate 90"))
    assert sizes(look)["PREVIEW"] == (2048, 1448)
    assert near(opened(look.pictures[0].data).getpixel((100, 100)), (255, 0, 0), 10)


@pytest.mark.parametrize(
    ("box", "preview"),
    [
        ("0 0 200000 200000", (2048, 2048)),
        ("0 0 1000000000 10", (2048, 1)),
        ("0 0 1 1", (3, 3)),
        ("0 0 0.001 0.001", (1, 1)),
        ("-500 -500 -400 -300", (278, 556)),
        ("100 300 0 0", (278, 834)),  # Corners in the other order.
        ("0 0 0 0", (1583, 2048)),  # PDFium takes it for a letter.
        ("0 0 1e400 1", None),
    ],
)
def test_pages_of_any_size_are_pictures_of_a_bounded_one(pool: Pool, box: str, preview: tuple[int, int] | None) -> None:
    """Whatever a MediaBox says."""
    look = rendered(pool, pages([box], LETTERS))
    assert max(sizes(look)["PREVIEW"]) <= 2048
    if preview is not None:
        assert all(abs(one - other) <= 1 for one, other in zip(sizes(look)["PREVIEW"], preview, strict=True))


def test_a_locked_pdf(pool: Pool) -> None:
    """It can't be read without its password, and that is what its owner is told."""
    numbers = b"/Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s>" % (b"00" * 32, b"11" * 32)
    data = pdf([b"<< /Type /Catalog >>"], b"/Encrypt << %s >> /ID [<00> <00>]" % numbers)
    with pytest.raises(PreviewRefusedError, match=r"^is locked with a password$"):
        rendered(pool, data)


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"%PDF-1.7\nnothing that makes sense", pages([])])
def test_what_is_no_pdf(pool: Pool, data: bytes) -> None:
    """It is refused in words for its owner."""
    with pytest.raises(PreviewRefusedError, match=r"^(is damaged, or not what it seems|has no pages)$"):
        rendered(pool, data)

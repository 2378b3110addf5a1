"""Decoding PDFs: how many pages there are, and the first one on white."""

from __future__ import annotations

import math
from typing import BinaryIO

import pypdfium2
from PIL import Image
from pypdfium2 import raw as pdfium

from remora_server.media.content import RefusedError, Report
from remora_server.media.frames import RENDITIONS
from remora_server.media.limits import Limits
from remora_server.media.renditions import show

LARGEST = max(RENDITIONS.values())
MOST_SCALE = 200 / 72  # A page is measured in 72nds of an inch; 200 of them show what is on paper.


def render(_content_type: str, file: BinaryIO, report: Report, _limits: Limits) -> None:
    """Tell the number of pages, and hand over renditions of the first one."""
    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as problem:
        if problem.err_code in {pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY}:
            raise RefusedError("is locked with a password") from problem
        raise
    page_count = len(document)
    if page_count < 1:
        raise RefusedError("has no pages")
    report.facts(page_count=page_count)
    show(first_page(document), report)


def first_page(document: pypdfium2.PdfDocument) -> Image.Image:
    """Return the first page, whatever it measures, in a picture of a bounded size."""
    page = document[0]
    width, height = page.get_size()
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise RefusedError("has a first page without a size")
    scale = min(MOST_SCALE, LARGEST / max(width, height))
    size = tuple(min(LARGEST, max(1, math.ceil(edge * scale))) for edge in (width, height))
    bitmap = pypdfium2.PdfBitmap.new_native(*size, pdfium.FPDFBitmap_BGRx)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, *size)
    pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, *size, 0, pdfium.FPDF_ANNOT)
    return Image.frombuffer("RGB", size, bitmap.buffer, "raw", "BGRX", bitmap.stride, 1).copy()

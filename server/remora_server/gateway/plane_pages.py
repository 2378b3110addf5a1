"""Pages as Plane's clients read them: between cursors that say which page of what size comes before and after."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response

from remora_server.gateway.errors import HttpError
from remora_server.gateway.route import Visit
from remora_server.gateway.windows import Listing, window

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
SIZE = re.compile(r"\d{1,9}", re.ASCII)
CURSOR = re.compile(r"(\d{1,9}):(\d{1,9}):([01])", re.ASCII)
Item = TypeVar("Item")


async def enveloped(
    visit: Visit, listing: Listing[Item], render: Callable[[Item], dict[str, Any]], *, backwards: bool = False
) -> Response:
    """Answer with the page that is asked for."""
    cursor = CURSOR.fullmatch(visit.asked("cursor", f"{DEFAULT_PAGE_SIZE}:0:0"))
    if cursor is None:
        raise HttpError("Invalid cursor parameter.")
    asked = visit.asked("per_page", cursor[1])
    if not SIZE.fullmatch(asked) or not 1 <= int(asked) <= MAX_PAGE_SIZE:
        raise HttpError(f"Invalid per_page value. Cannot exceed {MAX_PAGE_SIZE}.")
    size, number = int(asked), int(cursor[2])
    offset = number * int(cursor[1])
    items, total = await visit.calls.read(window, listing, offset, size, backwards=backwards)
    return JSONResponse(
        {
            "grouped_by": None,
            "sub_grouped_by": None,
            "total_count": total,
            "next_cursor": f"{size}:{number + 1}:0",
            "prev_cursor": f"{size}:{number - 1}:1",
            "next_page_results": offset + size < total,
            "prev_page_results": number > 0,
            "count": len(items),
            "total_pages": -(-total // size),
            "total_results": total,
            "extra_stats": None,
            "results": [render(one) for one in items],
        }
    )

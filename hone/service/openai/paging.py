"""Pages of lists by cursor: `limit`, `after` and `order` in the address, `has_more` in the answer.

Clients ask again with `after` set to the last id while there is more.
"""

from collections.abc import Iterable
from typing import Literal

from hone.service.errors import InvalidRequest
from hone.service.jobs.pages import MOST_ITEMS, Cursor


def read_cursor(
    limit: str | None,
    after: str | None,
    *,
    default: int = 20,
    most: int = MOST_ITEMS,
    oldest_first: bool = False,
) -> Cursor:
    """Return the page that is asked for; InvalidRequest for a limit that is none."""
    return Cursor(after or None, _limit(limit, default, most), oldest_first)


def read_order(order: str | None) -> bool:
    """Return whether the oldest come first; the newest do if nothing is said."""
    if order not in {None, "", "asc", "desc"}:
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order")
    return order == "asc"


def ends(ids: Iterable[str]) -> dict[Literal["first_id", "last_id"], str | None]:
    """Return the ids at both ends of a page, which clients go on from."""
    listed = list(ids)
    return {
        "first_id": listed[0] if listed else None,
        "last_id": listed[-1] if listed else None,
    }


def _limit(limit: str | None, default: int, most: int) -> int:
    if limit is None or not limit:
        return default
    if not (limit.isascii() and limit.isdigit()) or len(limit) > 9 or int(limit) < 1:
        raise InvalidRequest(f"'limit' must be a number from 1 to {most}.", param="limit")
    return min(int(limit), most)

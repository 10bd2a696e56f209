"""Long lists arrive whole, whichever way they are read and sent."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import StreamingResponse

from benchmarks.jobs.list_stalls import fill, job_id
from hone.service.openai.lists import list_answer, list_body
from hone.service.schemas import Body
from tests.service.openai_jobs.conftest import Workbench, opened
from tests.service.running import serving

ROWS = 2500
"""More than the store is asked for at a time, and than goes into one piece of an answer."""


class Item(Body):
    """A thing of a list."""

    id: str
    details: str | None


@given(
    items=st.lists(st.builds(Item, id=st.text(), details=st.none() | st.text())),
    more=st.dictionaries(st.sampled_from(["has_more", "first_id"]), st.none() | st.booleans()),
)
def test_a_list_in_pieces_is_the_json_of_the_whole(items: list[Item], more: dict[str, Any]) -> None:
    plain = {"object": "list", "data": [item.model_dump() for item in items], **more}
    assert json.loads(b"".join(list_body(items, **more))) == plain


def test_no_piece_of_a_list_is_large() -> None:
    items = [Item(id=str(number), details="x" * 1000) for number in range(2000)]
    pieces = list_body(items, has_more=False)
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 300_000
    assert [item["id"] for item in json.loads(b"".join(pieces))["data"]] == [i.id for i in items]


def test_pieces_are_written_in_turns_of_the_loop_of_their_own() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> list[int]:
        items = [Item(id=str(number), details="x" * 1000) for number in range(2000)]
        answer = await list_answer(lambda: list_body(items))
        assert isinstance(answer, StreamingResponse)
        counting = asyncio.create_task(count_turns())
        await asyncio.sleep(0)
        seen = [turns async for _ in answer.body_iterator]
        counting.cancel()
        return seen

    seen = asyncio.run(main())
    assert len(seen) > 5
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """Run a service whose store holds many rows of each kind."""
    folder = tmp_path_factory.mktemp("full")
    store = folder / "store"
    with serving(store, log_folder=folder, run_jobs="false") as service, opened(store) as state:
        fill(state.database, ROWS)
        yield Workbench(service, state, store)


@pytest.mark.parametrize("flavour", ["legacy", "modern"])
def test_all_jobs_and_events_are_listed(full: Workbench, flavour: str) -> None:
    legacy = flavour == "legacy"
    jobs = "/v1/fine-tunes" if legacy else "/v1/fine_tuning/jobs"
    query = "" if legacy else f"?limit={ROWS + 1}"
    expected = [job_id(flavour, number) for number in range(ROWS)]
    listed = [job["id"] for job in full.ask("GET", f"{jobs}{query}").json()["data"]]
    assert listed == (expected if legacy else expected[::-1])
    events = full.ask("GET", f"{jobs}/{job_id(flavour, 0)}/events{query}").json()["data"]
    told = [int(event["message"].split(":")[0].removeprefix("Step ")) for event in events]
    assert sorted(told) == list(range(1, ROWS + 1))
    if legacy:
        assert events == full.ask("GET", f"{jobs}/{job_id(flavour, 0)}").json()["events"]


def test_all_files_are_listed_by_pages_and_at_once(full: Workbench) -> None:
    at_once = full.ask("GET", "/v1/files").json()
    assert len(at_once["data"]) == ROWS
    assert at_once["has_more"] is False
    assert (at_once["first_id"], at_once["last_id"]) == (
        at_once["data"][0]["id"],
        at_once["data"][-1]["id"],
    )
    half = full.ask("GET", "/v1/files?limit=1300").json()
    rest = full.ask("GET", f"/v1/files?after={half['last_id']}").json()
    assert half["has_more"] is True
    assert half["data"] + rest["data"] == at_once["data"]

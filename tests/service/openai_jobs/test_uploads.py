"""Uploads in parts, by the newest client and by hand."""

import hashlib

import openai
import pytest
from openai import OpenAI

from tests.service.openai_jobs.conftest import EXAMPLES, Workbench


def test_the_client_uploads_in_parts_and_gets_one_file(client: OpenAI) -> None:
    upload = client.uploads.upload_file_chunked(
        file=EXAMPLES,
        filename="train.jsonl",
        bytes=len(EXAMPLES),
        mime_type="text/jsonl",
        purpose="fine-tune",
        part_size=500,
        md5=hashlib.md5(EXAMPLES).hexdigest(),
    )
    assert upload.status == "completed"
    assert upload.file is not None
    assert client.files.content(upload.file.id).read() == EXAMPLES
    assert client.files.wait_for_processing(upload.file.id, poll_interval=0.1).status == "processed"


def begin(client: OpenAI, size: int = 4) -> str:
    return client.uploads.create(
        bytes=size, filename="a.txt", mime_type="text/plain", purpose="user_data"
    ).id


def test_parts_are_joined_in_the_order_that_is_asked_for(client: OpenAI) -> None:
    id_ = begin(client)
    second = client.uploads.parts.create(id_, data=b"34").id
    first = client.uploads.parts.create(id_, data=b"12").id
    done = client.uploads.complete(id_, part_ids=[first, second])
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"1234"


def test_a_wrong_completion_can_be_put_right(client: OpenAI) -> None:
    id_ = begin(client)
    part = client.uploads.parts.create(id_, data=b"1234").id
    for part_ids, md5, param in (
        (["part_none"], None, "part_ids"),
        ([part, part], None, "part_ids"),
        ([part], "0" * 32, "md5"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.uploads.complete(id_, part_ids=part_ids, md5=md5 or openai.omit)
        assert refused.value.param == param
    assert client.uploads.complete(id_, part_ids=[part]).status == "completed"


def test_a_cancelled_upload_takes_no_more_parts(client: OpenAI) -> None:
    id_ = begin(client)
    assert client.uploads.cancel(id_).status == "cancelled"
    with pytest.raises(openai.BadRequestError) as refused:
        client.uploads.parts.create(id_, data=b"1234")
    assert refused.value.code == "invalid_state"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": "12"}, "bytes"),
        ({"bytes": True}, "bytes"),
        ({"filename": None}, "filename"),
        ({"mime_type": ["a"]}, "mime_type"),
        ({"purpose": "fine-tune-results"}, "purpose"),
        ({"expires_after": 3}, "expires_after"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after[seconds]"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_announcement_that_is_wrong_is_told_which_field(
    workbench: Workbench, changes: dict[str, object], param: str
) -> None:
    good = {"bytes": 4, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}
    answer = workbench.ask("POST", "/v1/uploads", {**good, **changes})
    assert (answer.status, answer.error()["param"]) == (400, param)


def test_an_upload_that_is_too_large_is_refused_when_it_is_announced(workbench: Workbench) -> None:
    body = {"bytes": 2**40, "filename": "a", "mime_type": "b", "purpose": "batch"}
    assert workbench.ask("POST", "/v1/uploads", body).status == 413

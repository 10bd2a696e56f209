"""Files: from the client to the disk and back, whatever the client sends."""

import hashlib
from pathlib import Path

import openai
import orjson
import pytest
from openai import OpenAI

from hone.service.jobs.idempotency import Request as KeyedRequest
from tests.service.openai_jobs.conftest import EXAMPLES, OWNER, Workbench


def test_a_file_comes_back_as_it_was_sent(client: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(EXAMPLES)
    file = client.files.create(file=path, purpose="fine-tune")
    assert (file.filename, file.bytes, file.purpose) == ("train.jsonl", len(EXAMPLES), "fine-tune")
    assert client.files.wait_for_processing(file.id, poll_interval=0.1).status == "processed"
    assert client.files.content(file.id).read() == EXAMPLES
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as refused:
        client.files.retrieve(file.id)
    assert refused.value.param == "id"


def test_pages_are_turned_by_the_client_itself(client: OpenAI) -> None:
    made = [client.files.create(file=b"x", purpose="user_data").id for _ in range(5)]
    for order, expected in (("asc", made), ("desc", made[::-1])):
        listed = client.files.list(purpose="user_data", limit=2, order=order)  # type: ignore[arg-type]
        assert [file.id for file in listed if file.id in made] == expected


def test_a_path_for_a_name_leaves_its_last_part(workbench: Workbench) -> None:
    id_ = workbench.upload("/home/me/data/train.jsonl")
    assert workbench.ask("GET", f"/v1/files/{id_}").json()["filename"] == "train.jsonl"


@pytest.mark.parametrize("id_", ["%2Fhome%2Fme%2Ftrain.jsonl", "train.jsonl", "a%00b", "file-x"])
def test_a_path_for_an_id_is_a_404_that_the_old_client_understands(
    workbench: Workbench, id_: str
) -> None:
    for method in ("GET", "DELETE"):
        answer = workbench.ask(method, f"/v1/files/{id_}")
        assert answer.status in {400, 404}
        assert answer.error()["type"] == "invalid_request_error"


def test_a_name_that_is_not_ascii_is_kept_in_both_ways_of_writing_it(workbench: Workbench) -> None:
    boundary = "b"
    for written in ('filename="дані.jsonl"', "filename*=utf-8''%D0%B4%D0%B0%D0%BD%D1%96.jsonl"):
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; {written}\r\n\r\nx\r\n'
            f"--{boundary}--\r\n"
        )
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        answer = workbench.service.request("POST", "/v1/files", body.encode(), headers)
        assert answer.json()["filename"] == "дані.jsonl"


def test_an_expiry_is_kept(client: OpenAI) -> None:
    expires: openai.types.file_create_params.ExpiresAfter = {
        "anchor": "created_at",
        "seconds": 7200,
    }
    file = client.files.create(file=b"x", purpose="user_data", expires_after=expires)
    assert file.expires_at == file.created_at + 7200


def test_what_is_no_json_lines_is_refused_at_once(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Line 1 is not a dictionary"):
        client.files.create(file=("a.csv", b"prompt,completion\n"), purpose="fine-tune")


def test_a_bad_line_is_told_in_the_files_status(client: OpenAI) -> None:
    file = client.files.create(file=("a.jsonl", EXAMPLES + b'{"prompt":'), purpose="fine-tune")
    checked = client.files.wait_for_processing(file.id, poll_interval=0.1)
    assert checked.status == "error"
    assert "Line 41" in (checked.status_details or "")


PURPOSE, FILE = ("purpose", b"fine-tune", None), ("file", EXAMPLES, "a.jsonl")


@pytest.mark.parametrize(
    ("parts", "status", "param"),
    [
        ([FILE], 400, "purpose"),
        ([FILE, ("purpose", b"fine-tune-results", None)], 400, "purpose"),
        ([PURPOSE], 400, "file"),
        ([PURPOSE, ("file", EXAMPLES, "/")], 400, None),
        ([PURPOSE, FILE, FILE], 400, None),
        ([PURPOSE, FILE, ("colour", b"red", None)], 400, "colour"),
        ([PURPOSE, FILE, ("colour", b"r" * 10_000, None)], 400, None),
        ([PURPOSE, FILE, ("expires_after[seconds]", b"7200", None)], 400, "expires_after[anchor]"),
        (
            [
                PURPOSE,
                FILE,
                ("expires_after[anchor]", b"created_at", None),
                ("expires_after[seconds]", b"9", None),
            ],
            400,
            "expires_after[seconds]",
        ),
        ([PURPOSE, ("file", b"{}\n" * 700_000, "a.jsonl")], 413, None),
    ],
)
def test_a_form_that_is_wrong_is_told_which_field(
    workbench: Workbench,
    parts: list[tuple[str, bytes, str | None]],
    status: int,
    param: str | None,
) -> None:
    answer = workbench.form(parts)
    assert (answer.status, answer.error()["param"]) == (status, param)


def test_nothing_of_a_refused_file_is_left(workbench: Workbench) -> None:
    workbench.form([("purpose", b"fine-tune", None), ("file", b"{}\n" * 700_000, "a.jsonl")])
    workbench.form([("purpose", b"none", None), ("file", EXAMPLES, "a.jsonl")])
    assert list((workbench.state.folder / "files" / ".incoming").iterdir()) == []


def test_a_list_takes_no_strange_limits(workbench: Workbench) -> None:
    for limit in ("0", "-1", "a", "1e3", "\u0661", "9" * 40):
        answer = workbench.ask("GET", f"/v1/files?limit={limit.encode().hex('%', 1)}")
        assert answer.status in {200, 400}
    assert workbench.ask("GET", "/v1/files?limit=0").error()["param"] == "limit"
    assert workbench.ask("GET", "/v1/files?order=up").error()["param"] == "order"
    missed = workbench.ask("GET", "/v1/files?after=file-nothing")
    assert (missed.status, missed.json()["error"]["param"]) == (404, "after")


def test_a_second_request_with_the_key_of_one_at_work_is_a_409_that_clients_repeat(
    workbench: Workbench,
) -> None:
    content, purpose, name = b'{"prompt":"a","completion":"b"}\n', "fine-tune", "same.jsonl"
    facts = [hashlib.sha256(content).hexdigest(), purpose, name, None]
    request = KeyedRequest(OWNER, "files", "in-flight", orjson.dumps(facts))
    workbench.state.idempotency.begin(request)
    answer = workbench.form(
        [("purpose", purpose.encode(), None), ("file", content, name)],
        headers={"idempotency-key": "in-flight"},
    )
    assert (answer.status, answer.error()["code"]) == (409, "idempotency_key_in_flight")

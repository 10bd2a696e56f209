"""No bytes, on any route, are a 500: not as a body, nor in the address, nor in a form."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.openai_jobs.conftest import Workbench

JSON_ROUTES = [
    "/v1/uploads",
    "/v1/uploads/upload_x/complete",
    "/v1/uploads/upload_x/cancel",
    "/v1/fine_tuning/jobs",
    "/v1/fine_tuning/jobs/ftjob-x/cancel",
    "/v1/fine_tuning/jobs/ftjob-x/pause",
    "/v1/fine_tuning/jobs/ftjob-x/resume",
    "/v1/fine-tunes",
    "/v1/fine-tunes/ft-x/cancel",
]
FORM_ROUTES = ["/v1/files", "/v1/uploads/upload_x/parts"]
ITEMS = [
    "/v1/files/{}",
    "/v1/files/{}/content",
    "/v1/fine_tuning/jobs/{}",
    "/v1/fine_tuning/jobs/{}/events",
    "/v1/fine_tuning/jobs/{}/checkpoints",
    "/v1/fine-tunes/{}",
    "/v1/fine-tunes/{}/events",
    "/v1/models/{}",
]
BODIES = {
    "nothing": b"",
    "not JSON": b"\xff\xfe\x00",
    "not a number": b'{"seed":NaN,"model":"ada","training_file":"file-x"}',
    "lone surrogate": b'{"model":"\\ud800","training_file":"x"}',
    "escaped NUL": b'{"model":"a\\u0000b","training_file":"\\u0000","suffix":"\\u0000"}',
    "NUL in metadata": b'{"model":"ada","training_file":"x","metadata":{"\\u0000":"\\u0000"}}',
    "huge integer": b'{"bytes":' + b"9" * 4000 + b"}",
    "deep": b'{"method":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "a list": b"[]",
    "many keys": json.dumps({f"k{i}": i for i in range(5000)}).encode(),
    "every type": b'{"model":[],"training_file":{},"hyperparameters":[1],"method":7,"suffix":1.5}',
}


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_hostile_body_is_a_clear_refusal(workbench: Workbench, path: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = workbench.service.request("POST", path, body, headers)
    assert answer.status in {400, 404}, answer.body
    assert answer.error()["type"] == "invalid_request_error"
    assert len(answer.body) < 1000


FORMS = {
    "nothing": (b"", "multipart/form-data; boundary=b"),
    "no boundary": (b"--b\r\n", "multipart/form-data"),
    "empty boundary": (b"--b\r\n", 'multipart/form-data; boundary=""'),
    "long boundary": (b"--b\r\n", "multipart/form-data; boundary=" + "b" * 5000),
    "another kind": (b"{}", "application/json"),
    "no kind": (b"{}", ""),
    "bytes": (bytes(range(256)), "multipart/form-data; boundary=b"),
    "cut in a header": (b"--b\r\nContent-Disp", "multipart/form-data; boundary=b"),
    "cut in the file": (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
        "multipart/form-data; boundary=b",
    ),
    "no name": (
        b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--\r\n",
        "multipart/form-data; boundary=b",
    ),
    "many parts": (
        b'--b\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n' * 300 + b"--b--\r\n",
        "multipart/form-data; boundary=b",
    ),
    "a long header": (
        b"--b\r\nX: " + b"x" * 50_000 + b"\r\n\r\n1\r\n--b--\r\n",
        "multipart/form-data; boundary=b",
    ),
    "many headers": (
        b"--b\r\n" + b"X: x\r\n" * 5000 + b"\r\n1\r\n--b--\r\n",
        "multipart/form-data; boundary=b",
    ),
    "odd name": (
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="\x00\xff"\r\n\r\nx\r\n'
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
        ),
        "multipart/form-data; boundary=b",
    ),
}


@pytest.mark.parametrize("path", FORM_ROUTES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_hostile_form_is_a_clear_refusal(
    workbench: Workbench, path: str, form: tuple[bytes, str]
) -> None:
    answer = workbench.service.request("POST", path, form[0], {"content-type": form[1]})
    assert answer.status in {400, 404, 415}, answer.body
    answer.error()


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize(
    "id_",
    ["%00", "%ff%fe", "..%2f..", "%2e%2e", "a" * 5000, "%F0%9F%98%80", "a%0d%0ab", "'--", "%"],
)
def test_a_hostile_id_is_a_clear_refusal(workbench: Workbench, item: str, id_: str) -> None:
    answer = workbench.service.request("GET", item.format(id_))
    assert answer.status in {400, 404}, answer.body
    answer.error()


@pytest.mark.parametrize("query", ["after=%00", "after=%ff", "limit=%00", "limit=1&limit=x", "%=%"])
def test_a_hostile_query_is_a_clear_refusal_or_nothing(workbench: Workbench, query: str) -> None:
    for path in ("/v1/files", "/v1/fine_tuning/jobs", "/v1/fine-tunes", "/v1/models"):
        assert workbench.service.request("GET", f"{path}?{query}").status in {200, 400, 404}
    for odd in ("metadata[%00]=%00", "metadata[]=a", "metadata[a]=%ff", "purpose=%00"):
        assert workbench.ask("GET", f"/v1/fine_tuning/jobs?{odd}").status in {200, 400}
        assert workbench.ask("GET", f"/v1/files?{odd}").status in {200, 400}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/files"),
        ("PATCH", "/v1/fine_tuning/jobs/x"),
        ("GET", "/v1/fine_tuning/nothing"),
        ("POST", "/v1/fine_tuning/jobs/x/stop"),
        ("DELETE", "/v1/fine_tuning/jobs/x"),
        ("GET", "/v1/files/"),
        ("POST", "/v1/fine_tuning/jobs/"),
    ],
)
def test_what_there_is_not_has_the_one_error_body(
    workbench: Workbench, method: str, path: str
) -> None:
    answer = workbench.service.request(method, path)
    assert answer.status in {404, 405}
    answer.error()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FIELDS = (
    "model", "training_file", "validation_file", "suffix", "seed", "metadata", "method",
    "hyperparameters", "integrations", "n_epochs", "batch_size", "learning_rate_multiplier",
    "prompt_loss_weight", "compute_classification_metrics", "classification_n_classes",
    "classification_positive_class", "classification_betas", "bytes", "filename", "mime_type",
    "purpose", "expires_after", "part_ids", "md5",
)  # fmt: skip


@settings(max_examples=200)
@given(
    path=st.sampled_from(JSON_ROUTES),
    body=st.dictionaries(st.sampled_from(FIELDS) | st.text(), anything, max_size=8),
)
def test_no_json_is_a_500(workbench: Workbench, path: str, body: Any) -> None:
    answer = workbench.ask("POST", path, body)
    assert answer.status in {200, 400, 404}, answer.body


@settings(max_examples=100)
@given(path=st.sampled_from(FORM_ROUTES), inside=st.binary(max_size=300), cut=st.integers(0, 250))
def test_no_form_is_a_500(workbench: Workbench, path: str, inside: bytes, cut: int) -> None:
    whole = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    )
    body = whole[:cut] + inside + whole[cut:]
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = workbench.service.request("POST", path, body, headers)
    assert answer.status in {200, 400, 404}, answer.body

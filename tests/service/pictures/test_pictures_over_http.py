"""Pictures in and labels out: JSON, forms, chats, and everything that is no picture."""

import base64
import io
import json
import os
import zipfile
import zlib
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from hone.models.imaging.predictor import load_picture_predictor
from hone.models.imaging.tokens import picture_tokens
from hone.models.names import parse_reference
from hone.models.registry import Registry
from hone.service.schemas import ClassifyResponse
from tests.pictures import encoded, picture, png_bomb, png_chunk, png_file
from tests.service.running import Answer, Service
from tests.tiny_picture_bundle import LABELS

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 210)}


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def shot(label: str, kind: str = "PNG", **options: Any) -> bytes:
    return encoded(picture(COLOURS[label], **options), kind)


def as_json(content: bytes, kind: str = "image/png") -> dict[str, str]:
    return {"image": data_url(content, kind)}


def form(*files: bytes, kind: str = "image/png", name: str = "image", **fields: str) -> Any:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    parts += [
        f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n'
        f"Content-Type: {kind}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for content in files
    ]
    return b"".join(parts) + b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}


def post_form(service: Service, *files: bytes, **more: Any) -> Answer:
    return service.request("POST", "/v1/classify", *form(*files, **more))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_in_json_gets_its_label(shown: Service, kind: str) -> None:
    sent = as_json(shot("red", kind), f"image/{kind.lower()}")
    answer = shown.classify(sent, "colours", top_k=2)
    ClassifyResponse.model_validate(answer, strict=True)
    (entry,) = answer["data"]
    assert (entry["label"], len(entry["scores"])) == ("red", 2)


def test_several_pictures_are_answered_in_their_order(shown: Service, shown_store: Any) -> None:
    shots = [shot(label, seed=seed) for seed, label in enumerate([*LABELS, *LABELS])]
    answer = shown.classify([as_json(s) for s in shots], "colours", top_k=3)
    assert [entry["label"] for entry in answer["data"]] == [*LABELS, *LABELS]
    predictor = load_picture_predictor(Registry(shown_store).open(parse_reference("colours")))
    expected = predictor.probabilities(predictor.encode(shots))
    for row, entry in zip(expected, answer["data"], strict=True):
        found = {score["label"]: score["score"] for score in entry["scores"]}
        np.testing.assert_allclose([found[label] for label in LABELS], row, atol=2e-6)


def test_files_of_a_form_are_answered_alike(shown: Service) -> None:
    shots = [shot("green"), shot("blue")]
    by_form = post_form(shown, *shots, model="colours", top_k="1")
    assert by_form.status == 200, by_form.body
    by_json = shown.classify([as_json(s) for s in shots], "colours", top_k=1)
    assert by_form.json()["data"] == by_json["data"]
    assert by_form.json()["usage"] == by_json["usage"]


def test_usage_and_savings_count_the_tokens_of_a_multimodal_prompt(shown: Service) -> None:
    large = shot("red", "JPEG", size=(1000, 600))
    assert (picture_tokens(48, 40), picture_tokens(1000, 600)) == (255, 85 + 170 * 4)
    answer = shown.classify([as_json(shot("red")), as_json(large, "image/jpeg")], "colours")
    assert answer["usage"] == {"prompt_tokens": 255 + 765, "total_tokens": 1020}
    assert answer["savings"] == {
        "baseline_prompt_tokens": 2 * 30 + 1020,
        "tokens_saved": 60,
        "fallback_tokens": 0,
        "method": "estimated:gpt-4o-tiles",
    }


def grey_png(data: bytes) -> bytes:
    """Return a grey PNG of 64 x 64 pixels that unpacks to `data`."""
    return png_file(64, 64, 0, 8, png_chunk(b"IDAT", zlib.compress(data)))


def broken_files() -> dict[str, tuple[bytes, str, str]]:
    """Return files that cannot be used, what they are called, and a word of the refusal."""
    good = shot("red", "JPEG")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x", "y")
    frames = [picture((0, 0, 200), seed=seed) for seed in range(3)]
    moving = {"save_all": True, "append_images": frames[1:], "duration": 40}
    inside = bytearray(shot("red"))
    inside[60:90] = bytes(30)
    rows = png_chunk(b"IDAT", zlib.compress(bytes(9 * 8)))
    return {
        "empty": (b"", "image/png", "it is empty"),
        "text": (b"hello", "image/png", "no JPEG, PNG or WebP"),
        "gif": (encoded(picture((1, 2, 3)), "GIF"), "image/gif", "no JPEG, PNG or WebP"),
        "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "no JPEG"),
        "truncated": (good[:-30], "image/jpeg", "cut off"),
        "animated": (encoded(frames[0], "WEBP", **moving), "image/webp", "animated"),
        "animated png": (encoded(frames[0], "PNG", **moving), "image/png", "animated"),
        "polyglot": (good + archive.getvalue(), "image/jpeg", "behind its end"),
        "mislabelled": (good, "image/png", "is called image/png and is JPEG"),
        "bomb": (png_bomb(13_000), "image/png", "13000 x 13000"),
        "broken inside": (bytes(inside), "image/png", "broken inside"),
        "too few rows": (grey_png(bytes(65 * 10)), "image/png", "less data than its header says"),
        "200 MB": (grey_png(bytes(200_000_000)), "image/png", "more data than its header says"),
        "no palette": (png_file(8, 8, 3, 8, rows), "image/png", "without its palette"),
        "cut and closed": (good[:-200] + b"\xff\xd9", "image/jpeg", "cut off and closed again"),
    }


BROKEN = broken_files()


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_what_is_no_usable_picture_is_a_400_by_json_and_by_form(shown: Service, name: str) -> None:
    content, kind, said = BROKEN[name]
    listed = [as_json(shot("red")), as_json(content, kind)]
    answer = shown.post({"model": "colours", "input": listed})
    error = answer.error()
    assert (answer.status, error["code"]) == (400, "unusable_picture")
    assert said in error["message"]
    assert error["param"] == "input[1].image"
    by_form = post_form(shown, shot("red"), content, kind=kind, model="colours")
    if len(content) < 100_000:
        assert by_form.status == 400


def test_a_picture_too_narrow_to_be_resized_whole_is_answered_by_its_middle(
    shown: Service,
) -> None:
    narrow = encoded(Image.new("RGB", (1, 250_000), COLOURS["red"]), "PNG")
    answer = shown.classify([as_json(shot("red")), as_json(narrow)], "colours")
    assert [each["label"] for each in answer["data"]] == ["red", "red"]


def test_a_tiny_picture_is_answered_as_the_documentation_says(shown: Service) -> None:
    tiny = encoded(Image.new("RGB", (1, 1), COLOURS["red"]), "PNG")
    assert shown.classify([as_json(tiny)], "colours")["data"][0]["label"] == "red"


BARE = base64.b64encode(encoded(picture((9, 9, 9)))).decode()
NOT_EMBEDDED = "picture_not_embedded"


@pytest.mark.parametrize(
    ("image", "code", "said"),
    [
        ("https://example.com/cat.jpg", NOT_EMBEDDED, "is an address, and addresses are not fetch"),
        ("http://127.0.0.1:1/cat.jpg", NOT_EMBEDDED, "is an address"),
        ("file:///etc/passwd", NOT_EMBEDDED, "is an address"),
        ("/etc/passwd", NOT_EMBEDDED, "is no data URL, and paths are not read"),
        ("cat.jpg", NOT_EMBEDDED, "is no data URL, and paths are not read"),
        (BARE, NOT_EMBEDDED, "is base64 without the beginning of a data URL"),
        (BARE[:40], NOT_EMBEDDED, "is base64 without the beginning of a data URL"),
        ("data:image/png,abc", NOT_EMBEDDED, "is a data URL without base64"),
        ("data:image/jpeg;charset=x;base64," + BARE, NOT_EMBEDDED, "with more than a type before"),
        ("data:;base64," + BARE, NOT_EMBEDDED, "with no type of a picture before its base64"),
        ("data:image/*;base64," + BARE, NOT_EMBEDDED, "with no type of a picture before"),
        ("data:image/png;base64,@@@@", "invalid_base64", "is not valid base64."),
        ("data:image/png;base64,abcde", "invalid_base64", "is not valid base64."),
        ("data:image/png;base64,ŧŧŧŧ", "invalid_base64", "is not valid base64."),
        ("data:image/png;base64,AAAA\nAAAA", "invalid_base64", "white space in it."),
        ("", NOT_EMBEDDED, "is empty"),
        (" \n", NOT_EMBEDDED, "is empty"),
        (None, NOT_EMBEDDED, "is null"),
        (17, NOT_EMBEDDED, "is a number"),
        (True, NOT_EMBEDDED, "is a truth value"),
        ([BARE], NOT_EMBEDDED, "is a list"),
        ({"url": "data:image/jpeg;base64," + BARE}, NOT_EMBEDDED, "is an object"),
    ],
)
def test_each_value_that_is_no_data_url_is_called_what_it_is(
    shown: Service, image: Any, code: str, said: str
) -> None:
    for given, place in ([{"image": image}], "input[0].image"), ({"image": image}, "input.image"):
        answer = shown.post({"model": "colours", "input": given})
        error = answer.error()
        assert (answer.status, error["code"], error["param"]) == (400, code, place)
        assert error["message"].startswith(f"'{place}' is ")
        assert said in error["message"]
        assert error["message"].endswith(("(or png, webp).", "base64.", "in it."))
        assert ("fetched" in error["message"]) == ("://" in str(image))
    if isinstance(image, (str, type(None))):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(shown, {"type": "image_url", "image_url": {"url": image}})
        assert (refused.value.code, refused.value.param) == (code, "messages[1].content")
        assert said in refused.value.message


def test_a_picture_sent_as_a_string_gets_a_hint(shown: Service) -> None:
    url = data_url(shot("red"))
    long = data_url(bytes(90_000))
    for given, place in ((url, "input"), ([url], "input[0]"), (long, "input")):
        answer = shown.post({"model": "colours", "input": given})
        error = answer.error()
        assert (answer.status, error["code"]) == (400, "wrong_kind_of_input"), error
        assert error["param"] == place
        assert '{"image": "data:image/jpeg;base64,…"}' in error["message"]
    assert shown.classify("data:image/png;base64,AAAA", "support")["data"][0]["label"]


def test_other_values_are_told_what_an_input_may_be(shown: Service) -> None:
    for given, place, said in (
        ([], "input", "is an empty list"),
        (None, "input", "must be a string, or an object with 'image', or a list of these"),
        (5, "input", "must be a string, or an object with 'image', or a list of these"),
        ([5], "input[0]", "must be a string, or an object with 'image'"),
    ):
        error = shown.post({"model": "colours", "input": given}).error()
        assert (error["param"], error["message"]) == (place, f"'{place}' {said}.")


def test_places_are_the_same_whatever_is_wrong_with_a_picture(shown: Service) -> None:
    few_rows = grey_png(b"")  # found when it is decoded, and the other before that
    for broken in (b"junk", few_rows):
        for given, place in (
            (as_json(broken), "input.image"),
            ([as_json(shot("red")), as_json(broken)], "input[1].image"),
        ):
            error = shown.post({"model": "colours", "input": given}).error()
            assert (error["code"], error["param"]) == ("unusable_picture", place)
            assert error["message"].startswith(f"'{place}': it is ")
        error = post_form(shown, shot("red"), broken, model="colours").error()
        assert (error["code"], error["param"]) == ("unusable_picture", "image[1]")
        with pytest.raises(openai.BadRequestError) as refused:
            ask(shown, part(broken))
        assert refused.value.param == "messages[1].content"


def test_the_detail_of_a_chat_s_picture_is_one_that_there_is(shown: Service) -> None:
    url = data_url(shot("green"))
    for detail in ("auto", "low", "high", None):
        shown_part = {"type": "image_url", "image_url": {"url": url, "detail": detail}}
        assert ask(shown, shown_part).choices[0].message.content == "green"
    for wrong in ("zz", 1, ["low"], ""):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(shown, {"type": "image_url", "image_url": {"url": url, "detail": wrong}})
        assert "'detail' is none of auto, low and high." in refused.value.message
        assert refused.value.param == "messages[1].content"


@pytest.mark.parametrize(
    "given", [{}, {"image": "x", "detail": "low"}, [[]], [{"image": "x"}, 3], {"text": "a"}]
)
def test_inputs_of_another_shape_are_refused(shown: Service, given: Any) -> None:
    assert shown.post({"model": "colours", "input": given}).status == 400


def test_each_model_takes_its_own_kind_of_input(shown: Service) -> None:
    text = shown.post({"model": "colours", "input": ["red", "blue"]}).error()
    assert (text["code"], text["param"]) == ("wrong_kind_of_input", "input[0]")
    assert "classifies pictures" in text["message"]
    shown_one = shown.post({"model": "support", "input": ["where", as_json(shot("red"))]}).error()
    assert (shown_one["code"], shown_one["param"]) == ("wrong_kind_of_input", "input[1].image")
    assert shown.classify("where is my card")["data"][0]["label"]


def test_limits_of_bytes_and_of_pictures(shown: Service) -> None:
    noise = os.urandom(100 * 100 * 3)
    large = encoded(Image.frombytes("RGB", (100, 100), noise), "PNG")
    assert len(large) > 25_000
    listed = [as_json(large)] * 3
    assert len(json.dumps(listed)) > 100_000
    assert shown.post({"model": "colours", "input": listed}).status == 200
    assert shown.post({"model": "support", "input": "card " * 20_000}).status in {400, 413}
    padded = {"model": "support", "input": ["card"], "top_k": 1}
    answer = shown.post(json.dumps(padded).encode() + b" " * 70_000)
    assert (answer.status, answer.error()["code"]) == (413, "body_too_large")
    over = shown.post({"model": "colours", "input": [as_json(large)] * 12})
    assert over.status == 413
    many = shown.post({"model": "colours", "input": [as_json(shot("red"))] * 9}).error()
    assert many["code"] == "too_many_items"
    assert post_form(shown, *[shot("red")] * 9, model="colours").error()["code"] == "too_many_items"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {"content-type": "multipart/form-data; boundary=b"}),
        (b"--b\r\n", {"content-type": "multipart/form-data; boundary=b"}),
        (b"garbage", {"content-type": "multipart/form-data; boundary=b"}),
        (b"--b--\r\n", {"content-type": "multipart/form-data"}),
        (form(model="colours")[0], {"content-type": "multipart/form-data; boundary=b"}),
        (form(b"x", model="colours", top_k="0")[0], form()[1]),
        (form(b"x", model="colours", other="1")[0], form()[1]),
        (form(shot("red"))[0], form()[1]),
        (form(shot("red"), model="colours", top_k="9" * 2000)[0], form()[1]),
    ],
)
def test_forms_that_cannot_be_used_are_a_400(
    shown: Service, body: bytes, headers: dict[str, str]
) -> None:
    answer = shown.request("POST", "/v1/classify", body, headers)
    assert answer.status == 400, answer.body
    assert answer.error()["message"]


def test_a_file_under_another_name_and_a_field_in_its_place_are_told(shown: Service) -> None:
    named = post_form(shown, shot("red") * 20, name="picture", model="colours").error()
    assert named["code"] == "invalid_form"
    assert "its file is called 'picture', and has to be called 'image'" in named["message"]
    for field in ("photo.jpg", data_url(shot("red"), "image/png")):
        told = post_form(shown, model="colours", image=field).error()
        assert told["code"] == "invalid_form"
        assert "with curl it is -F image=@FILE" in told["message"]
    field_of_bytes = form(shot("red"), model="colours")[0].replace(b'; filename="x"', b"")
    answer = shown.request("POST", "/v1/classify", field_of_bytes, form()[1])
    assert answer.status == 200


def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key="unused")


def ask(service: Service, *parts: Any, model: str = "colours") -> Any:
    content = [{"type": "text", "text": "Which colour is it?"}, *parts]
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": content},
    ]
    return client(service).chat.completions.create(model=model, messages=messages)


def part(content: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(content, kind), "detail": "high"}}


def test_a_chat_with_a_picture_answers_its_label(shown: Service) -> None:
    answer = ask(shown, part(shot("green")))
    assert answer.choices[0].message.content == "green"
    assert answer.usage.prompt_tokens == 255


def test_a_chat_needs_exactly_one_usable_picture(shown: Service) -> None:
    for parts, code in (
        ([], "one_picture_needed"),
        ([part(shot("red"))] * 2, "one_picture_needed"),
        (
            [{"type": "image_url", "image_url": {"url": "https://x.y/z.png"}}],
            "picture_not_embedded",
        ),
        ([part(b"junk")], "unusable_picture"),
        ([{"type": "image_url"}], "picture_not_embedded"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(shown, *parts)
        assert refused.value.code == code


def test_another_part_beside_the_picture_is_told_what_may_stand_there(shown: Service) -> None:
    for kind in ("input_image", "input_audio", "file"):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(shown, part(shot("red")), {"type": kind, kind: {}})
        assert refused.value.code == "unsupported_content"
        assert "may hold text and an 'image_url'" in refused.value.message


def test_a_model_of_texts_still_refuses_pictures_in_chats(shown: Service) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(shown, part(shot("red")), model="support")
    assert refused.value.code == "unsupported_content"


def test_the_service_is_ready_and_counts_what_it_answered(shown: Service) -> None:
    assert shown.get("/readyz").status == 200
    before = shown.metrics()
    shown.classify([as_json(shot("red")), as_json(shot("blue"))], "colours")
    shown.post({"model": "colours", "input": [as_json(b"junk")]})
    after = shown.metrics()
    labels = (("model", "colours"), ("version", "1"))
    grown = after["hone_texts_total", labels] - before.get(("hone_texts_total", labels), 0)
    assert grown == 2
    assert "Traceback" not in shown.logged()

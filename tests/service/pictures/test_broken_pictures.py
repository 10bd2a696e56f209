"""Everything that is sent as a picture and is none that can be used."""

import io
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.pictures import encoded, grey_png, picture, png_bomb, png_chunk, png_file
from tests.service.pictures.showing import (
    as_json,
    ask,
    data_url,
    form,
    part,
    post_form,
    shot,
)
from tests.service.running import Service


def animated(kind: str) -> bytes:
    frames = [picture((0, 0, 200), seed=seed) for seed in range(3)]
    moving = {"save_all": True, "append_images": frames[1:], "duration": 40}
    return encoded(frames[0], kind, **moving)


def polyglot() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x", "y")
    return shot("red", "JPEG") + archive.getvalue()


def broken_inside() -> bytes:
    content = bytearray(shot("red"))
    content[60:90] = bytes(30)
    return bytes(content)


def without_palette() -> bytes:
    return png_file(8, 8, 3, 8, png_chunk(b"IDAT", zlib.compress(bytes(9 * 8))))


BROKEN: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "empty": (bytes, "image/png", "it is empty"),
    "text": (lambda: b"hello", "image/png", "no JPEG, PNG or WebP"),
    "gif": (lambda: encoded(picture((1, 2, 3)), "GIF"), "image/gif", "no JPEG, PNG or WebP"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "no JPEG"),
    "truncated": (lambda: shot("red", "JPEG")[:-30], "image/jpeg", "cut off"),
    "animated": (lambda: animated("WEBP"), "image/webp", "animated"),
    "animated png": (lambda: animated("PNG"), "image/png", "animated"),
    "polyglot": (polyglot, "image/jpeg", "behind its end"),
    "mislabelled": (lambda: shot("red", "JPEG"), "image/png", "is called image/png and is JPEG"),
    "bomb": (lambda: png_bomb(13_000), "image/png", "13000 x 13000"),
    "broken inside": (broken_inside, "image/png", "broken inside"),
    "too few rows": (lambda: grey_png(bytes(650)), "image/png", "less data than its header says"),
    "200 MB": (lambda: grey_png(bytes(2 * 10**8)), "image/png", "more data than its header says"),
    "20,001 chunks": (
        lambda: png_file(64, 64, 0, 8, png_chunk(b"IDAT", b"") * 19_999),
        "image/png",
        "with more than 16,384 chunks",
    ),
    "no palette": (without_palette, "image/png", "without its palette"),
    "cut and closed": (
        lambda: shot("red", "JPEG")[:-200] + b"\xff\xd9",
        "image/jpeg",
        "cut off and closed again",
    ),
}
"""Of each file that cannot be used: what makes it, what it is called, and a word of the refusal."""


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_what_is_no_usable_picture_is_a_400_by_json_and_by_form(shown: Service, name: str) -> None:
    make, kind, said = BROKEN[name]
    content = make()
    listed = [as_json(shot("red")), as_json(content, kind)]
    by_json = shown.post({"model": "colours", "input": listed})
    by_form = post_form(shown, shot("red"), (content, kind), model="colours")
    for answer, place in ((by_json, "input[1].image"), (by_form, "image[1]")):
        error = answer.error()
        assert (answer.status, error["code"], error["param"]) == (400, "unusable_picture", place)
        assert said in error["message"]


NOT_EMBEDDED = "picture_not_embedded"
A_JPEG = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwg"
"""The beginning of one in base64."""


@pytest.mark.parametrize(
    ("image", "code", "said"),
    [
        ("https://example.com/cat.jpg", NOT_EMBEDDED, "is an address, and addresses are not fetch"),
        ("http://127.0.0.1:1/cat.jpg", NOT_EMBEDDED, "is an address"),
        ("file:///etc/passwd", NOT_EMBEDDED, "is an address"),
        ("/etc/passwd", NOT_EMBEDDED, "is no data URL, and paths are not read"),
        ("cat.jpg", NOT_EMBEDDED, "is no data URL, and paths are not read"),
        (A_JPEG * 3, NOT_EMBEDDED, "is base64 without the beginning of a data URL"),
        (A_JPEG[:40], NOT_EMBEDDED, "is base64 without the beginning of a data URL"),
        ("data:image/png,abc", NOT_EMBEDDED, "is a data URL without base64"),
        (
            "data:image/jpeg;charset=x;base64," + A_JPEG,
            NOT_EMBEDDED,
            "with more than a type before",
        ),
        ("data:;base64," + A_JPEG, NOT_EMBEDDED, "with no type of a picture before its base64"),
        ("data:image/*;base64," + A_JPEG, NOT_EMBEDDED, "with no type of a picture before"),
        ("data:image/png;base64,@@@@", "invalid_base64", "is not valid base64."),
        ("data:image/png;base64,abcde", "invalid_base64", "is not valid base64."),
        ("data:image/png;base64,ŧŧŧŧ", "invalid_base64", "is not valid base64."),
        ("data:image/png;base64,AAAA\nAAAA", "invalid_base64", "white space in it."),
        ("", NOT_EMBEDDED, "is empty"),
        (" \n", NOT_EMBEDDED, "is empty"),
        (None, NOT_EMBEDDED, "is null"),
        (17, NOT_EMBEDDED, "is a number"),
        (True, NOT_EMBEDDED, "is a truth value"),
        ([A_JPEG], NOT_EMBEDDED, "is a list"),
        ({"url": "data:image/jpeg;base64," + A_JPEG}, NOT_EMBEDDED, "is an object"),
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
        found = (refused.value.code, refused.value.param)
        assert found == ("unusable_picture", "messages[1].content")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_form", None),
        (b"--b\r\n", "invalid_form", None),
        (b"garbage", "invalid_form", None),
        (form(model="colours")[0], "invalid_request", "image"),
        (form(b"x", model="colours", top_k="0")[0], "invalid_request", "top_k"),
        (form(b"x", model="colours", other="1")[0], "unknown_field", "other"),
        (form(b"x")[0], "invalid_request", "model"),
        (form(b"x", model="colours", top_k="9" * 2000)[0], "invalid_form", None),
    ],
)
def test_forms_that_cannot_be_used_are_a_400(
    shown: Service, body: bytes, code: str, param: str | None
) -> None:
    answer = shown.request("POST", "/v1/classify", body, form()[1])
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (400, code, param), error


def test_a_form_that_names_no_boundary_is_a_400(shown: Service) -> None:
    unnamed = {"content-type": "multipart/form-data"}
    answer = shown.request("POST", "/v1/classify", form(b"x", model="colours")[0], unnamed)
    assert (answer.status, answer.error()["code"]) == (400, "invalid_form")


def test_a_file_under_another_name_and_a_field_in_its_place_are_told(shown: Service) -> None:
    body, headers = form(shot("red") * 20, model="colours")
    renamed = body.replace(b'name="image"', b'name="picture"')
    named = shown.request("POST", "/v1/classify", renamed, headers).error()
    assert named["code"] == "invalid_form"
    assert "its file is called 'picture', and has to be called 'image'" in named["message"]
    for field in ("photo.jpg", data_url(shot("red"), "image/png")):
        told = post_form(shown, model="colours", image=field).error()
        assert told["code"] == "invalid_form"
        assert "with curl it is -F image=@FILE" in told["message"]
    field_of_bytes = form(shot("red"), model="colours")[0].replace(b'; filename="x"', b"")
    answer = shown.request("POST", "/v1/classify", field_of_bytes, headers)
    assert answer.status == 200


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

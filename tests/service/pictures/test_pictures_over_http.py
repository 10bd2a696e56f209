"""Pictures in and labels out: JSON, forms and chats, and the limits of each."""

import json
import os
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
from tests.pictures import encoded
from tests.service.pictures.showing import COLOURS, as_json, ask, data_url, part, post_form, shot
from tests.service.running import Service
from tests.tiny_picture_bundle import LABELS


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


def test_a_picture_too_narrow_to_be_resized_whole_is_answered_by_its_middle(
    shown: Service,
) -> None:
    narrow = encoded(Image.new("RGB", (1, 250_000), COLOURS["red"]), "PNG")
    answer = shown.classify([as_json(shot("red")), as_json(narrow)], "colours")
    assert [each["label"] for each in answer["data"]] == ["red", "red"]


def test_a_tiny_picture_is_answered_as_the_documentation_says(shown: Service) -> None:
    tiny = encoded(Image.new("RGB", (1, 1), COLOURS["red"]), "PNG")
    assert shown.classify([as_json(tiny)], "colours")["data"][0]["label"] == "red"


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
    ("given", "code", "param"),
    [
        ({}, "invalid_request", "input"),
        ({"image": "x", "detail": "low"}, "invalid_request", "input"),
        ([[]], "invalid_request", "input[0]"),
        ([{"image": "x"}, 3], "picture_not_embedded", "input[0].image"),
        ({"text": "a"}, "invalid_request", "input"),
    ],
)
def test_inputs_of_another_shape_are_refused(
    shown: Service, given: Any, code: str, param: str
) -> None:
    answer = shown.post({"model": "colours", "input": given})
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (400, code, param), error


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
    long = shown.post({"model": "support", "input": "card " * 20_000})
    assert (long.status, long.error()["code"]) == (413, "body_too_large")
    padded = {"model": "support", "input": ["card"], "top_k": 1}
    answer = shown.post(json.dumps(padded).encode() + b" " * 70_000)
    assert (answer.status, answer.error()["code"]) == (413, "body_too_large")
    over = shown.post({"model": "colours", "input": [as_json(large)] * 12})
    assert (over.status, over.error()["code"]) == (413, "body_too_large")
    many = shown.post({"model": "colours", "input": [as_json(shot("red"))] * 9}).error()
    assert many["code"] == "too_many_items"
    assert post_form(shown, *[shot("red")] * 9, model="colours").error()["code"] == "too_many_items"


def test_a_chat_with_a_picture_answers_its_label(shown: Service) -> None:
    answer = ask(shown, part(shot("green")))
    assert answer.choices[0].message.content == "green"
    assert answer.usage.prompt_tokens == 255


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

"""`POST /v1/classify`: what it answers."""

from pathlib import Path

import pytest

from hone.models.names import parse_reference
from hone.models.predictor import Predictor, load_predictor
from hone.models.registry import Registry
from hone.service.schemas import ClassifyResponse
from tests.service.running import Service
from tests.tiny_bundle import LABELS

TEXTS = ["where is my card", "money", "i sent the money back please help", "not here yet", "card"]


@pytest.fixture(scope="module")
def predictor(asked_store: Path) -> Predictor:
    return load_predictor(Registry(asked_store).open(parse_reference("support@2")))


def test_a_text_gets_its_labels_best_first(asked: Service, predictor: Predictor) -> None:
    answer = asked.classify(TEXTS[0])
    expected = predictor.probabilities(predictor.encode(TEXTS[:1]))[0]
    ClassifyResponse.model_validate(answer, strict=True)
    (entry,) = answer["data"]
    assert entry["index"] == 0
    assert entry["label"] == LABELS[expected.argmax()] == entry["scores"][0]["label"]
    assert entry["confidence"] == entry["scores"][0]["score"]
    assert entry["confidence"] == pytest.approx(expected.max(), abs=1e-6)
    scores = [score["score"] for score in entry["scores"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    assert answer["model"] == "support@2"
    assert answer["object"] == "list"


def test_texts_are_answered_in_their_order_as_each_would_be_alone(
    asked: Service, predictor: Predictor
) -> None:
    answer = asked.classify(TEXTS * 3, top_k=4)
    assert [entry["index"] for entry in answer["data"]] == list(range(15))
    for text, entry in zip(TEXTS * 3, answer["data"], strict=True):
        expected = predictor.probabilities(predictor.encode([text]))[0]
        for score in entry["scores"]:
            wanted = expected[LABELS.index(score["label"])]
            assert score["score"] == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize(("asked_for", "given"), [(1, 1), (2, 2), (4, 4), (1000, 4)])
def test_top_k_is_at_most_the_number_of_labels(asked: Service, asked_for: int, given: int) -> None:
    (entry,) = asked.classify("card", top_k=asked_for)["data"]
    assert len(entry["scores"]) == given


def test_usage_counts_the_tokens_that_the_model_read(asked: Service) -> None:
    usage = asked.classify(["where is my card", "money"])["usage"]
    assert usage == {"prompt_tokens": 6 + 3, "total_tokens": 9}
    long = asked.classify("card " * 500)["usage"]
    assert long["prompt_tokens"] == 64


def test_savings_are_the_prompts_tokens_less_ours(asked: Service) -> None:
    answer = asked.classify(["where is my card", "money"])
    # 120 static tokens for each prompt, and the characters of each text by four, rounded up
    assert answer["savings"] == {
        "baseline_prompt_tokens": 120 + 4 + 120 + 2,
        "tokens_saved": 246 - 9,
        "fallback_tokens": 0,
        "method": "estimated:characters",
    }


def test_without_a_baseline_there_are_no_savings(asked: Service) -> None:
    assert asked.classify("card", "plain")["savings"] is None


@pytest.mark.parametrize(
    ("name", "version"), [("support", 2), ("support@1", 1), ("support@2", 2), ("support@latest", 2)]
)
def test_a_reference_finds_its_version(asked: Service, name: str, version: int) -> None:
    assert asked.classify("card", name)["model"] == f"support@{version}"


def test_ids_differ_and_stand_in_the_header(asked: Service) -> None:
    answers = [asked.post({"model": "support", "input": "card"}) for _ in range(3)]
    ids = {answer.json()["id"] for answer in answers}
    assert ids == {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3


def test_models_are_listed_in_the_openai_shape(asked: Service) -> None:
    listed = asked.get("/v1/models").json()
    assert listed["object"] == "list"
    bodies = {body["id"]: body for body in listed["data"]}
    assert set(bodies) == {"support", "plain", "strict"}
    support = bodies["support"]
    assert support["object"] == "model"
    assert support["versions"] == [1, 2]
    assert support["aliases"] == {"latest": 2}
    assert support["labels"] == list(LABELS)
    assert support["loaded"]


def test_one_model_or_version_is_described(asked: Service) -> None:
    assert asked.get("/v1/models/support").json()["version"] == 2
    first = asked.get("/v1/models/support@1").json()
    assert (first["id"], first["version"]) == ("support@1", 1)
    assert asked.get("/v1/models/support%40latest").json()["id"] == "support@latest"


@pytest.mark.parametrize("name", ["nothing", "support@9", "support@beta", "..%2F..%2Fetc", "A B"])
def test_an_unknown_model_is_a_404(asked: Service, name: str) -> None:
    answer = asked.get(f"/v1/models/{name.replace(' ', '%20')}")
    assert answer.status == 404
    assert answer.error()["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
def test_the_service_is_healthy(asked: Service, path: str) -> None:
    answer = asked.get(path)
    assert answer.status == 200
    assert answer.json()["models"] == ["plain@1", "strict@1", "support@2"]
    assert answer.json()["missing"] == []

"""`/v1/decisions`: predicates, choices and scores from the probabilities of a model's labels."""

from typing import Any

import pytest
from openai import OpenAI

from hone.models.predictor import Predictor
from hone.service.openai.decision_schemas import DecisionRequest, DecisionResponse
from tests.service.running import Service
from tests.tiny_bundle import LABELS

PATH = "/v1/decisions"
TEXT = "where is my card"
CHOICE = {
    "type": "choice",
    "instructions": "Which?",
    "choices": [{"value": label} for label in LABELS],
}


def predicate(name: str | None = None) -> dict[str, Any]:
    return {"type": "predicate", "instructions": "Is it so?", "name": name}


def decide(service: Service, *questions: Any, **body: Any) -> Any:
    content = {"model": "support", "input": TEXT, "questions": questions, **body}
    answer = service.post(content, PATH)
    assert answer.status == 200, answer.body
    return answer.json()


def test_the_client_gets_all_three_kinds(client: OpenAI, predictor: Predictor) -> None:
    row = predictor.probabilities(predictor.encode([TEXT]))[0].tolist()
    answer = client.decisions.create(
        model="support",
        input=TEXT,
        questions=[
            {"type": "predicate", "instructions": "About money?", "name": "refund"},
            {
                "type": "choice",
                "instructions": "Which?",
                "name": "c",
                "choices": [{"value": "card"}, {"value": "other", "description": "the rest"}],
            },
            {
                "type": "score",
                "instructions": "How far?",
                "levels": [{"label": "other"}, {"label": "card"}, {"label": "refund"}],
            },
        ],
    )
    asserted, chosen, scored = answer.answers
    card, refund, other = (row[LABELS.index(label)] for label in ("card", "refund", "other"))
    assert asserted.type == "predicate"
    assert asserted.name == "refund"
    assert asserted.probability == pytest.approx(refund, abs=1e-6)
    assert chosen.type == "choice"
    assert chosen.confidence == pytest.approx(max(card, other) / (card + other), abs=1e-6)
    assert chosen.choice == ("card" if card > other else "other")
    assert sum(share.probability for share in chosen.probabilities) == pytest.approx(1)
    assert scored.type == "score"
    assert scored.name is None
    assert scored.score == pytest.approx((card + 2 * refund) / (card + refund + other), abs=1e-6)
    assert [share.value for share in scored.probabilities] == [0, 1, 2]
    assert answer.model == "support@1"
    assert answer.usage.total_tokens == answer.usage.input_tokens == 6
    assert answer.usage.output_tokens == 0


@pytest.mark.parametrize(
    ("model", "labels", "positive"),
    [("plain", ("no", "yes"), "yes"), ("positive", ("bad", "good"), "bad")],
)
def test_a_predicate_is_about_the_positive_label_of_two(
    speaking: Service, model: str, labels: tuple[str, str], positive: str
) -> None:
    named = [predicate(label) for label in labels]
    answers = decide(speaking, predicate("is it?"), *named, model=model)["answers"]
    found = dict(zip(labels, (answer["probability"] for answer in answers[1:]), strict=True))
    assert answers[0]["probability"] == found[positive]
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)


def test_the_input_may_be_messages(speaking: Service) -> None:
    part = {"type": "input_text", "text": TEXT}
    messages = [
        {"role": "developer", "content": "Sort."},
        {"type": "message", "role": "user", "content": [part]},
    ]
    bare = decide(speaking, CHOICE)
    whole = decide(speaking, CHOICE, input=messages)
    assert bare["answers"] == whole["answers"]
    assert bare["savings"]["tokens_saved"] - whole["savings"]["tokens_saved"] == 2


def test_what_is_taken_and_not_read_stands_in_the_document(speaking: Service) -> None:
    extra = {"prompt_cache_options": {"a": 1}, "prompt_cache_key": "k", "safety_identifier": "s"}
    decide(speaking, CHOICE, **extra)
    content = {"model": "support", "input": TEXT, "questions": [CHOICE], **extra}
    DecisionRequest.model_validate(content)


def test_answers_are_as_the_document_says(speaking: Service) -> None:
    levels = [{"label": label} for label in LABELS]
    score = {"type": "score", "instructions": "?", "levels": levels}
    answer = decide(speaking, CHOICE, predicate("card"), score, prompt_cache_key="k")
    DecisionResponse.model_validate(answer, strict=True)


def choices(*values: Any) -> dict[str, Any]:
    return CHOICE | {"choices": [{"value": value} for value in values]}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": None}, "input", "invalid_request"),
    ({"input": ""}, "input", "empty_text"),
    ({"input": [{"type": "function_call"}]}, "input[0].type", "unsupported_parameter"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content",
     "unsupported_content"),
    ({"questions": []}, "questions", "invalid_request"),
    ({"questions": [CHOICE] * 401}, "questions", "invalid_request"),
    ({"questions": [3]}, "questions[0]", "invalid_request"),
    ({"questions": [{"type": "guess"}]}, "questions[0].type", "invalid_request"),
    ({"questions": [{"type": "predicate"}]}, "questions[0].instructions", "invalid_request"),
    ({"questions": [predicate()]}, "questions[0].name", "unknown_label"),
    ({"questions": [CHOICE, predicate("x")]}, "questions[1].name", "unknown_label"),
    ({"questions": [choices("card")]}, "questions[0].choices", "invalid_request"),
    ({"questions": [choices("card", 3)]}, "questions[0].choices[1]", "invalid_request"),
    ({"questions": [choices("card", "fee")]}, "questions[0].choices[1]", "unknown_label"),
    ({"questions": [choices("card", True)]}, "questions[0].choices[1]", "unknown_label"),
    ({"questions": [choices("card", "card")]}, "questions[0]", "invalid_request"),
    ({"questions": [CHOICE | {"extra": 1}]}, "questions[0].extra", "unknown_field"),
    ({"temperature": 1}, "temperature", "unknown_field"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param", "code"), REFUSED)
def test_what_cannot_be_mapped_on_the_labels_is_refused_by_name(
    speaking: Service, body: dict[str, Any], param: str, code: str
) -> None:
    content = {"model": "support", "input": TEXT, "questions": [CHOICE], **body}
    answer = speaking.post(content, PATH)
    error = answer.error()
    assert (answer.status, error["param"], error["code"]) == (400, param, code)

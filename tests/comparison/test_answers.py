"""A label is read by stated rules, and what no rule reads is never a guess."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.prompting.answers import LabelReader

LABELS = (
    "card_arrival",
    "refund_not_showing_up",
    "Refund",
    "spam",
    "5",
    "lost or stolen card",
    "no",
    "退款",
)
READER = LabelReader(LABELS)
STRICT = LabelReader(LABELS, lenient=False)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("card_arrival", "card_arrival"),
        ("  card_arrival\n", "card_arrival"),
        ("Card Arrival", "card_arrival"),
        ("card-arrival", "card_arrival"),
        ("CARD_ARRIVAL.", "card_arrival"),
        ('"card_arrival"', "card_arrival"),
        ("'card_arrival'", "card_arrival"),
        ("`card_arrival`", "card_arrival"),
        ("**card_arrival**.", "card_arrival"),
        ("- card_arrival", "card_arrival"),
        ("Label: card_arrival", "card_arrival"),
        ("The label is card_arrival.", "card_arrival"),
        ("The correct category is: `Card arrival`", "card_arrival"),
        ("ｃａｒｄ＿ａｒｒｉｖａｌ", "card_arrival"),
        ('{"label": "card_arrival"}', "card_arrival"),
        ('{"Intent": "Card Arrival", "why": "it is late"}', "card_arrival"),
        ('{"choice": "spam"}', "spam"),
        ('["spam"]', "spam"),
        ('```json\n{"label": "spam"}\n```', "spam"),
        ("```\nspam\n```", "spam"),
        ("lost  or stolen card", "lost or stolen card"),
        ("5", "5"),
        ("The answer is 5.", "5"),
        ("no", "no"),
        ("refund", "Refund"),
        ("标签：退款", "退款"),
        ("退款。", "退款"),
    ],
)
def test_a_label_that_is_the_whole_answer_is_read(answer: str, label: str) -> None:
    for reader in (READER, STRICT):
        read = reader.read(answer)
        assert (read.kind, read.label, read.whole) == ("answered", label, True)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("card_arrival\n\nThe card is late.", "card_arrival"),
        ("The card is late, so:\ncard_arrival", "card_arrival"),
        ("spam is out of the question here.\nLabel: Refund\nThat is all.", "Refund"),
        ("I think this is about card arrival, as it is late", "card_arrival"),
        ("It is a lost or stolen card case", "lost or stolen card"),
        ("This is refund_not_showing_up", "refund_not_showing_up"),
        ("spam. Definitely spam!", "spam"),
    ],
)
def test_a_label_within_a_longer_answer_is_read_by_the_lenient_rules_only(
    answer: str, label: str
) -> None:
    read = READER.read(answer)
    assert (read.kind, read.label, read.whole) == ("answered", label, False)
    assert STRICT.read(answer).kind == "unparsable"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   ",
        "¯\\_(ツ)_/¯",
        "something else",
        "spam or refund",
        "spam\n\nOn second thought:\nrefund",
        "This is not spam",
        "It isn't really spam",
        "Anything except spam.",
        "spammer",
        "scores: 5 of 10",  # a short label is read only where it stands alone
        "there is no telling",
        '{"label": 7}',
        '{"label": null}',
        '{"a": "spam", "b": "refund"}',
        "[" * 10_000,
        '{"label": "unknown"}',
    ],
)
def test_what_no_rule_reads_is_unparsable(answer: str) -> None:
    read = READER.read(answer)
    assert (read.kind, read.label) == ("unparsable", None)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot classify this.",
        "Sorry, no.",
        "I cannot assist with this request",
        "I won't say whether this is spam.",
        "As an AI language model I have no opinion on spam",
        "I am unable to do that",
        "**I apologize**, that is not possible",
        "抱歉，我不能回答。",
    ],
)
def test_a_refusal_in_words_is_a_refusal_even_where_it_names_a_label(answer: str) -> None:
    assert READER.read(answer).kind == "refused"
    assert STRICT.read(answer).kind == "refused"


def test_a_label_that_sounds_like_a_refusal_is_still_a_label() -> None:
    assert LabelReader(("sorry", "thanks")).read("Sorry.").label == "sorry"


def test_labels_that_differ_in_case_or_spacing_alone_are_told_apart_by_the_letter() -> None:
    reader = LabelReader(("top_up", "top-up", "Other", "other"))
    assert reader.read("top-up").label == "top-up"
    assert reader.read('"top_up"').label == "top_up"
    assert reader.read("other").label == "other"
    for answer in ("top up", "OTHER", "I would say: top up it is"):
        assert reader.read(answer).kind == "unparsable"


def test_a_hostile_answer_of_megabytes_is_read_in_no_time_to_speak_of() -> None:
    for piece in ("label is " * 400_000, "a_" * 2_000_000, "not " * 900_000, "`" * 3_000_000):
        assert READER.read(piece).kind == "unparsable"


LABEL_SETS = st.lists(
    st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12),
    min_size=2,
    max_size=8,
    unique_by=lambda text: " ".join(text.casefold().split()),
)


@given(LABEL_SETS, st.data())
def test_every_label_is_read_back_from_its_usual_wrappings(
    labels: list[str], data: st.DataObject
) -> None:
    label = data.draw(st.sampled_from(labels))
    wrap = data.draw(st.sampled_from(["{}", " {}\n", '"{}"', "{}.", "**{}**", "`{}`"]))
    reader = LabelReader(labels)
    assert reader.read(wrap.format(label)).label == label
    assert reader.read(json.dumps({"label": label})).label == label


@given(LABEL_SETS, st.text(max_size=200))
def test_whatever_is_answered_what_is_read_is_a_label_or_nothing(
    labels: list[str], answer: str
) -> None:
    read = LabelReader(labels).read(answer)
    assert (read.label in labels) == (read.kind == "answered")
    assert read.label is None or read.kind == "answered"

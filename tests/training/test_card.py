"""A card says what the run knows, in Markdown and in HTML, and obeys no markup in the data."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from hone.models.cells import one_line
from hone.models.document import Block, Bullets, Document, Section, Table, Text, Verbatim
from hone.models.savings import BaselinePrompt
from hone.training.card import RunSummary, card_html, card_markdown
from hone.training.progress import Progress
from tests.training.summaries import make_evaluation, make_progress, make_summary

HOSTILE = ["<script>alert(1)</script>", "a|b `c` **d** $x$", "</td></table><h1>", "退款", "&amp;"]
VOID = {"img", "link", "meta", "source", "rect", "br", "hr"}


class PageReader(HTMLParser):
    """Collects a page's tags, attributes and visible texts; fails where tags do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open:
            self.cells[-1] += data


def markdown_tokens(text: str) -> list[Token]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [each for token in tokens for each in (token, *(token.children or []))]


def markdown_cells(text: str) -> list[str]:
    """Return what a reader sees in the cells of the tables."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inside = [
        tokens[i + 1] for i, token in enumerate(tokens) if token.type in {"td_open", "th_open"}
    ]
    return ["".join(child.content for child in token.children or []) for token in inside]


def without_pictures(card: str) -> str:
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "PNG", card)


def pictures_of(card: str) -> list[Image.Image]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", card)
    return [Image.open(io.BytesIO(base64.b64decode(content))) for content in found]


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary(["bug", "praise", "question"], rows=60)


@pytest.fixture(scope="module")
def markdown(summary: RunSummary) -> str:
    return card_markdown(summary)


@pytest.fixture(scope="module")
def page(summary: RunSummary) -> str:
    return card_html(summary)


@pytest.mark.parametrize(
    "fact",
    [
        "support-triage",
        "text-classification",
        "tiny",  # the base
        "MIT",  # its licence
        "0.0001414",  # the learning rate
        "3 min 09 s",  # of training
        "12 of at most 12 epochs",
        "It stopped early",
        "after epoch 8",
        "A longer text is cut in the middle",
        "at most 64 tokens",
        "temperature of 1.250",
        "from 0.100 to 0.050",
        "about 412 tokens",
        "estimated:characters",
        "Left out: fp16, because its accuracy is 1.20 points lower",
        "99.50 %",  # equal answers, in the parity table
        "-0.0150 to +0.0050",
        "1.31.0",  # a library
        "1,200",  # training rows
    ],
)
def test_both_forms_state_the_fact(fact: str, markdown: str, page: str) -> None:
    assert fact in without_pictures(markdown)
    assert fact in PageReader(page).text


def test_every_score_of_every_variant_and_split_has_interval_and_n(
    summary: RunSummary, markdown: str, page: str
) -> None:
    written, shown = markdown_cells(markdown), PageReader(page).cells
    for evaluation in summary.evaluations.values():
        for score in evaluation.scores.values():
            cell = f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f}, n = {score.n})"
            assert cell in written
            assert cell in shown


def test_labels_are_those_of_the_int8_variant_on_the_test_split(
    summary: RunSummary, markdown: str
) -> None:
    cells = markdown_cells(markdown)
    for row in summary.evaluations["test:int8"].classes:
        place = cells.index(row.label)
        recall = f"{row.recall:.3f} ({row.recall_low:.3f} to {row.recall_high:.3f})"
        expected = [recall, f"{row.precision:.3f}", f"{row.f1:.3f}", str(row.n)]
        assert cells[place + 1 : place + 5] == expected


def test_without_int8_and_test_the_card_tells_of_fp32_on_validation_and_says_why_that_is_weak() -> (
    None
):
    made = make_summary(["a", "b"], rows=20, test_split=False)
    made = replace(made, evaluations={"validation:fp32": made.evaluations["validation:fp32"]})
    text = card_markdown(made)
    assert "Accuracy (validation, fp32)" in text
    assert "There was no test split." in text


def test_of_two_labels_the_positive_one_is_named() -> None:
    made = make_summary(["ham", "spam"], rows=31)
    rows = [sum(row) for row in made.evaluations["test:fp32"].confusion]
    rarer = "ham" if rows[0] <= rows[1] else "spam"
    assert f"AUROC and AUPRC are of the label {rarer}." in card_markdown(made)


def test_the_largest_confusions_come_first() -> None:
    made = make_summary([f"label {i}" for i in range(6)], rows=120, skill=1.5)
    table = card_markdown(made).partition("### Largest confusions")[2].partition("## ")[0]
    cells = markdown_cells(table)[4:]
    confusion = made.evaluations["test:int8"].confusion
    off = sorted((confusion[i][j] for i in range(6) for j in range(6) if i != j), reverse=True)
    assert [int(count) for count in cells[2::4]] == off[:10]
    truth, answered = (int(name.removeprefix("label ")) for name in cells[:2])
    assert confusion[truth][answered] == off[0]


def test_a_run_without_any_mistake_has_no_table_of_mistakes() -> None:
    made = make_summary(["a", "b"], rows=20, skill=60.0)
    text = card_markdown(made)
    assert "Wrong answers: 0." in text
    assert "Of the label's texts" not in text
    assert "finds least often" not in text


def test_a_label_that_never_occurs_and_is_never_answered_has_no_scores() -> None:
    made = make_summary(["a", "b"], rows=20)
    evaluation = made.evaluations["test:int8"]
    unseen = replace(evaluation.classes[0], label="unseen", n=0)
    evaluation = replace(
        evaluation,
        labels=["a", "b", "unseen"],
        classes=[*evaluation.classes, unseen],
        confusion=[*([*row, 0] for row in evaluation.confusion), [0, 0, 0]],
    )
    cells = markdown_cells(card_markdown(replace(made, evaluations={"test:int8": evaluation})))
    place = cells.index("unseen")
    assert cells[place + 1 : place + 5] == ["–", "–", "–", "0"]


def test_without_a_baseline_no_saving_is_claimed() -> None:
    text = card_markdown(make_summary(["a", "b"], rows=20, baseline=None, left_out={}))
    assert "no savings are counted" in text
    assert "Prompt tokens saved" not in text
    assert "Left out" not in text


@pytest.mark.parametrize(
    ("policy", "words"),
    [("head", "its beginning is read"), ("reject", "is refused with an error")],
)
def test_the_long_text_policy_is_in_plain_words(policy: str, words: str) -> None:
    made = make_summary(["a", "b"], rows=20, limits={"max_tokens": 64, "long_texts": policy})
    assert words in card_markdown(made)


def test_a_run_with_no_evaluation_has_a_card_without_curves() -> None:
    made = replace(make_summary(["a", "b"], rows=20), progress=Progress(step=3, seconds=1.0))
    assert len(pictures_of(card_markdown(made))) == 1


def test_a_loss_that_ran_away_is_drawn_as_far_as_it_goes() -> None:
    progress = make_progress()
    progress.losses[10:] = [(step, float("nan")) for step, _ in progress.losses[10:]]
    progress.evaluations[-1]["loss"] = float("inf")
    made = replace(make_summary(["a", "b"], rows=20), progress=progress)
    assert len(pictures_of(card_markdown(made))) == 2


def test_the_same_run_gives_the_same_card(summary: RunSummary, markdown: str, page: str) -> None:
    assert card_markdown(summary) == markdown
    assert card_html(summary) == page


def test_markup_in_labels_is_shown_and_not_obeyed_in_html() -> None:
    reader = PageReader(card_html(make_summary(HOSTILE, rows=40)))
    assert {tag for tag, _ in reader.tags} & {"script", "h4", "a", "iframe"} == set()
    assert sum(tag == "h1" for tag, _ in reader.tags) == 1
    assert set(HOSTILE) <= set(reader.cells)


def test_markup_in_labels_is_shown_and_not_obeyed_in_markdown() -> None:
    text = card_markdown(make_summary(HOSTILE, rows=40))
    kinds = {token.type for token in markdown_tokens(text)}
    assert not kinds & {"html_block", "html_inline", "code_inline", "em_open", "link_open"}
    assert set(HOSTILE) <= set(markdown_cells(text))


@given(label=st.text(min_size=1, max_size=30), prompt=st.text(max_size=60))
def test_any_text_is_shown_as_it_is(label: str, prompt: str) -> None:
    blocks: list[Block] = [
        Table(("x",), [(f"[{label}]",)], "l"),
        Text(f"It is {label}."),
        Verbatim(prompt),
        Bullets([f"One {label}"]),
    ]
    made = Document("card", "lead", [], [Section("s", blocks)])
    expected = one_line(f"[{label}]")
    assert markdown_cells(made.markdown())[-1] == expected
    assert one_line(PageReader(made.html()).cells[-1]) == expected
    kinds = [token.type for token in markdown_tokens(made.markdown())]
    assert kinds.count("fence") == 1
    assert kinds.count("table_open") == 1
    assert kinds.count("list_item_open") == 1
    assert not {"html_block", "html_inline", "code_inline", "link_open"} & set(kinds)


@pytest.mark.parametrize("instruction", ["```\nend", "~~~~", "`" * 7 + "\n# x", "a\r\nb"])
def test_no_prompt_gets_out_of_its_fence(instruction: str) -> None:
    baseline = BaselinePrompt(
        instruction=instruction, static_tokens=3, output_tokens=1.0, method="exact:x"
    )
    text = card_markdown(make_summary(["a", "b"], rows=20, baseline=baseline))
    (fence,) = [token for token in markdown_tokens(text) if token.type == "fence"]
    assert fence.content == baseline.render("{text}").replace("\r\n", "\n") + "\n"


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    reader = PageReader(page)
    loaded = [
        value
        for _, attributes in reader.tags
        for name, value in attributes.items()
        if name in {"src", "srcset", "href", "data", "action"}
    ]
    assert loaded
    assert all(value is not None and value.startswith("data:image/png") for value in loaded)
    assert "url(" not in page
    assert "@import" not in page
    policy = next(a["content"] for t, a in reader.tags if "http-equiv" in a and t == "meta")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_page_has_pictures_for_light_and_dark_and_words_for_who_cannot_see(page: str) -> None:
    reader = PageReader(page)
    sources = [attributes for tag, attributes in reader.tags if tag == "source"]
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(sources) == len(images) == 2
    assert all(source["media"] == "(prefers-color-scheme: dark)" for source in sources)
    assert all(image["alt"] for image in images)
    corners = [picture.convert("RGB").getpixel((0, 0)) for picture in pictures_of(page)]
    assert corners == [(27, 31, 38), (255, 255, 255)] * 2


@pytest.mark.parametrize("classes", [2, 16, 77])
def test_pictures_are_small_files(classes: int) -> None:
    labels = [f"a_label_with_a_longer_name_{index}" for index in range(classes)]
    made = replace(
        make_summary(["a", "b"], rows=20),
        evaluations={"test:int8": make_evaluation(labels, rows=classes * 20, skill=3.5)},
    )
    pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)", card_markdown(made))
    assert [len(base64.b64decode(picture)) < 80_000 for picture in pictures] == [True, True]


def probe_of_pictures(*, test_split: bool) -> RunSummary:
    """Return a run that fitted a linear head on a base's features of pictures."""
    summary = make_summary(
        ["cat", "dog"],
        test_split=test_split,
        task="image-classification",
        preprocessing={"height": 32, "width": 32},
        limits=None,
        token_lengths=None,
        baseline=BaselinePrompt(
            instruction="Cat or dog?",
            static_tokens=22,
            output_tokens=1.5,
            method="estimated:gpt-4o-tiles",
            separator="",
        ),
    )
    settled = summary.settled | {"epochs": 0.0, "learning_rate": 0.0, "max_tokens": None}
    progress = Progress(examples=400, seconds=3.0, penalty=0.01)
    return replace(summary, settled=settled, progress=progress)


def test_the_card_of_pictures_speaks_of_pictures() -> None:
    card = without_pictures(card_markdown(probe_of_pictures(test_split=True)))
    assert "would go with every picture. All of it but the picture is about 22 tokens" in card
    assert "{picture}" in card
    assert "{text}" not in card
    assert "counted with a tokenizer" not in card


def test_the_card_of_a_probe_names_its_penalty_and_nothing_of_steps() -> None:
    markdown = card_markdown(probe_of_pictures(test_split=True))
    cells = markdown_cells(markdown)
    assert cells[cells.index("penalty of the squared weights") + 1] == "0.01"
    assert cells[cells.index("model.method") + 1] == "probe"
    assert not {"epochs", "batch_size", "learning_rate", "optimizer.weight_decay"} & set(cells)
    assert "Validation rows chose the penalty and the temperature" in markdown
    assert "also chose the penalty" in card_markdown(probe_of_pictures(test_split=False))

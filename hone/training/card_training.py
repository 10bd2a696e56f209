"""The sections of a card that say how the model came about."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import hone
from hone.models.cells import Cell
from hone.models.document import Block, Fact, Heading, Picture, Table, Text, Verbatim
from hone.models.examples import SPLITS
from hone.models.imaging.tokens import PICTURE_TOKENS
from hone.models.manifest import ManifestBody, ParityRecord, Variant
from hone.models.savings import ESTIMATED, BaselinePrompt
from hone.training.events import duration
from hone.training.pictures import curves_picture
from hone.training.progress import Progress

_PARITY_ROWS: list[tuple[str, Callable[[ParityRecord], Cell]]] = [
    ("Passed", lambda r: "yes" if r.passed else "no"),
    ("Rows", lambda r: r.rows),
    ("Equal answers", lambda r: f"{100 * r.equal_predictions:.2f} %"),
    ("Accuracy, trained", lambda r: f"{r.accuracy_trained:.4f}"),
    ("Accuracy, exported", lambda r: f"{r.accuracy_exported:.4f}"),
    (
        "95 % interval of the change",
        lambda r: f"{r.accuracy_change_low:+.4f} to {r.accuracy_change_high:+.4f}",
    ),
    ("Largest difference of a logit", lambda r: f"{r.largest_logit_difference:.2g}"),
    (
        "Equal answers alone and in a batch",
        lambda r: f"{100 * r.alone_and_in_batch_equal:.2f} %",
    ),
    (
        "Largest difference alone and in a batch",
        lambda r: f"{r.alone_and_in_batch_difference:.2g}",
    ),
]


_PROBE_KEYS = (
    ("model", "base"),
    ("augmentation", "mirror"),
    ("training", "label_smoothing"),
    ("dataset", "class_weights"),
)
"""What of a recipe bears on a linear head, which is fitted whole."""


def data(body: ManifestBody) -> list[Block]:
    """Return the splits' sizes, and the lengths of the texts or how pictures are made alike."""
    ordered = sorted(body.data, key=lambda split: (*SPLITS, split).index(split))
    rows: list[list[Cell]] = [
        [split, body.data[split].rows, body.data[split].sha256] for split in ordered
    ]
    splits = Table(("Split", "Rows", "SHA-256 of the file"), rows, "lrl")
    if body.preprocessing is not None:
        rule: list[list[Cell]] = [
            [name, "–" if value is None else str(value)]
            for name, value in body.preprocessing.model_dump(mode="json").items()
        ]
        return [splits, Heading("How pictures are made alike"), Table(("", ""), rule, "ll")]
    lengths = body.text_lengths
    return [
        splits,
        Heading("Training texts' lengths in tokens, as the model reads them"),
        Table(
            ("Median", "90th percentile", "99th percentile", "Longest"),
            [[lengths.p50, lengths.p90, lengths.p99, lengths.longest]],
            "rrrr",
        ),
    ]


def training(body: ManifestBody, settled: Mapping[str, Any], progress: Progress) -> Iterator[Block]:
    """Yield how the training went, and with what hyperparameters."""
    yield Text(_course(body, settled, progress))
    if progress.evaluations:
        yield Picture(
            "Loss and validation accuracy during the training",
            _curves_caption(body),
            partial(curves_picture, progress),
        )
    yield Heading("Hyperparameters")
    yield Table(("Name", "Value"), list(_hyperparameters(body, settled, progress)), "ll")


def _course(body: ManifestBody, settled: Mapping[str, Any], progress: Progress) -> str:
    rows = body.data["train"].rows if "train" in body.data else 0
    if settled["epochs"] == 0:
        return (
            f"The base stayed as it was: its features of {progress.examples:,} pictures (mirrored "
            f"ones among them, if so asked) were computed once, and a linear head was fitted on "
            f"them, in {duration(progress.seconds)}. Of several penalties on its weights the one "
            "with the lowest validation loss was kept."
        )
    per_epoch = max(1, -(-rows // settled["batch_size"]))
    stop = "It stopped early, when nothing more was gained."
    text = (
        f"{progress.step / per_epoch:.3g} of at most {settled['epochs']:g} epochs, "
        f"{progress.step:,} optimizer steps in {duration(progress.seconds)}. "
        f"{stop if progress.stopped_early else 'It ran to its end.'}"
    )
    best = progress.kept_evaluation()
    if best is not None:
        text += (
            f" The weights kept are those after epoch {best['step'] / per_epoch:.3g}, the last "
            f"within a standard error of the best accuracy on the validation rows: accuracy "
            f"{best['accuracy']:.3f}, loss {best['loss']:.3f}."
        )
    return text


def _curves_caption(body: ManifestBody) -> str:
    smoothing = body.recipe.content.get("training", {}).get("label_smoothing")
    weights = body.recipe.content.get("dataset", {}).get("class_weights", "none")
    within = [f"label smoothing of {smoothing:g}"] if smoothing else []
    within += [f"{weights} class weights"] if weights != "none" else []
    trained = f", and the training loss has {' and '.join(within)} in it" if within else ""
    return (
        "Above the plots, the time spent on training and evaluation. The validation loss is that "
        f"after calibration{trained}, so the heights of the two losses cannot be compared."
    )


def _hyperparameters(
    body: ManifestBody, settled: Mapping[str, Any], progress: Progress
) -> Iterator[list[Cell]]:
    """Yield the settled values, then what else of the recipe bears on the training.

    A probe has no steps: what steers them is left out.
    """
    content = body.recipe.content
    if settled["epochs"] == 0:
        yield from _of_a_probe(content, settled, progress)
        return
    for name, value in settled.items():
        if value is not None:
            yield [name, _plain(value)]
    lora = content.get("model", {}).get("method") == "lora"
    for group in ("model", "optimizer", "training"):
        for name, value in content.get(group, {}).items():
            unused = name.startswith("lora_") and not lora
            if name not in settled and value is not None and not unused:
                yield [f"{group}.{name}", _plain(value)]
    for name in ("long_texts", "class_weights"):
        if name in content.get("dataset", {}):
            yield [f"dataset.{name}", _plain(content["dataset"][name])]


def _of_a_probe(
    content: Mapping[str, Any], settled: Mapping[str, Any], progress: Progress
) -> Iterator[list[Cell]]:
    yield ["model.method", "probe"]
    if progress.penalty is not None:
        yield ["penalty of the squared weights", _plain(progress.penalty)]
    for name in ("precision", "device", "picture_size"):
        if settled.get(name) is not None:
            yield [name, _plain(settled[name])]
    for group, name in _PROBE_KEYS:
        if content.get(group, {}).get(name) is not None:
            yield [f"{group}.{name}", _plain(content[group][name])]


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def variants(body: ManifestBody) -> Iterator[Block]:
    """Yield how each exported variant compares with the trained model, and what was left out."""
    yield Text(
        "Each exported file answered the validation rows through the code that serves it, and "
        "was compared with the trained model. One that differed too much was left out."
    )
    if body.parity:
        yield _parity_table(body.parity)
    for variant, reason in body.left_out.items():
        yield Text(f"Left out: {variant}, because {reason}.")


def _parity_table(records: Mapping[Variant, ParityRecord]) -> Table:
    rows = [[name, *map(shown, records.values())] for name, shown in _PARITY_ROWS]
    return Table(("", *records), rows, f"l{'r' * len(records)}")


def tokens_saved(baseline: BaselinePrompt | None) -> list[Fact]:
    """Return how many of a prompt's tokens a request saves; nothing where no prompt is known."""
    if baseline is None:
        return []
    about = "≈ " if baseline.method in {ESTIMATED, PICTURE_TOKENS} else ""
    tokens = f"{about}{baseline.static_tokens:,}"
    return [Fact("Prompt tokens saved", tokens, f"per request, {baseline.method}")]


def prompt(baseline: BaselinePrompt | None) -> Iterator[Block]:
    """Yield the prompt whose work the model took over, and what it costs in tokens."""
    if baseline is None:
        yield Text("The recipe names none, so no savings are counted.")
        return
    noun = "picture" if baseline.method == PICTURE_TOKENS else "text"
    estimated = noun == "picture" or baseline.method == ESTIMATED
    about = "about " if estimated else ""
    how = "estimated from their characters" if estimated else "counted with a tokenizer"
    yield Text(
        f"Without this model, a prompt such as the one below would go with every {noun}. All of it "
        f"but the {noun} is {about}{baseline.static_tokens:,} tokens, and an answer "
        f"{about}{baseline.output_tokens:.1f} on average, {how} ({baseline.method})."
    )
    if baseline.examples:
        yield Text(
            f"It quotes training texts ({len(baseline.examples)}). Whoever gets this card can read "
            "them."
        )
    yield Verbatim(baseline.render(f"{{{noun}}}"))


def libraries(body: ManifestBody) -> Table:
    """Return the versions of what made the bundle."""
    versions = {"hone": hone.__version__, **body.libraries}
    return Table(("Library", "Version"), [list(row) for row in versions.items()], "ll")

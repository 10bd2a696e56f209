"""`hone prepare FILE`: the command line of the preparation."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import orjson
import typer
from rich.console import Console

from hone.models.catalogue import HUB_PREFIX, SCRATCH_BASES, Task, find_base
from hone.models.errors import InvalidInput, MissingDependency
from hone.training.failures import told_by_status
from hone.training.generation.conversations import Example
from hone.training.preparation.conversational import (
    ConversationReport,
    prepare_conversations,
)
from hone.training.preparation.pictures.prepare import prepare_pictures
from hone.training.preparation.pictures.sources import holds_pictures
from hone.training.preparation.prepare import PrepareOptions, prepare
from hone.training.preparation.problems import Answer, Problem
from hone.training.preparation.readers import FORMATS
from hone.training.preparation.terminal import (
    ask_at_terminal,
    print_conversations,
    print_report,
    progress_on,
)

GENERATION: Task = "text-generation"
TASKS = ("text-classification", GENERATION)

Report = TypeVar("Report")


class Shown(Protocol):
    """Examples as a base reads them."""

    def print(self, console: Console) -> None:
        """Print them token by token."""


MENDS_WAIT = 2
"""Exit status when there was nobody to say yes, and nothing was written."""


def prepare_command(  # noqa: PLR0913 - one parameter for each option
    *,
    file: Annotated[
        Path,
        typer.Argument(
            help=f"The examples: {', '.join(FORMATS)}. Pictures: a folder with a sub-folder for "
            "each class, a table with their paths, or a zip of either.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder to write, by default build/<name of FILE>.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="A test split of its own; none is cut from FILE then.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="A validation split of its own, likewise.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="The column with the texts: a name, or a number from 1.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="The column with the labels, likewise.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="The format, if FILE's name does not say it.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="The encoding, if it is not found rightly.")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(help="The sheet of a workbook, by default the first.")
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The first row is an example, not column names.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Mend all that is recommended.")] = False,
    validation_share: Annotated[
        float, typer.Option(help="The share of FILE that is cut for validation.")
    ] = 0.1,
    test_share: Annotated[
        float, typer.Option(help="The share of FILE that is cut for the test.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Which of the possible cuts is made.")] = 0,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="The longest text the base reads, in tokens; by default the base's own."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json to count with, instead of the base's.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base that will be fine-tuned, by default minilm.")
    ] = None,
    min_per_class: Annotated[
        int, typer.Option(help="Classes with fewer rows are taken for too rare.")
    ] = 5,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON instead of a table.")
    ] = False,
    task: Annotated[
        str,
        typer.Option(
            help="What the model is to do: text-classification, or text-generation, which keeps "
            "completions as they are."
        ),
    ] = "text-classification",
    show: Annotated[
        int,
        typer.Option(
            min=0,
            help="Print so many training examples token by token, as --base reads them, with the "
            "trained tokens marked (text-generation).",
        ),
    ] = 0,
    no_pictures: Annotated[
        bool,
        typer.Option(
            "--no-pictures",
            help="The examples are texts, even where all of them look like pictures' names.",
        ),
    ] = False,
) -> None:
    """Check, mend and split a file of examples.

    Without --yes every recommended mend is asked for. If there is no terminal to ask at,
    nothing is written and the exit status is 2.
    """
    options = PrepareOptions(
        file=file,
        out=out,
        test=test,
        validation=validation,
        text_column=text_column,
        label_column=label_column,
        format=format_,
        encoding=encoding,
        sheet=sheet,
        no_header=no_header,
        validation_share=validation_share,
        test_share=test_share,
        seed=seed,
        max_tokens=max_tokens,
        tokenizer=tokenizer,
        base=base,
        min_per_class=min_per_class,
    )
    _check_task(task, show=show, base=base)
    with told_by_status():
        if task == GENERATION:
            _prepare_conversations(options, yes=yes, json=json, show=show)
            return
        pictures = not no_pictures and holds_pictures(file, options.reading(file))
        work = prepare_pictures if pictures else prepare
        report = _run(options, work, yes=yes, json=json)
    if json:
        sys.stdout.write(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        print_report(report, Console())
    _stop_if_waiting(written=report.written)


def _check_task(task: str, *, show: int, base: str | None) -> None:
    if task not in TASKS:
        raise InvalidInput(f"there is no task {task!r}: give one of {', '.join(TASKS)}")
    if show and (task != GENERATION or base is None):
        raise InvalidInput(f"--show needs --task {GENERATION} and --base")


def _prepare_conversations(options: PrepareOptions, *, yes: bool, json: bool, show: int) -> None:
    """Prepare for a causal model, and print what was found and examples as the base reads them.

    The base, and whether it can read the examples, are looked at before anything is written.
    """
    base, shown = options.base, list[Shown]()
    if base is not None:
        _check_causal_base(base)
    read = _reader(base, show) if show and base is not None else None

    def look(examples: Sequence[Example]) -> None:
        if read is not None:
            shown.append(read(examples))

    work = partial(prepare_conversations, look=look)
    _tell_conversations(_run(options, work, yes=yes, json=json), shown, json=json)


def _reader(base: str, count: int) -> Callable[[Sequence[Example]], Shown]:
    """Return what reads examples as a base does, which is opened; what that needs is an extra."""
    try:
        from hone.training.generation.showing_examples import (  # noqa: PLC0415
            open_base,
            read_examples,
        )
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hone"):
            raise
        raise MissingDependency("--show", "train") from error
    open_base(base)
    return lambda examples: read_examples(examples, base, count)


def _check_causal_base(name: str) -> None:
    """Raise NotFound for a name that no causal base has; a hub is not asked."""
    if SCRATCH_BASES.get(name) != GENERATION and not name.startswith(HUB_PREFIX):
        find_base(name, GENERATION)


def _tell_conversations(report: ConversationReport, shown: Sequence[Shown], *, json: bool) -> None:
    if json:
        sys.stdout.write(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        print_conversations(report, Console())
    for examples in shown:
        examples.print(Console(stderr=json))
    _stop_if_waiting(written=report.written)


def _stop_if_waiting(*, written: bool) -> None:
    if not written:
        Console(stderr=True).print("Nothing was written: run again with --yes to mend.")
        raise typer.Exit(MENDS_WAIT)


def _run(options: PrepareOptions, work: Callable[..., Report], *, yes: bool, json: bool) -> Report:
    errors = Console(stderr=True)
    questions = errors if json else Console()
    with progress_on(errors) as (progress, bar):

        def ask(problem: Problem) -> Answer:
            if yes:
                return True
            if not sys.stdin.isatty():
                return None
            bar.stop()
            try:
                return ask_at_terminal(problem, questions)
            finally:
                bar.start()

        return work(options, ask, progress)

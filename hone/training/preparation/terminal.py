"""The report, questions and progress at a terminal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.prompt import Confirm
from rich.table import Table

from hone.models.terminal import plain, plain_lines
from hone.training.preparation.conversational import ConversationReport
from hone.training.preparation.problems import Problem, Progress, spoken
from hone.training.preparation.report import PAGE_NAME, PrepareReport

_EXAMPLES_ASKED_WITH = 5
_CLASSES_SHOWN = 20
_COLOURS = {"necessary": "blue", "recommended": "red", "advice": "yellow"}


def print_report(report: PrepareReport, console: Console) -> None:
    """Print what was found, the splits and the classes."""
    if report.problems:
        console.print(_problem_table(report.problems))
    console.print(_class_table(report))
    for line in _closing_lines(report):
        console.print(line, highlight=False, soft_wrap=True)


def print_conversations(report: ConversationReport, console: Console) -> None:
    """Print what was found in examples for a causal model, and the splits."""
    if report.problems:
        console.print(_problem_table(report.problems))
    kept = f"{report.kept:,} kept" if report.written else f"{report.kept:,} would be kept"
    sizes = ", ".join(f"{name} {split.rows:,}" for name, split in report.splits.items())
    lines = [
        f"{report.read:,} rows read, {kept} as {report.form}: {sizes}{_unless_mended(report)}",
        *_tool_lines(report),
        *([f"Written to {plain(str(report.folder))}"] if report.written else []),
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _tool_lines(report: ConversationReport) -> list[str]:
    counts = report.tools
    if not counts["examples"]:
        return []
    line = (
        f"{counts['examples']:,} chats have tools: {counts['calls_trained']:,} calls are trained "
        f"on, {counts['calls_read']:,} of weight 0 are only read"
    )
    return [line]


def _problem_table(problems: Sequence[Problem]) -> Table:
    table = Table(title="What was found", title_justify="left", show_lines=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("mend", overflow="fold")
    for problem in problems:
        colour = _COLOURS[problem.severity]
        done = "done: " if problem.mended else "not done: "
        mend = f"{done}{plain(problem.mend)}" if problem.mend else ""
        kind = f"[{colour}]{problem.severity}[/]"
        table.add_row(kind, f"{problem.count:,}", plain_lines(_with_first_places(problem)), mend)
    return table


def _with_first_places(problem: Problem) -> str:
    """Name the first lines of a problem: a person looks them up in the file."""
    lines = [str(e["line"]) for e in problem.examples if "line" in e]
    if not lines:
        return problem.message
    reasons = [e for e in problem.examples if "line" in e and "reason" in e]
    if reasons:
        first = (f"\nline {e['line']}: {e['reason']}" for e in reasons[:_EXAMPLES_ASKED_WITH])
        more = "\n…" if problem.count > _EXAMPLES_ASKED_WITH else ""
        return f"{problem.message}{''.join(first)}{more}"
    more = ", …" if len(lines) > _EXAMPLES_ASKED_WITH else ""
    return f"{problem.message} (at {', '.join(lines[:_EXAMPLES_ASKED_WITH])}{more})"


def _class_table(report: PrepareReport) -> Table:
    table = Table(title=f"{len(report.labels):,} classes", title_justify="left")
    table.add_column("label", overflow="ellipsis", max_width=48)
    for name in ("rows", "train", "validation", "test"):
        table.add_column(name, justify="right")
    for label, *counts in report.labels[:_CLASSES_SHOWN]:
        table.add_row(plain(label), *(f"{count:,}" for count in counts))
    if len(report.labels) > _CLASSES_SHOWN:
        table.add_row(f"… and {len(report.labels) - _CLASSES_SHOWN:,} smaller ones")
    table.add_section()
    splits = (f"{split.rows:,}" for split in report.splits.values())
    table.add_row("all", f"{report.kept:,}", *splits)
    return table


def _closing_lines(report: PrepareReport) -> Iterator[str]:
    kind = "pictures" if report.task == "image-classification" else "texts"
    plural = "columns" if len(report.columns) > 1 else "column"
    columns = ", ".join(report.columns)
    yield plain(f"Read as {kind}: {report.form}, from {plural} {columns}")
    dropped = report.rows - report.kept
    counted = f"{report.kept:,} kept, {dropped:,} dropped"
    if not report.written:
        counted = f"{report.kept:,} would be kept and {dropped:,} dropped"
    unit = "pictures" if kind == "pictures" and report.sources[0].line_means != "line" else "rows"
    yield f"{report.rows:,} {unit} read, {counted}{_unless_mended(report)}"
    if report.lengths is not None:
        percentiles = ", ".join(f"{n} {v:,}" for n, v in report.lengths.percentiles.items())
        yield f"Tokens: {percentiles}, longest {report.lengths.longest:,}"
    if report.picture_sides is not None:
        sides = ", ".join(f"{name} {side:,}" for name, side in report.picture_sides.items())
        yield f"Shorter sides in pixels: {sides}"
    if report.shared_instruction is not None and report.shared_instruction_tokens is not None:
        yield f"Shared instruction: {report.shared_instruction_tokens:,} tokens with every request"
    if report.written:
        yield f"Written to {plain(str(report.folder))} (see {PAGE_NAME} there)"


def _unless_mended(report: PrepareReport | ConversationReport) -> str:
    """Say what the numbers depend on, while nobody has answered."""
    return "" if report.written else ", if all that is recommended were done"


def ask_at_terminal(problem: Problem, console: Console) -> bool:
    """Say what was found, show a few examples, and ask whether to mend it."""
    console.print(f"\n[bold]{plain(problem.message)}[/]", soft_wrap=True)
    for example in problem.examples[:_EXAMPLES_ASKED_WITH]:
        said = ", ".join(
            f"{name}: {spoken(value)}" for name, value in example.items() if value is not None
        ).replace("\n", " / ")
        console.print(f"  {plain(said)}", style="dim", overflow="ellipsis", no_wrap=True)
    return Confirm.ask(f"Mend: {plain(problem.mend)}?", console=console, default=True)


@contextmanager
def progress_on(console: Console) -> Iterator[tuple[Progress, Bar]]:
    """Show which step is at work; give the callback, and the display to stop while asking."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("opening")

        def advance(step: str, rows: int) -> None:
            done = f" ({rows:,} rows)" if rows else ""
            bar.update(task, description=f"{plain(step)}{done}")

        yield advance, bar

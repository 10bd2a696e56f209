"""`hone compare`: the experiment is read, and refused, before what asking needs is imported."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hone.models.errors import InvalidInput, MissingDependency

_RUNS = Path("comparisons")


class Source(StrEnum):
    """Whose file is taken over."""

    FINE_TUNING = "fine-tuning"
    PROMPTFOO = "promptfoo"


def compare_command(
    experiment: Annotated[Path, typer.Argument(help="An experiment's TOML file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder. [default: comparisons/NAME, of the experiment]"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what asking would cost and whether limits.dollars allows it, check models, "
            "files and contamination, ask nobody.",
        ),
    ] = False,
    decision_changed: Annotated[
        bool,
        typer.Option(
            "--decision-changed",
            help="Go on although [decision] was changed after answers arrived; the report says so.",
        ),
    ] = False,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="For CI: write junit.xml, and end with 0 to replace (with or without fallback), "
            "3 if the data do not decide, 4 to keep the prompt. 1 is an error, 2 wrong usage, and "
            "75 a run that was stopped, with or without --gate.",
        ),
    ] = False,
    from_: Annotated[
        Source | None,
        typer.Option(
            "--from",
            help="Take a file of another tool for EXPERIMENT, and write items and a draft of an "
            "experiment into --out instead of asking anybody.",
        ),
    ] = None,
) -> None:
    """Ask all contenders about the same items, and judge their answers.

    A run that was stopped goes on where it was: no answer that arrived is paid for twice.
    """
    from hone.comparison.experiment_file import InvalidExperiment, look_at_file  # noqa: PLC0415

    if dry_run and gate:
        raise typer.BadParameter("--dry-run asks nobody, so that there is nothing for --gate")
    if from_ is not None:
        if dry_run or gate or decision_changed:
            raise typer.BadParameter("--from writes a draft and asks nobody: give it --out alone")
        _take_over(experiment, from_, out)
        return
    file = look_at_file(experiment)
    try:
        with _extra_named():
            from hone.comparison.process import ask  # noqa: PLC0415 - it takes a second
    except MissingDependency:
        if file.problems:
            raise InvalidExperiment(file.problems) from None
        raise
    folder = out or _RUNS / file.name
    status = ask(file, folder, dry_run=dry_run, decision_changed=decision_changed, gate=gate)
    if status:
        raise typer.Exit(status)


def _take_over(path: Path, source: Source, out: Path | None) -> None:
    """Write what another tool's file says as items and a draft of an experiment."""
    with _extra_named():
        from hone.comparison.taking_over import take_over  # noqa: PLC0415 - reads YAML
    if out is None:
        raise InvalidInput("say with --out where the items and the experiment should go")
    for line in take_over(path, source, out):
        print(line)


@contextmanager
def _extra_named() -> Iterator[None]:
    """Turn a library that is not there into the extra that has it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hone"):
            raise
        raise MissingDependency("hone compare", "compare") from error

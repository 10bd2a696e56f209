"""One run of `hone compare`: plan, ask, show, and hand over to the judge."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from hone.comparison.cache import ANSWERS_FILE, open_cache
from hone.comparison.experiment import PromptContender
from hone.comparison.experiment_file import ExperimentFile
from hone.comparison.gate import exit_code, junit
from hone.comparison.held_folder import JUNIT_FILE, RunFolder, check_place
from hone.comparison.judging import judge
from hone.comparison.plan import Plan, estimates, survey
from hone.comparison.progress import progress_on
from hone.comparison.readiness import make_ready
from hone.comparison.run import Finished, Interrupted, compare
from hone.comparison.screen import show_estimates, show_outcomes
from hone.models.durable import write_atomically
from hone.models.errors import HoneError
from hone.models.imaging.tokens import PICTURE_TOKENS
from hone.models.terminal import plain

EXIT_INTERRUPTED = 75
"""sysexits' EX_TEMPFAIL, as `hone train` has it: nothing is wrong, run the same command again."""


def ask(
    file: ExperimentFile, folder: Path, *, dry_run: bool, decision_changed: bool, gate: bool
) -> int:
    """Carry an experiment out in a run folder, and return the command's exit status.

    Raises InvalidExperiment with all that `survey` and `make_ready` find, and as `compare` does.
    """
    console = Console(stderr=True)
    _warn(console, file.warnings)
    plan = survey(file)
    if dry_run:
        _rehearse(console, plan, folder, decision_changed=decision_changed)
        return 0
    with progress_on(console).shown() as listener:
        ready = make_ready(plan, listener)
    _warn(console, ready.warnings)
    try:
        with _told_of_earlier(console, folder), progress_on(console).shown() as listener:
            finished = compare(ready, folder, listener, decision_changed=decision_changed)
    except Interrupted:
        console.print(f"stopped; run the same command again to go on in {plain(str(folder))}")
        return EXIT_INTERRUPTED
    return _judged(finished, plan, gate=gate)


def _warn(console: Console, warnings: Iterable[str]) -> None:
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {plain(warning)}", soft_wrap=True, highlight=False)


def _rehearse(console: Console, plan: Plan, folder: Path, *, decision_changed: bool) -> None:
    """Say what asking would cost, and look at all that can be looked at without asking."""
    try:
        with progress_on(console).shown() as listener:
            warnings = make_ready(plan, listener, needs_keys=False).warnings
    except HoneError:
        if not plan.problems:
            with suppress(
                HoneError
            ):  # it is among the problems: a tokenizer that is not there, say
                _show_costs(plan, folder)
        raise
    _show_costs(plan, folder)
    _warn(console, warnings)
    RunFolder(folder).check_decision(plan.file, decision_changed=decision_changed)


def _show_costs(plan: Plan, folder: Path) -> None:
    check_place(folder)  # what was spent there cannot be looked for in a folder that cannot be
    spent = 0.0
    if (folder / ANSWERS_FILE).is_file():
        with open_cache(folder) as cache:
            sums = cache.sums()
        spent = sums.usd + sums.unclear_usd
    limit = plan.experiment.limits.dollars
    console = Console()
    show_estimates(console, list(estimates(plan)), limit=limit, spent=spent)
    if plan.material.kind == "image":
        console.print(f"a picture's tokens are {PICTURE_TOKENS}", highlight=False)


@contextmanager
def _told_of_earlier(console: Console, folder: Path) -> Iterator[None]:
    """Where a run does not come to its end, say what the folder holds then."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # of a folder that cannot be, the error says so
            _tell_of_earlier(console, RunFolder(folder))
        raise


def _tell_of_earlier(console: Console, found: RunFolder) -> None:
    if found.is_whole() and found.unfinished.is_dir():
        console.print(
            f"{plain(str(found.path))} holds the whole run before, and this one's files are in "
            f"{plain(str(found.unfinished))}",
            soft_wrap=True,
            highlight=False,
        )


def _judged(finished: Finished, plan: Plan, *, gate: bool) -> int:
    """Show the outcomes, judge them, and return the exit status."""
    console = Console()
    show_outcomes(console, finished.outcomes, plan.material.items, finished.sums)
    folder = finished.folder
    judgement = judge(folder, finished.question)
    verdict = judgement.verdict
    console.print(f"\n[bold]{plain(verdict.word)}[/]: {plain(verdict.sentence)}")
    console.print(f"the report: {plain(str(folder / 'report.html'))}", highlight=False)
    if verdict.word == "REPLACE WITH FALLBACK" and _adoptable(plan):
        console.print(f"to adopt it: hone fallback set {plain(str(folder))}", highlight=False)
    if not gate:
        return 0
    write_atomically(folder / JUNIT_FILE, junit(judgement))
    return exit_code(judgement)


def _adoptable(plan: Plan) -> bool:
    """Whether a service could do what the run did: a bundle that falls back to a prompt.

    A service finds no pictures that look alike.
    """
    named = {contender.name: contender for contender in plan.experiment.contenders}
    decision = plan.experiment.decision
    prompt = named[decision.baseline]
    if named[decision.candidate].kind != "bundle" or not isinstance(prompt, PromptContender):
        return False
    return plan.material.kind == "text" or prompt.prompt != "retrieved"

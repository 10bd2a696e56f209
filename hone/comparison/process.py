"""One run of `hone compare`: plan, ask, show, and hand over to the judge."""

from pathlib import Path

from rich.console import Console

from hone.comparison.experiment_file import ExperimentFile
from hone.comparison.gate import exit_code, junit
from hone.comparison.judging import judge
from hone.comparison.plan import Plan, estimates, make_plan
from hone.comparison.run import Finished, Interrupted, compare
from hone.comparison.screen import ProgressBars, show_estimates, show_outcomes
from hone.models.durable import write_atomically
from hone.models.terminal import plain

EXIT_INTERRUPTED = 75
"""sysexits' EX_TEMPFAIL, as `hone train` has it: nothing is wrong, run the same command again."""

JUNIT_FILE = "junit.xml"


def ask(
    file: ExperimentFile, folder: Path, *, dry_run: bool, decision_changed: bool, gate: bool
) -> int:
    """Carry an experiment out in a run folder, and return the command's exit status.

    Raises as `make_plan` and `compare` do.
    """
    console = Console(stderr=True)
    for warning in file.warnings:
        console.print(f"[yellow]warning:[/] {plain(warning)}", soft_wrap=True, highlight=False)
    plan = make_plan(file)
    if dry_run:
        show_estimates(Console(), list(estimates(plan)), file.experiment.limits.dollars)
        return 0
    try:
        with ProgressBars(console).shown() as bars:
            finished = compare(plan, folder, bars, decision_changed=decision_changed)
    except Interrupted:
        console.print(f"stopped; run the same command again to go on in {plain(str(folder))}")
        return EXIT_INTERRUPTED
    return _judged(finished, plan, gate=gate)


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
    """Whether a service could do what the run did: a bundle that falls back to a prompt."""
    kinds = {contender.name: contender.kind for contender in plan.experiment.contenders}
    decision = plan.experiment.decision
    return (kinds[decision.candidate], kinds[decision.baseline]) == ("bundle", "prompt")

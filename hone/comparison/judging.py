"""Judges a finished run: from its folder and the question to one `Judgement`, and the report."""

from pathlib import Path

from hone.comparison.economics import cost_of, net_tokens, savings
from hone.comparison.fallback import seek
from hone.comparison.figures import (
    ArmFigures,
    adjusted,
    arm_figures,
    flips,
    versus,
)
from hone.comparison.judgement import Judgement
from hone.comparison.question import Question
from hone.comparison.report import report, report_json
from hone.comparison.run_folder import Run, read_run
from hone.comparison.sheets import Exam, lay_out, lay_out_exam
from hone.comparison.statistics import Estimate
from hone.comparison.verdict import Evidence, decide
from hone.models.durable import write_atomically


def weigh(run: Run, question: Question) -> Judgement:
    """Compute every figure and the verdict; nothing is written.

    InvalidInput where candidate and baseline were asked no item in common.
    """
    exam = lay_out_exam(run.items, run.outcomes)
    sheets = {name: lay_out(name, found, exam) for name, found in run.outcomes.items() if found}
    spent = {name: cost_of(run.every_outcome[name], question.arms[name].costs) for name in sheets}
    arms = {name: arm_figures(sheet, exam, question, spent[name]) for name, sheet in sheets.items()}
    baseline, candidate = sheets[question.baseline], sheets[question.candidate]
    pairs = adjusted(
        versus(sheet, baseline, exam, question)
        for name, sheet in sheets.items()
        if name == question.candidate
        or (name != question.baseline and (sheet.asked & baseline.asked).any())
    )
    costs = spent[question.baseline], spent[question.candidate]
    fallback = None
    if question.max_error is not None:
        fallback = seek(candidate, baseline, exam, question, max_error=question.max_error)
    cascade = None if fallback is None else fallback.cascade
    saved = savings(*costs, question)
    cascade_saved = [] if cascade is None else savings(*costs, question, kept=cascade.kept.value)
    own = next(pair for pair in pairs if pair.name == question.candidate)
    evidence = Evidence(
        answered=own.answered,
        strict=own.strict,
        failed=(_failed(arms[question.baseline]), _failed(arms[question.candidate])),
        saving=saved[0],
        fallback=fallback,
        fallback_saving=cascade_saved[0] if cascade_saved else None,
    )
    mended, broken = flips(candidate, baseline, exam)
    return Judgement(
        question=question,
        record=run.record,
        labels=exam.labels,
        items=len(exam.items),
        groups=None if exam.groups is None else int(exam.groups.max()) + 1,
        set_aside={reason: [i.id for i in items] for reason, items in run.set_aside.items()},
        with_set_aside=_with_set_aside(run, question),
        arms=list(arms.values()),
        absent=[name for name in question.arms if name not in arms],
        pairs=pairs,
        mended=mended,
        broken=broken,
        fallback=fallback,
        savings=saved,
        fallback_savings=cascade_saved,
        tokens=net_tokens(*costs, question),
        verdict=decide(evidence, question),
    )


def _failed(arm: ArmFigures) -> float:
    return arm.kinds.get("failed", 0) / max(sum(arm.kinds.values()), 1)


def _with_set_aside(run: Run, question: Question) -> Estimate | None:
    """Return the difference over all items, those set aside included."""
    if not run.set_aside:
        return None
    items = {item.id: item for found in run.set_aside.values() for item in found}
    every = [*run.items, *items.values()]
    two = {name: run.every_outcome[name] for name in (question.candidate, question.baseline)}
    exam: Exam = lay_out_exam(every, two)
    candidate, baseline = (lay_out(name, found, exam) for name, found in two.items())
    found = versus(candidate, baseline, exam, question)
    return (found.answered or found.strict).difference


def judge(folder: Path, question: Question) -> Judgement:
    """Judge a run folder, and write `report.html`, `report.md` and `report.json` into it.

    Errors as in `read_run` and `weigh`; then nothing is written.
    """
    judgement = weigh(read_run(folder, question), question)
    document = report(judgement)
    for name, content in (
        ("report.html", document.html().encode()),
        ("report.md", document.markdown().encode()),
        ("report.json", report_json(judgement)),
    ):
        write_atomically(folder / name, content)
    return judgement

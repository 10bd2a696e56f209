"""Preparing pictures: look, check, mend, split, and write a folder that is whole by itself."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson

from hone.models.errors import InvalidExamples, InvalidInput
from hone.models.examples import SPLITS, sha256_of_file
from hone.models.imaging.files import read_picture_file
from hone.models.imaging.headers import UnusablePicture
from hone.models.prompt_form import PromptForm
from hone.training.preparation.checks import ask_and_mend
from hone.training.preparation.given_splits import drop_leaks, odd_rows
from hone.training.preparation.necessary import check_classes, necessary_problems
from hone.training.preparation.output import (
    PICTURES_FOLDER,
    check_folder,
    label_table,
    write_folder,
)
from hone.training.preparation.page import page
from hone.training.preparation.pictures.checks import picture_checks
from hone.training.preparation.pictures.looking import Look, look_at
from hone.training.preparation.pictures.prints import near_groups
from hone.training.preparation.pictures.sources import (
    CLASSES_FORM,
    PictureSource,
    open_pictures,
)
from hone.training.preparation.prepare import PrepareOptions
from hone.training.preparation.problems import Ask, Problem, Progress
from hone.training.preparation.report import LabelCount, PrepareReport, SourceFile, Split
from hone.training.preparation.splitting import cut_splits
from hone.training.preparation.spool import Origin, Spool, shown

FEW_PICTURES = 100
_PROGRESS_EVERY = 50
_REASONS_SHOWN = 3
_PERCENTILES = (5, 50, 95)


def prepare_pictures(
    options: PrepareOptions, ask: Ask, progress: Progress = lambda _step, _rows: None
) -> PrepareReport:
    """Check, mend and split pictures, and write the folder of splits, pictures and report.

    As `prepare` does for texts. Every picture is decoded once, so that an unreadable one is found
    now; one is in memory at a time, with 32 bytes kept of each. The pictures that are kept are
    copied, each under the SHA-256 of its bytes: the written folder needs nothing else.
    """
    shares = options.shares()
    check_folder(options.folder)
    if options.tokenizer or options.base or options.max_tokens:
        raise InvalidInput("--tokenizer, --base and --max-tokens are for texts, not for pictures")
    with tempfile.TemporaryDirectory(prefix="hone-prepare-") as scratch:
        run = _PictureRun(options, ask, progress, Path(scratch))
        names = {origin: source.name for origin, source in run.sources.items()}
        numbered = all(source.numbered for source in run.sources.values())
        with Spool(Path(scratch) / "rows.sqlite", names, numbered=numbered) as spool:
            run.load(spool)
            run.mend(spool)
            progress("splitting", 0)
            cut_splits(spool, shares, seed=options.seed)
            run.advise(spool)
            report = run.report(spool)
            return report if run.waits else write_folder(spool, report, page, run.write)


class _PictureRun:
    """One run: its sources, what was seen of each picture, and the problems found so far."""

    def __init__(
        self, options: PrepareOptions, ask: Ask, progress: Progress, scratch: Path
    ) -> None:
        self.options, self.ask, self.progress = options, ask, progress
        self.waits = False
        self.sources = _open_all(options, scratch)
        self.problems = [p for source in self.sources.values() for p in source.problems]
        self.given: tuple[Origin, ...] = tuple(o for o in self.sources if o != "file")
        self.sides: list[int] = []
        self.suffixes: dict[bytes, str] = {}
        self.files: dict[bytes, Path] = {}

    def load(self, spool: Spool) -> None:
        """Look at every picture, and note which look alike."""
        looks: list[Look] = []
        for origin, source in self.sources.items():
            for done, look in enumerate(look_at(origin, list(source.items)), start=1):
                looks.append(look)
                self._note(look, source, done)
        groups = near_groups([look.print for look in looks])
        spool.add(
            look.row._replace(bag=looks[group].row.words)
            for look, group in zip(looks, groups, strict=True)
        )
        spool.index()

    def _note(self, look: Look, source: PictureSource, done: int) -> None:
        if done % _PROGRESS_EVERY == 0:
            self.progress(f"looking at {source.name}", done)
        path, digest = source.items[done - 1].path, look.row.words
        if digest is not None and path is not None:
            self.sides.append(look.shorter_side)
            self.suffixes[digest] = look.suffix
            self.files.setdefault(digest, path)

    def mend(self, spool: Spool) -> None:
        """Tell of what cannot be used, and make the recommended mends after asking."""
        self.problems += necessary_problems(spool)
        if not spool.count("kept_file"):
            raise InvalidExamples(_none_left(spool))
        checks = picture_checks(min_per_class=self.options.min_per_class)
        found, self.waits = ask_and_mend(spool, checks, self.ask)
        self.problems += found
        check_classes(spool)
        self.problems += drop_leaks(spool, self.given)

    def advise(self, spool: Spool) -> None:
        """Tell of what nothing is done about."""
        self.problems += odd_rows(spool, self.given)
        rows = spool.count("kept_file")
        if rows < FEW_PICTURES:
            message = (
                f"{spool.files['file']} has only {rows} usable pictures: some hundred are needed "
                "to learn from and to trust the scores, and every doubling helps"
            )
            self.problems.append(Problem("few_rows", "advice", rows, message))

    def report(self, spool: Spool) -> PrepareReport:
        """Sum up; nothing is written yet."""
        source = self.sources["file"]
        sides = np.percentile(self.sides, _PERCENTILES, method="lower").astype(int).tolist()
        return PrepareReport(
            written=False,
            folder=self.options.folder,
            sources=tuple(self._source(spool, origin) for origin in self.sources),
            options=self.options.as_json(),
            form=source.form,
            columns=source.columns,
            prompt_form=PromptForm(),
            shared_instruction=None,
            shared_instruction_tokens=None,
            rows=spool.count("rows"),
            kept=spool.count("kept"),
            dropped=spool.dropped(),
            problems=tuple(self.problems),
            labels=tuple(LabelCount(n, *counts) for n, counts in label_table(spool).items()),
            lengths=None,
            splits={s: Split(spool.count("kept", "split = ?", (s,))) for s in SPLITS},
            seed=self.options.seed,
            task="image-classification",
            picture_sides={f"p{p}": s for p, s in zip(_PERCENTILES, sides, strict=True)},
        )

    def _source(self, spool: Spool, origin: Origin) -> SourceFile:
        """Describe a source; its hash is over the pictures' names, labels and bytes in order."""
        digest = hashlib.sha256()
        query = "SELECT text, label, words FROM rows WHERE origin = ? ORDER BY id"
        for row in spool.select(query, (origin,)):
            digest.update(repr(row).encode())
        source = self.sources[origin]
        size = sum(_bytes_of(item.path) for item in source.items if item.path)
        return SourceFile(
            role=origin,
            name=source.name,
            bytes=size,
            sha256=digest.hexdigest(),
            format=source.form,
            line_means="line" if source.numbered else "picture",
            encoding=None,
            sheet=None,
            rows=spool.count("rows", "origin = ?", (origin,)),
            kept=spool.count("kept", "origin = ?", (origin,)),
        )

    def write(self, spool: Spool, folder: Path) -> dict[str, Split]:
        """Copy the pictures that are kept, and write one file of paths and labels a split."""
        pictures = folder / PICTURES_FOLDER
        pictures.mkdir()
        splits = {}
        for split in SPLITS:
            path, rows = folder / f"{split}.jsonl", 0
            query = "SELECT text, label, words FROM kept WHERE split = ? ORDER BY id"
            with path.open("wb") as file:
                for name, label, digest in spool.select(query, (split,)):
                    copied = self._copy(digest, pictures)
                    row = {"image": copied, "label": label, "name": name}
                    file.write(orjson.dumps(row) + b"\n")
                    rows += 1
            splits[split] = Split(rows, sha256_of_file(path))
        return splits

    def _copy(self, digest: object, pictures: Path) -> str:
        if not isinstance(digest, bytes):
            raise TypeError("a kept picture has no digest")
        target = pictures / f"{digest.hex()}{self.suffixes[digest]}"
        if not target.exists():
            content = _read_again(self.files[digest])
            if hashlib.sha256(content).digest() != digest:
                raise InvalidExamples(f"{self.files[digest].name} changed while it was being read")
            target.write_bytes(content)
        return f"{PICTURES_FOLDER}/{target.name}"


def _none_left(spool: Spool) -> str:
    """Say that no picture can be used, and of the first ones why."""
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in spool.dropped().items())
    query = (
        "SELECT text, detail FROM rows WHERE origin = 'file' AND detail IS NOT NULL"
        " ORDER BY id LIMIT ?"
    )
    first = "; ".join(
        f"{shown(text)!r}: {detail}" if text else str(detail)
        for text, detail in spool.select(query, (_REASONS_SHOWN,))
    )
    told = f": {first}" if first else ""
    return f"no picture of {spool.files['file']} can be used ({dropped}){told}"


def _bytes_of(path: Path) -> int:
    """Return the length of a regular file; 0 for what is none, or has a name no file can have."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def _refuse_inside(read: Path, written: Path) -> None:
    """Refuse to write into a folder of classes: the next run would read that as one of them."""
    if written.resolve().is_relative_to(read.resolve()):
        raise InvalidInput(
            f"{written} lies in {read}, and would be read as a class next time: give --out a "
            "folder elsewhere"
        )


def _read_again(path: Path) -> bytes:
    try:
        return read_picture_file(path)
    except UnusablePicture as error:
        raise InvalidExamples(f"{path.name} changed while it was being read: {error}") from None


def _open_all(options: PrepareOptions, scratch: Path) -> dict[Origin, PictureSource]:
    paths: dict[Origin, Path | None] = {
        "file": options.file,
        "validation": options.validation,
        "test": options.test,
    }
    given = {origin: path for origin, path in paths.items() if path is not None}
    if len({path.resolve() for path in given.values()}) < len(given):
        raise InvalidInput("FILE, --validation and --test must be different")
    sources: dict[Origin, PictureSource] = {
        origin: open_pictures(path, scratch / origin, options.reading(path))
        for origin, path in given.items()
    }
    for origin, path in given.items():
        if path.is_dir() and sources[origin].form == CLASSES_FORM:
            _refuse_inside(path, options.folder)
    _check_labels(list(sources.values()))
    return sources


def _check_labels(sources: Sequence[PictureSource]) -> None:
    """Refuse a table whose labels are no classes."""
    for source in sources:
        labels = {item.label for item in source.items if item.label}
        longest = max((len(label) for label in labels), default=0)
        if longest > 100 or len(labels) > max(2, len(source.items) / 3):
            raise InvalidExamples(
                f"{source.name} has {len(labels):,} different labels for {len(source.items):,} "
                "pictures: these are no classes"
            )

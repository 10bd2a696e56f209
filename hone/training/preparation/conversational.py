"""`hone prepare --task text-generation`: examples for causal models, read, checked and split.

Completions stay as they are, to the letter: their spaces, separators and ends are what the model
is to write. Memory grows with the file, as every example is compared with all others.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import orjson

import hone
from hone.models.errors import InvalidExamples
from hone.models.examples import SPLITS, sha256_of_file, words_key
from hone.training.generation.conversations import (
    Completion,
    Conversation,
    Example,
    Preference,
    as_json,
    placed,
    tool_counts,
)
from hone.training.preparation.conversational_rows import example_reader
from hone.training.preparation.kept_instruction import kept_instruction
from hone.training.preparation.output import check_folder, write_all, write_report
from hone.training.preparation.prepare import PrepareOptions, open_all, spoken_names
from hone.training.preparation.problems import (
    EXAMPLES_SHOWN,
    Answer,
    Ask,
    Problem,
    Progress,
    counted,
)
from hone.training.preparation.report import FORMAT_VERSION, KIND, Split
from hone.training.preparation.rows import BadLine, Source
from hone.training.preparation.spool import Origin, shown

FEWEST_ROWS = 100
_FORMS = {Completion: "prompt/completion", Conversation: "chat", Preference: "preference"}
_PROGRESS_EVERY = 1000
Look = Callable[[Sequence[Example]], None]
"""Looks at the training examples before anything is written, and may refuse them by raising."""


@dataclass(frozen=True, slots=True)
class Row:
    """One usable example, and where it stands."""

    origin: Origin
    number: int
    example: Example

    @property
    def key(self) -> str:
        """What two examples share when they ask the same: their prompts' words."""
        prompt = _prompt_text(self.example)
        return words_key(prompt) if prompt.strip() else f"\0{orjson.dumps(as_json(self.example))!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationReport:
    """All that is known at the end. `written` is False when mends wait for a yes."""

    written: bool
    folder: Path
    form: str
    read: int
    dropped: Mapping[str, int]
    problems: Sequence[Problem]
    splits: Mapping[str, Split]
    examples: Mapping[str, Sequence[Example]]
    options: Mapping[str, object]
    sources: Sequence[Mapping[str, object]] = ()

    @property
    def kept(self) -> int:
        """How many examples are in the splits."""
        return sum(map(len, self.examples.values()))

    @property
    def tools(self) -> dict[str, int]:
        """How many chats have tools, and how many calls are trained on, or only read."""
        return tool_counts(chain.from_iterable(self.examples.values()))

    def as_json(self) -> dict[str, object]:
        """Return what stands in `report.json`."""
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "hone_version": hone.__version__,
            "status": "written" if self.written else "waiting for a yes",
            "task": "text-generation",
            "form": self.form,
            "tools": self.tools,
            "options": dict(self.options),
            "sources": list(self.sources),
            "counts": {"read": self.read, "dropped": dict(self.dropped), "kept": self.kept},
            "problems": [problem.as_json() for problem in self.problems],
            "splits": {
                name: {"rows": split.rows, "sha256": split.sha256 or None}
                for name, split in self.splits.items()
            },
        }


def prepare_conversations(
    options: PrepareOptions,
    ask: Ask,
    progress: Progress = lambda _step, _rows: None,
    look: Look = lambda _examples: None,
) -> ConversationReport:
    """Check and split example files for a causal model, and write the folder of splits and report.

    Prompts that are alike but for case and punctuation go into one split. `look` is called with
    the training examples before anything is written, which it keeps from being done by raising.
    `ask` and the other errors are those of `prepare`.
    """
    shares = options.shares()
    check_folder(options.folder)
    run = _Run(options, ask, progress)
    run.load()
    run.mend()
    examples = run.split(shares)
    look(examples["train"])
    report = ConversationReport(
        written=False,
        folder=options.folder,
        form=run.form(),
        read=run.read,
        dropped=dict(run.dropped),
        problems=tuple(run.problems),
        splits={split: Split(len(rows)) for split, rows in examples.items()},
        examples=examples,
        options=options.as_json(),
        sources=[
            {"role": origin, "name": source.path.name, "sha256": sha256_of_file(source.path)}
            for origin, source in run.sources.items()
        ],
    )
    return report if run.waits else write_all(options.folder, _writer(report))


def _writer(report: ConversationReport) -> Callable[[Path], ConversationReport]:
    def fill(folder: Path) -> ConversationReport:
        splits = {}
        for split, rows in report.examples.items():
            path = folder / f"{split}.jsonl"
            path.write_bytes(b"".join(orjson.dumps(as_json(row)) + b"\n" for row in rows))
            splits[split] = Split(len(rows), sha256_of_file(path))
        written = replace(report, written=True, splits=splits)
        write_report(folder, written.as_json())
        return written

    return fill


@dataclass(slots=True)
class _Run:
    """One run: its rows, and the problems found so far."""

    options: PrepareOptions
    ask: Ask
    progress: Progress
    sources: dict[Origin, Source] = field(init=False)
    rows: list[Row] = field(default_factory=list)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    waits: bool = False

    def __post_init__(self) -> None:
        self.sources = open_all(self.options)
        for source in self.sources.values():
            self.problems += source.problems

    def load(self) -> None:
        """Read all files."""
        names = spoken_names(self.sources)
        bad: list[dict[str, object]] = []
        for origin, source in self.sources.items():
            read = example_reader(source, self.options)
            for record in source.records():
                self.read += 1
                reason = None
                if isinstance(record, BadLine):
                    reason = record.reason
                else:
                    try:
                        self.rows.append(
                            Row(origin, record.number, placed(read(record), record.number))
                        )
                    except ValueError as error:
                        reason = str(error)
                if reason is not None:
                    place = {"file": names[origin], "line": record.number}
                    bad.append({**place, "reason": reason})
                if self.read % _PROGRESS_EVERY == 0:
                    self.progress(f"reading {source.path.name}", self.read)
        if bad:
            self._note("unreadable", "cannot be used", bad)
            self.dropped["unreadable"] = len(bad)
        if not any(row.origin == "file" for row in self.rows):
            first = f": line {bad[0]['line']} {bad[0]['reason']}" if bad else ""
            raise InvalidExamples(f"{self.options.file.name} has no usable example{first}")
        if len({isinstance(row.example, Preference) for row in self.rows}) > 1:
            raise InvalidExamples(
                "preferences stand beside other examples: prepare them by themselves"
            )

    def _note(self, code: str, what: str, examples: list[dict[str, object]]) -> None:
        """Tell of rows that were left out unasked."""
        count = len(examples)
        self.problems.append(
            Problem(
                code,
                "necessary",
                count,
                f"{counted(count, 'row')} {what}",
                "leave them out",
                tuple(examples[:EXAMPLES_SHOWN]),
                mended=True,
            )
        )

    def mend(self) -> None:
        """Leave out repeats, after asking, and of a given split what FILE asks too."""
        seen: set[bytes] = set()
        repeats: list[Row] = []
        for row in self.rows:
            content = orjson.dumps([row.origin, as_json(row.example)])
            if content in seen:
                repeats.append(row)
            seen.add(content)
        if repeats:
            self._offer(repeats)
        asked = {row.key for row in self.rows if row.origin == "file"}
        leaks = [row for row in self.rows if row.origin != "file" and row.key in asked]
        if leaks:
            self._leave_out("leaks", leaks)
            examples = [self._place(row) for row in leaks]
            what = "of a given split ask what FILE asks, which would make scores too high"
            self._note("leaks", what, examples)
        self._advise()

    def _offer(self, repeats: list[Row]) -> None:
        problem = Problem(
            "duplicates",
            "recommended",
            len(repeats),
            f"{counted(len(repeats), 'row repeats', 'rows repeat')} an earlier one to the letter",
            "keep the first of each",
            tuple(self._place(row) for row in repeats[:EXAMPLES_SHOWN]),
        )
        answer: Answer = self.ask(problem)
        if answer is not False:
            self._leave_out("duplicates", repeats)
        self.problems.append(problem.as_mended() if answer else problem)
        self.waits = answer is None

    def _leave_out(self, reason: str, rows: Sequence[Row]) -> None:
        gone = set(map(id, rows))
        self.rows = [row for row in self.rows if id(row) not in gone]
        self.dropped[reason] = len(rows)
        if not any(row.origin == "file" for row in self.rows):
            raise InvalidExamples(f"no example of {self.options.file.name} is left")

    def _place(self, row: Row) -> dict[str, object]:
        file = spoken_names(self.sources)[row.origin]
        return {"file": file, "line": row.number, "text": shown(_prompt_text(row.example))}

    def _advise(self) -> None:
        kept = sum(row.origin == "file" for row in self.rows)
        if kept < FEWEST_ROWS:
            message = (
                f"{self.options.file.name} has only {counted(kept, 'usable row')}: some hundred "
                "are needed to learn from and to trust the scores"
            )
            self.problems.append(Problem("few_rows", "advice", kept, message))
        own = [row.example for row in self.rows if row.origin == "file"]
        self.problems += kept_instruction(own)

    def form(self) -> str:
        """Return what the examples are, by their most frequent form."""
        kinds = Counter(type(row.example) for row in self.rows)
        return _FORMS[kinds.most_common(1)[0][0]]

    def split(self, shares: Mapping[str, float]) -> dict[str, list[Example]]:
        """Return the examples of each split, in the order of the input.

        InvalidExamples where a split would be empty.
        """
        own = [row for row in self.rows if row.origin == "file"]
        chosen = _cut([row.key for row in own], shares, seed=self.options.seed)
        found: dict[str, list[Example]] = {split: [] for split in SPLITS}
        for row in self.rows:
            split = chosen[row.key] if row.origin == "file" else row.origin
            found[split].append(row.example)
        empty = [split for split, rows in found.items() if not rows]
        if empty:
            raise InvalidExamples(
                f"nothing is left for {empty[0]}: there are {len(set(chosen))} different prompts"
            )
        return found


def _cut(keys: Sequence[str], shares: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Return a split for each key: in an order drawn by the seed, splits are filled one by one."""
    sizes = Counter(keys)
    order = sorted(sizes, key=lambda key: _drawn(key, seed))
    wanted = {split: share * len(keys) for split, share in shares.items() if split != "train"}
    chosen: dict[str, str] = {}
    filled: Counter[str] = Counter()
    for key in order:
        split = next((name for name in wanted if filled[name] < wanted[name]), "train")
        chosen[key] = split
        filled[split] += sizes[key]
    return chosen


def _drawn(key: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=16).digest()


def _prompt_text(example: Example) -> str:
    """Return what an example asks, as one text."""
    if isinstance(example, Conversation):
        answers = [n for n, m in enumerate(example.messages) if m.role == "assistant"]
        return "\n".join(m.content for m in example.messages[: answers[-1]])
    if isinstance(example.prompt, str):
        return example.prompt
    return "\n".join(message.content for message in example.prompt)

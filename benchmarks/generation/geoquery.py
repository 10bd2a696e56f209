"""GeoQuery: questions to SQL that is executed: `python -m benchmarks.generation.geoquery DATA`.

A model is trained from scratch, by `hone train`, on the training questions of the question split
(549), and scored on the test questions (279): an answer is right if, run on the database that
ships with the data, it gives the rows that the reference gives, in any order. Two references of
the test questions do not run in SQLite; whatever is answered there counts as wrong.

The data names which words of a question are names, and of what kind. Each training question is
also written with other names of the same kind, taken from the database and the training questions
(`--copies` in all): the structure of the queries stays that of the training questions.

With `--names numbered` the database's names that stand in a question are called by number, in what
the model reads and writes (`names.py`), and are put back before a query is run. Which words are
names is then looked up in the database, for the test questions as for all others.

With `--tries N` a question whose query does not run on the database is asked again, up to N times
with a sample; the first that runs counts (execution-guided decoding, Wang et al. 2018).
"""

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.generation.names import Gazetteer, with_names, with_numbers
from hone.models.catalogue import find_base
from hone.models.scoring import proportion
from hone.training.events import read_events
from hone.training.generation.causal_bases import load_causal_model, open_causal_base
from hone.training.generation.encoding import ConversationEncoder
from hone.training.generation.sampling import complete, read_samples

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "geoquery"
SPLITS = {"train": "train", "dev": "validation", "test": "test"}
SEPARATOR = " ->"
LONGEST_ANSWER = 300
_TEMPERATURE = 0.7

KINDS = {
    "state_name": "SELECT state_name FROM state",
    "city_name": "SELECT city_name FROM city",
    "river_name": "SELECT river_name FROM river",
    "capital": "SELECT capital FROM state",
    "mountain_name": "SELECT mountain_name FROM mountain",
    "highest_point": "SELECT highest_point FROM highlow",
    "lowest_point": "SELECT lowest_point FROM highlow",
    "country_name": "SELECT country_name FROM state",
}
"""Where the database has the names of each kind."""

RECIPE = """
[model]
task = "text-generation"
base = "{base}"
vocabulary = {vocabulary}
positions = 512
dropout = {dropout}

[optimizer]
learning_rate = {rate}
beta2 = 0.98
weight_decay = 0.1

[dataset]
path = "{data}"

[training]
epochs = {epochs}
batch_size = 32
evaluate_every_epochs = {every}
early_stopping_patience = 0
precision = "fp32"
seed = {seed}

[sample_prompts]
prompts = {prompts}
max_tokens = 256

[saving]
name = "geoquery"
store = "{work}/store"
runs = "{work}/runs"
variants = ["fp32"]
"""


class Question(NamedTuple):
    """A question and its query with names left open, and the names."""

    split: str
    text: str
    sql: str
    names: Mapping[str, str]

    def filled(self, names: Mapping[str, str]) -> tuple[str, str]:
        """Return prompt and completion with names put in."""
        prompt, completion = self.text, self.sql
        for place in sorted(names, key=len, reverse=True):
            prompt = prompt.replace(place, names[place])
            completion = completion.replace(place, names[place])
        return prompt + SEPARATOR, f" {completion}"


def read_questions(data: Path) -> list[Question]:
    """Read all questions; of a question's several queries the first is the reference."""
    entries = json.loads((data / "geography.json").read_text(encoding="utf-8"))
    return [
        Question(SPLITS[s["question-split"]], s["text"], entry["sql"][0], s["variables"])
        for entry in entries
        for s in entry["sentences"]
    ]


def names_by_kind(questions: Sequence[Question], database: sqlite3.Connection) -> dict[str, Any]:
    """Return the names of each kind that training may know."""
    found = {
        kind: {name for (name,) in database.execute(query) if name} for kind, query in KINDS.items()
    }
    for question in questions:
        if question.split == "train":
            for place, name in question.names.items():
                found.setdefault(kind_of(place), set()).add(name)
    return {kind: sorted(names) for kind, names in found.items()}


def gazetteer_of(names: Mapping[str, Sequence[str]]) -> Gazetteer:
    """Return what finds names in questions: not `ohio river`, where there is an `ohio`."""
    known = {name for some in names.values() for name in some}
    also = {f"{name} river" for name in known} | {f"mount {name}" for name in known}
    return Gazetteer(
        {
            kind: [name for name in some if name not in also]
            for kind, some in names.items()
            if kind != "country_name"
        }
    )


def kind_of(place: str) -> str:
    """Return `state_name` for `state_name0`."""
    return place.rstrip("0123456789")


def training_rows(
    questions: Sequence[Question], names: Mapping[str, Sequence[str]], *, copies: int, seed: int
) -> Iterator[tuple[str, str]]:
    """Yield each training question as it is, and with other names; those without names as often."""
    draw = random.Random(seed)
    for question in (q for q in questions if q.split == "train"):
        yield question.filled(question.names)
        for _ in range(copies - 1):
            others = {place: draw.choice(names[kind_of(place)]) for place in question.names}
            yield question.filled(others)


def answer_of(database: sqlite3.Connection, sql: str) -> list[str] | None:
    """Return the rows of a query in an order of their own; None if it does not run."""
    try:
        return sorted(map(repr, database.execute(sql).fetchall()))
    except (sqlite3.Error, sqlite3.Warning):
        return None


def right_answers(database: sqlite3.Connection, said: Sequence[str], wanted: Sequence[str]) -> int:
    """Count the queries that give what the references give."""
    pairs = zip(said, wanted, strict=True)
    return sum(
        (truth := answer_of(database, reference)) is not None
        and answer_of(database, query) == truth
        for query, reference in pairs
    )


def seen(pairs: Sequence[tuple[str, str]], gazetteer: Gazetteer | None) -> list[tuple[str, str]]:
    """Return prompts and completions as the model has them."""
    if gazetteer is None:
        return list(pairs)
    return [(gazetteer.numbered(p), with_numbers(c, gazetteer.found(p))) for p, c in pairs]


def read_back(
    said: Sequence[str], pairs: Sequence[tuple[str, str]], gazetteer: Gazetteer | None
) -> list[str]:
    """Return what the model wrote after these prompts, with names."""
    if gazetteer is None:
        return list(said)
    return [with_names(q, gazetteer.found(p)) for q, (p, _) in zip(said, pairs, strict=True)]


def write_data(folder: Path, rows: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write the splits as `hone prepare --task text-generation` would."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, pairs in rows.items():
        lines = (json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def curve(
    run: Path,
    events: Sequence[dict[str, Any]],
    database: sqlite3.Connection,
    pairs: Sequence[tuple[str, str]],
    gazetteer: Gazetteer | None,
) -> list[dict[str, float]]:
    """Return, for each evaluation, the seconds of training and the validation answers' share."""
    seconds = {e["step"]: e["seconds"] for e in events if e["event"] == "evaluated"}
    points = []
    wanted = [completion for _, completion in pairs]
    samples = list(read_samples(run))
    for step, spent in sorted(seconds.items()):
        said = [row["completion"] for row in samples if row["step"] == step]
        share = right_answers(database, read_back(said, pairs, gazetteer), wanted) / len(wanted)
        points.append({"step": step, "seconds": round(spent, 1), "validation": round(share, 4)})
    return points


def answers_to(
    folder: Path, prompts: Sequence[str], *, beams: int = 1, temperature: float = 0.0
) -> list[str]:
    """Return what the trained model in a folder writes after prompts."""
    base = open_causal_base(find_base(str(folder)))
    encoder = ConversationEncoder(base.tokenizer, template="plain")
    return complete(
        load_causal_model(base),
        base.tokenizer,
        [encoder.prompt_ids(prompt) for prompt in prompts],
        pad_id=base.pad_id,
        max_tokens=LONGEST_ANSWER,
        beams=beams,
        temperature=temperature,
    )


def runnable_answers(
    folder: Path,
    pairs: Sequence[tuple[str, str]],
    database: sqlite3.Connection,
    gazetteer: Gazetteer | None,
    arguments: argparse.Namespace,
) -> list[str]:
    """Return the queries for prompts; those that do not run are asked for again, by samples."""
    prompts = [prompt for prompt, _ in seen(pairs, gazetteer)]
    said = read_back(answers_to(folder, prompts, beams=arguments.beams), pairs, gazetteer)
    torch.manual_seed(arguments.seed)
    for _ in range(arguments.tries):
        left = [n for n, query in enumerate(said) if answer_of(database, query) is None]
        again = answers_to(folder, [prompts[n] for n in left], temperature=_TEMPERATURE)
        for n, query in zip(
            left, read_back(again, [pairs[n] for n in left], gazetteer), strict=True
        ):
            said[n] = query
    return said


def main() -> None:
    arguments = _arguments()
    path = (arguments.data / "geography-db.added-in-2020.sqlite").resolve()
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    questions = read_questions(arguments.data)
    names = names_by_kind(questions, database)
    rows = {s: [q.filled(q.names) for q in questions if q.split == s] for s in SPLITS.values()}
    rows["train"] = list(
        training_rows(questions, names, copies=arguments.copies, seed=arguments.seed)
    )
    gazetteer = gazetteer_of(names) if arguments.names == "numbered" else None
    shown = {split: seen(pairs, gazetteer) for split, pairs in rows.items()}
    if gazetteer is not None:  # what differed by its names alone is the same now
        shown["train"] = list(dict.fromkeys(shown["train"]))
    work = arguments.work
    write_data(work / "data", shown)
    recipe = work / "geoquery.toml"
    prompts = json.dumps([prompt for prompt, _ in shown["validation"]])
    filled = {**vars(arguments), "data": work / "data", "prompts": prompts}
    recipe.write_text(RECIPE.format(**filled), encoding="utf-8")
    log = work / "events.jsonl"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "hone", "train", str(recipe), "--events", str(log)]
    started = time.monotonic()
    subprocess.run(command, check=True)
    events = list(read_events(log))
    run = Path(next(e["folder"] for e in events if e["event"] == "run_started"))
    said = runnable_answers(run / "model", rows["test"], database, gazetteer, arguments)
    right = right_answers(database, said, [c for _, c in rows["test"]])
    score = proportion(right, len(rows["test"]))
    result = {
        "execution_accuracy": score.model_dump(),
        "curve": curve(run, events, database, rows["validation"], gazetteer),
        "rows": len(shown["train"]),
        "wall_s": round(time.monotonic() - started, 1),
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
    }
    (work / "result.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    print(json.dumps(result, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--work", type=Path, default=Path("build/geoquery"))
    parser.add_argument("--base", default="scratch:llama-3m")
    parser.add_argument("--vocabulary", type=int, default=1500)
    parser.add_argument("--copies", type=int, default=5)
    parser.add_argument("--names", choices=("written", "numbered"), default="written")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--tries", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""E2E: facts about a restaurant to sentences: `python -m benchmarks.generation.e2e DATA`.

A model is trained from scratch, by `hone train`, on the development set (4,672 rows), of which
one in twenty is kept for validation by its facts, and scored by BLEU (sacrebleu, all references of
a row) on the 630 different facts of the test set.

A restaurant's name and the name of the place that it is near stand in the facts and are to be
copied: in the data that the model sees they are called NAME and NEAR, and are put back into what
it writes. Both are known before the model is asked.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import sacrebleu

from benchmarks.generation.geoquery import answers_to, write_data
from hone.training.events import read_events

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "e2e_nlg"
SEPARATOR = " ->"
PLACES = {"name": "NAME", "near": "NEAR"}
_ONE_IN = 20

RECIPE = """
[model]
task = "text-generation"
base = "{base}"
vocabulary = 1500
positions = 256
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
evaluate_every_epochs = 1
early_stopping_patience = 0
label_smoothing = 0.1
precision = "fp32"
seed = {seed}

[saving]
name = "e2e"
store = "{work}/store"
runs = "{work}/runs"
variants = ["fp32"]
"""


def read_pairs(file: Path) -> list[tuple[str, str]]:
    """Return facts and sentences."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [(row["mr"], row["ref"]) for row in csv.DictReader(lines)]


def named(facts: str) -> dict[str, str]:
    """Return the names that the facts hold, by what they are called instead."""
    found = {key: re.search(rf"\b{key}\[([^\]]*)\]", facts) for key in PLACES}
    return {PLACES[key]: match.group(1) for key, match in found.items() if match}


def without_names(text: str, names: Mapping[str, str]) -> str:
    """Put NAME and NEAR for the names."""
    for place, name in names.items():
        text = text.replace(name, place)
    return text


def with_names(text: str, names: Mapping[str, str]) -> str:
    """Put the names back."""
    for place, name in names.items():
        text = text.replace(place, name)
    return text


def prompt_of(facts: str) -> str:
    """Return the prompt of facts."""
    return without_names(facts, named(facts)) + SEPARATOR


def rows_of(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return prompts and completions."""
    return [(prompt_of(m), " " + without_names(r, named(m))) for m, r in pairs]


def bleu(said: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> float:
    """Return the corpus BLEU of one sentence for each facts against all of their references."""
    references: dict[str, list[str]] = {}
    for facts, sentence in pairs:
        references.setdefault(facts, []).append(sentence)
    longest = max(map(len, references.values()))
    columns = [
        [found[n] if n < len(found) else None for found in references.values()]
        for n in range(longest)
    ]
    score = sacrebleu.corpus_bleu([said[facts] for facts in references], columns)
    return float(score.score)


def main() -> None:
    arguments = _arguments()
    pairs = read_pairs(arguments.data / "devset.csv")
    test = read_pairs(arguments.data / "testset_w_refs.csv")
    prompts = sorted({prompt_of(facts) for facts, _ in pairs})
    kept = set(prompts[::_ONE_IN])
    rows = {
        "train": [row for row in rows_of(pairs) if row[0] not in kept],
        "validation": [row for row in rows_of(pairs) if row[0] in kept],
    }
    work = arguments.work
    write_data(work / "data", rows)
    recipe = work / "e2e.toml"
    recipe.write_text(RECIPE.format(**{**vars(arguments), "data": work / "data"}), encoding="utf-8")
    log = work / "events.jsonl"
    log.unlink(missing_ok=True)
    started = time.monotonic()
    command = [sys.executable, "-m", "hone", "train", str(recipe), "--events", str(log)]
    subprocess.run(command, check=True)
    events = list(read_events(log))
    run = Path(next(e["folder"] for e in events if e["event"] == "run_started"))
    facts = list(dict.fromkeys(mr for mr, _ in test))
    answers = answers_to(run / "model", [prompt_of(m) for m in facts], beams=arguments.beams)
    said = {m: with_names(a.strip(), named(m)) for m, a in zip(facts, answers, strict=True)}
    result = {
        "bleu": round(bleu(said, test), 2),
        "facts": len(facts),
        "curve": [
            {name: round(e[name], 4) for name in ("seconds", "loss", "accuracy")}
            for e in events
            if e["event"] == "evaluated"
        ],
        "wall_s": round(time.monotonic() - started, 1),
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
    }
    (work / "result.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    print(json.dumps(result, indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--work", type=Path, default=Path("build/e2e"))
    parser.add_argument("--base", default="scratch:llama-3m")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""A whole comparison on Banking77: a fine-tuned bundle, prompts, and what needs no training.

    python -m benchmarks.comparison.banking77 [--data ../shared/data/banking77] [--epochs 3]

Trains a bundle once if the store has none, writes an experiment of six contenders, starts the
stand-in upstream of the tests on a free port, and runs `hone compare` on all test items to its
report. Then it asks once more, which must call nobody. The prompts' quality and delay are those
of the stand-in, a nearest-neighbour rule that errs at a seeded rate: what is shown is the way, and
what asking costs on this machine, not what any large model is worth. Prints one JSON line.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import describe_machine
from hone.comparison.question import OUTCOMES_FILE, RUN_FILE
from hone.models.examples import Example, write_examples
from tests.comparison.upstream import Behaviour, Upstream, upstream

_ROOT = Path(__file__).resolve().parents[2]
_MODEL = "banking77"
_EXPERIMENT = """\
# Written by benchmarks/comparison/banking77.py.
[experiment]
name = "banking77"
path = "{data}"

[decision]
candidate = "fine-tuned"
baseline = "retrieved"
margin = 0.02
max_error = 0.03

[costs]
serving_usd_per_hour = 0.04
training_usd = 0.5
requests_per_month = 500000

[limits]
dollars = 50.0
concurrency = 8
first_wait_s = 0.05

[[contenders]]
name = "fine-tuned"
kind = "bundle"
model = "banking77"
store = "{store}"

[[contenders]]
name = "few-shot"
kind = "prompt"
prompt = "few-shot"
k = 154
model = "gpt-4o-mini"
address = "{address}"

[[contenders]]
name = "zero-shot"
kind = "prompt"
prompt = "zero-shot"
model = "gpt-4o-mini"
address = "{address}"

[[contenders]]
name = "retrieved"
kind = "prompt"
prompt = "retrieved"
k = 8
model = "gpt-4o-mini"
address = "{address}"

[[contenders]]
name = "names alone"
kind = "embedded"

[[contenders]]
name = "majority"
kind = "majority"
"""


def main() -> None:
    """Run the comparison twice, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=_ROOT.parent / "shared/data/banking77")
    parser.add_argument("--out", type=Path, default=Path("build/bench/comparison"))
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--wrong", type=float, default=0.05, help="share of errors put in")
    options = parser.parse_args()
    data, store, run = (options.out / name for name in ("data", "store", "run"))
    write_splits(options.data, data)
    if not (store / _MODEL).is_dir():
        hone("train", "classifier", f"dataset.path={data}", f"saving.name={_MODEL}",
             f"saving.store={store}", f"saving.runs={options.out / 'runs'}",
             f"training.epochs={options.epochs}")  # fmt: skip
    behaviour = Behaviour(wrong=options.wrong, refuses=0.004, explains=0.03, garbles=0.004,
                          fails=0.01)  # fmt: skip
    seconds, calls = [], []
    with upstream(behaviour) as server:
        experiment = options.out / "experiment.toml"
        text = _EXPERIMENT.format(data=data, store=store, address=server.address)
        experiment.write_text(text, encoding="utf-8")
        for _ in range(2):
            started, before = time.monotonic(), len(server.served)
            hone("compare", str(experiment), "--out", str(run))
            seconds.append(round(time.monotonic() - started, 1))
            calls.append(len(server.served) - before)
        print(json.dumps(result(run, server) | {"seconds": seconds, "calls": calls}))


def write_splits(source: Path, folder: Path) -> None:
    """Write the public files as a prepared folder; a tenth of the training rows validates."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(read(source / "train.csv"))
    random.Random(0).shuffle(rows)
    tenth = len(rows) // 10
    splits = (("validation", rows[:tenth]), ("train", rows[tenth:]))
    for name, examples in (*splits, ("test", list(read(source / "test.csv")))):
        write_examples(folder / f"{name}.jsonl", examples)


def read(path: Path) -> Iterator[Example]:
    """Yield the rows of one of the public files."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Example(" ".join(row["text"].split()), row["category"])


def hone(*words: str) -> None:
    """Run a command, and stop if it fails."""
    status = subprocess.run([sys.executable, "-m", "hone", *words], check=False).returncode
    if status:
        raise SystemExit(f"hone {words[0]} ended with status {status}")


def result(run: Path, server: Upstream) -> dict[str, object]:
    """Return what came of it, and the recount of tokens from the server's own answers."""
    record = json.loads((run / RUN_FILE).read_bytes())
    outcomes = [json.loads(line) for line in (run / OUTCOMES_FILE).read_text().splitlines()]
    once = {o["request"]: o for o in outcomes if o["request"]}.values()
    told = [answer["usage"]["prompt_tokens"] for answer in server.answers]
    return {
        "machine": describe_machine(),
        "items": record["items"],
        "outcomes": len(outcomes),
        "contaminated": {name: len(ids) for name, ids in record["contamination"].items()},
        "spent_usd": record["spent_usd"],
        "possibly_billed_usd": record["possibly_billed_usd"],
        "prompt_tokens_represented": sum(o["spent"]["prompt_tokens"] for o in outcomes),
        "prompt_tokens_billed": sum(o["spent"]["prompt_tokens"] for o in once),
        "prompt_tokens_recounted": sum(told),
    }


if __name__ == "__main__":
    main()

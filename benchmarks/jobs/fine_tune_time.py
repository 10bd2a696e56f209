"""From a created job to an answered request: 500 support messages through the API.

    python -m benchmarks.jobs.fine_tune_time

Starts `hone serve` on an empty store, uploads 500 rows of examples/support as prompts and
completions with the newest client, creates a job, waits until its model answers a held-out
message, and asks the other held-out ones. Prints one JSON line: seconds from the job's creation
to its end, and to the first answer, and the share of right answers.
"""

import argparse
import csv
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from openai import OpenAI

from benchmarks.jobs.service import service
from benchmarks.machine import describe_machine, now

MESSAGES = Path("examples/support/support.csv")
SEPARATOR = "\n\n###\n\n"
MOST_S = 120.0
_GIVE_UP_S = 1200.0


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--model", default="ada")
    parser.add_argument("--threads", help="of the training; default: the service's own choice")
    options = parser.parse_args()
    rows = read_rows(MESSAGES)
    random.Random(3).shuffle(rows)
    train, held_out = rows[: options.examples], rows[options.examples :]
    chosen = {"jobs_threads": options.threads} if options.threads else {}
    with tempfile.TemporaryDirectory() as folder, service(Path(folder), **chosen) as server:
        client = OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="unused")
        result = fine_tune(client, train, held_out, base=options.model)
    print(json.dumps({"date": now(), "machine": describe_machine(), **result}))
    sys.exit(result["seconds_to_first_answer"] > MOST_S)


def read_rows(path: Path) -> list[tuple[str, str]]:
    """Return (text, label) pairs of a file with those columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def fine_tune(
    client: OpenAI, train: list[tuple[str, str]], held_out: list[tuple[str, str]], *, base: str
) -> dict[str, Any]:
    """Fine-tune, ask, and return the figures."""
    lines = (
        json.dumps({"prompt": text + SEPARATOR, "completion": f" {label}"}) for text, label in train
    )
    content = "\n".join(lines).encode()
    file = client.files.create(file=("support.jsonl", content), purpose="fine-tune")
    started = time.monotonic()
    job = client.fine_tuning.jobs.create(model=base, training_file=file.id)
    while job.status not in {"succeeded", "failed", "cancelled"}:
        if time.monotonic() - started > _GIVE_UP_S:
            raise SystemExit(f"the job is still {job.status}")
        time.sleep(0.25)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.fine_tuned_model is None:
        raise SystemExit(f"the job ended as {job.status}: {job.error}")
    ended_s = time.monotonic() - started
    _label(client, job.fine_tuned_model, held_out[0][0])
    served_s = time.monotonic() - started
    right = sum(_label(client, job.fine_tuned_model, text) == label for text, label in held_out)
    return {
        "examples": len(train),
        "trained_tokens": job.trained_tokens,
        "seconds_to_succeeded": round(ended_s, 1),
        "seconds_to_first_answer": round(served_s, 1),
        "right_of_held_out": f"{right}/{len(held_out)}",
    }


def _label(client: OpenAI, model: str, text: str) -> str:
    answer = client.completions.create(model=model, prompt=text + SEPARATOR, max_tokens=5)
    return answer.choices[0].text.strip()


if __name__ == "__main__":
    main()

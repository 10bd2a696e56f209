"""Does the service stand still while it lists thousands of things? Stalls, for each list.

    python -m benchmarks.jobs.list_stalls --rows 10000

A job store is filled with that many unusable files, each with a hundred problems to tell, legacy
jobs, modern jobs, and events of one job; then each list is asked for whole while `/livez` is asked
every 5 ms. Prints one JSON line.
"""

import argparse
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.jobs.probe import watched
from benchmarks.jobs.service import service
from benchmarks.machine import describe_machine, now
from benchmarks.processes import Server
from hone.service.jobs import tables
from hone.service.jobs.database import Database
from hone.service.settings import Settings
from hone.service.state import open_state

_PROBLEMS = "\n".join(f"line {number}: 'completion' is not a string" for number in range(1, 101))
_OWNER = "local"


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "asked"), Path(folder, "idle")
        with closing(open_state(Settings(store=first / "store"))) as state:
            fill(state.database, options.rows)
        with service(first, run_jobs="false") as asked, service(second, run_jobs="false") as idle:
            lists = {path: _measure(asked, idle, path) for path in _paths(options.rows)}
    print(json.dumps({"date": now(), "machine": describe_machine(), "lists": lists}))
    sys.exit(any(seen["asked"]["stalls"] for seen in lists.values()))


def _paths(rows: int) -> tuple[str, ...]:
    modern = "/v1/fine_tuning/jobs"
    return (
        f"/v1/files?limit={rows}",
        f"{modern}?limit={rows}",
        f"{modern}/{job_id('modern', 0)}/events?limit={rows}",
        "/v1/fine-tunes",
        f"/v1/fine-tunes/{job_id('legacy', 0)}",
        f"/v1/fine-tunes/{job_id('legacy', 0)}/events",
    )


def _measure(asked: Server, idle: Server, path: str) -> dict[str, Any]:
    """Ask for one list three times."""
    sizes, started = [], time.monotonic()
    with watched(asked=asked.port, idle=idle.port) as seen:
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", asked.port, timeout=120)
            connection.request("GET", path)
            answer = connection.getresponse()
            sizes.append(len(answer.read()))
            connection.close()
            if answer.status != http.client.OK:
                raise SystemExit(f"{path} answered {answer.status}")
    return {"bytes": sizes[0], "seconds": round((time.monotonic() - started) / 3, 2), **seen}


def fill(database: Database, rows: int) -> None:
    """Put that many files, jobs of both kinds, and events of the first job of each into it."""
    for table, made in (
        (tables.files, _files(rows)),
        (tables.jobs, _jobs(rows, "legacy")),
        (tables.jobs, _jobs(rows, "modern")),
        (tables.job_events, _events(rows, job_id("legacy", 0))),
        (tables.job_events, _events(rows, job_id("modern", 0))),
    ):
        with database.writing() as connection:
            connection.execute(table.insert(), list(made))


def _file_id(number: int) -> str:
    return f"file-{number:024d}"


def job_id(flavour: str, number: int) -> str:
    """Return the id of a job that `fill` makes."""
    return f"{'ft' if flavour == 'legacy' else 'ftjob'}-{number:024d}"


def _files(rows: int) -> Iterator[dict[str, Any]]:
    for number in range(rows):
        yield {
            "id": _file_id(number),
            "owner": _OWNER,
            "purpose": "fine-tune",
            "filename": f"examples-{number}.jsonl",
            "bytes": 1000,
            "sha256": f"{number:064x}",
            "status": "error",
            "status_details": _PROBLEMS,
            "created_at": 1_790_000_000 + number,
        }


def _jobs(rows: int, flavour: str) -> Iterator[dict[str, Any]]:
    for number in range(rows):
        yield {
            "id": job_id(flavour, number),
            "owner": _OWNER,
            "flavour": flavour,
            "model": "minilm",
            "training_file": _file_id(number),
            "method": "supervised",
            "given": {},
            "seed": 1,
            "status": "failed",
            "error_code": "invalid_training_file",
            "error_message": _PROBLEMS,
            "store_model": job_id(flavour, number),
            "result_files": [],
            "token": 1,
            "heartbeat": 0,
            "attempts": 1,
            "last_event": rows if number == 0 else 0,
            "created_at": 1_790_000_000 + number,
            "updated_at": 1_790_000_000 + number,
        }


def _events(rows: int, job: str) -> Iterator[dict[str, Any]]:
    for number in range(1, rows + 1):
        yield {
            "job_id": job,
            "number": number,
            "id": f"ftevent-{job}-{number}",
            "level": "info",
            "type": "metrics",
            "message": f"Step {number}: training loss 0.{number:05d}",
            "data": {"step": number, "train_loss": 1 / number},
            "created_at": 1_790_000_000 + number,
        }


if __name__ == "__main__":
    main()

"""`hone jobs`: look at fine-tuning jobs at the terminal, follow one, cancel one.

Works on the job store itself and not over HTTP: it shows every owner's jobs, needs no key, and
answers while no service runs. What it wishes for, the job's worker hears within seconds.
"""

import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from hone.models.errors import InvalidInput
from hone.models.tables import console, id_table
from hone.models.terminal import plain
from hone.service.access import Caller
from hone.service.command import settings_from
from hone.service.jobs import messages
from hone.service.jobs.events import Event
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import OVER, UNFINISHED, Job, Status
from hone.service.keys_command import StateOption, StoreOption
from hone.service.openai.store_calls import note
from hone.service.state import State, open_existing_state
from hone.service.terminal import when

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

JobArgument = Annotated[str, typer.Argument(metavar="ID", help="ftjob-… or ft-…")]

_POLL_S = 0.5
_OPERATOR = Caller("operator")
_ALL: tuple[Status, ...] = (*UNFINISHED, *OVER)
_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


@app.command("list")
def list_jobs(
    status: Annotated[
        list[str] | None, typer.Option(help=f"Only these; may be repeated: {', '.join(_ALL)}.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most to show.")] = 50,
    store: StoreOption = None,
    state: StateOption = None,
) -> None:
    """List jobs, newest first, with what became of them."""
    statuses = _statuses(status) if status else None
    opened = open_existing_state(settings_from(store=store, state_dir=state))
    try:
        page = opened.records.list_all(statuses=statuses, cursor=Cursor(limit=limit))
    finally:
        opened.close()
    if not page.items:
        Console().print("There are no jobs.")
        return
    table = id_table("id", "owner", "base", "status", "created", "model or reason")
    for job in page.items:
        outcome = job.fine_tuned_model or (job.error_message or "").partition("\n")[0]
        row = (job.id, job.owner, job.model, _coloured(job), when(job.created_at))
        table.add_row(*map(plain, row[:3]), *row[3:], plain(outcome))
    console().print(table)
    if page.has_more:
        Console().print(f"There are more: these are the newest {limit}.")


@app.command("show")
def show_job(job_id: JobArgument, store: StoreOption = None, state: StateOption = None) -> None:
    """Show a job, what it was asked for, and its last events."""
    opened = open_existing_state(settings_from(store=store, state_dir=state))
    try:
        job = opened.records.find(job_id)
        ahead = opened.records.queue_position(job.id)
        latest = opened.events.list(job.owner, job.id, Cursor(limit=10)).items
    finally:
        opened.close()
    table = Table(show_header=False, box=None)
    for name, value in _facts(job, ahead):
        table.add_row(name, value)
    Console().print(table)
    for event in reversed(latest):
        _say(Console(), event)


@app.command("follow")
def follow_job(job_id: JobArgument, store: StoreOption = None, state: StateOption = None) -> None:
    """Show a job's events from the first on, as they come; exit code 1 unless it succeeds.

    Ctrl-C ends the following and not the job.
    """
    opened = open_existing_state(settings_from(store=store, state_dir=state))
    try:
        job = _follow(opened, opened.records.find(job_id))
    finally:
        opened.close()
    if job.status != "succeeded":
        raise typer.Exit(1)


@app.command("cancel")
def cancel_job(job_id: JobArgument, store: StoreOption = None, state: StateOption = None) -> None:
    """Cancel a job; one that runs is ended by its worker within seconds."""
    opened = open_existing_state(settings_from(store=store, state_dir=state))
    try:
        job = opened.records.find(job_id)
        job = opened.records.cancel(job.owner, job.id, events=messages.cancelled(job))
        note(opened.audit, _OPERATOR, "job.cancel", job.id)
    finally:
        opened.close()
    done = "cancelled" if job.status == "cancelled" else "being cancelled"
    Console().print(f"{job.id} is {done}")


def _follow(state: State, job: Job) -> Job:
    """Print what a job tells until it is over, and return it as it is then."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress:
        bar = progress.add_task(job.status, total=None)
        number = 0
        while True:
            job = state.records.find(job.id)
            for event in _after(state, job, number):
                number = event.number
                _show(progress, bar, event)
            progress.update(bar, description=job.status)
            if job.status not in UNFINISHED:
                break
            time.sleep(_POLL_S)
    Console().print(_ending(job))
    return job


def _after(state: State, job: Job, number: int) -> Iterator[Event]:
    while events := state.events.after(job.owner, job.id, number):
        yield from events
        number = events[-1].number


def _show(progress: Progress, bar: TaskID, event: Event) -> None:
    data = event.data or {}
    if event.type == "metrics" and "step" in data and "total_steps" in data:
        step, total = int(data["step"]), int(data["total_steps"])
        told = int(10 * (progress.tasks[bar].completed or 0) / total)
        progress.update(bar, completed=step, total=total)
        if not progress.console.is_terminal and int(10 * step / total) > told:
            _say(progress.console, event)  # where no bar is seen, each tenth is told
    else:
        _say(progress.console, event)


def _say(console: Console, event: Event) -> None:
    colour = {"warn": "yellow", "error": "red"}.get(event.level)
    text = plain(event.message)
    shown = f"[{colour}]{text}[/]" if colour else text
    console.print(f"[dim]{when(event.created_at)}[/] {shown}", soft_wrap=True, highlight=False)


def _ending(job: Job) -> str:
    if job.fine_tuned_model is not None:
        return f"[green]{job.status}[/]: {plain(job.fine_tuned_model)}"
    reason = f": {plain(job.error_message)}" if job.error_message else ""
    return f"{_coloured(job)}{reason}"


def _facts(job: Job, ahead: int) -> Iterator[tuple[str, str]]:
    yield "job", f"{job.id} of {plain(job.owner)}"
    yield "status", _coloured(job) + (f", {ahead} ahead of it" if ahead else "")
    yield "base", plain(job.model)
    files = ", ".join(filter(None, (job.training_file, job.validation_file)))
    yield "files", plain(files)
    asked = job.settled or job.given
    values = ", ".join(f"{name} {value}" for name, value in asked.items())
    yield "hyperparameters", plain(values) or "auto"
    yield "created", when(job.created_at)
    if job.finished_at is not None:
        yield "finished", when(job.finished_at)
    if job.fine_tuned_model is not None:
        yield "model", plain(job.fine_tuned_model)
    if job.error is not None:
        yield "failed", f"{plain(job.error.message)} ({job.error.code})"


def _statuses(names: list[str]) -> list[Status]:
    unknown = sorted(set(names) - set(_ALL))
    if unknown:
        raise InvalidInput(f"there is no status {unknown[0][:80]!r}: give {', '.join(_ALL)}")
    return [status for status in _ALL if status in names]


def _coloured(job: Job) -> str:
    wish = {"cancel": ", to be cancelled", "pause": ", to be paused", None: ""}[job.wish]
    colour = _COLOURS.get(job.status)
    return (f"[{colour}]{job.status}[/]" if colour else job.status) + wish

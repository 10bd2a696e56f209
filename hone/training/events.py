"""What a run tells: JSON lines for programs, a progress bar for people.

Every event is one JSON object with `event` (its name) and `time` (Unix seconds). The names:
`run_started`, `data_loaded`, `settled`, `resumed`, `step`, `evaluated`, `checkpoint_saved`,
`early_stopped`, `interrupted`, `calibrated`, `scored`, `exported`, `parity`, `variant_left_out`,
`published`, `failed`; and of causal language models `conversations_loaded`, `memory_estimated`,
`memory_measured`, `sampled`, `checkpoint_published`, `checkpoint_left_out`, `text_scored`,
`model_saved`, `decoder_parity`.

`step` comes at most twice a second. The `series` of `step`, `evaluated` and `interrupted` has every
step that no event has told of yet: its number, loss, accuracy (of the batch, before the step), and
the examples and tokens read so far.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import SEEK_END
from pathlib import Path
from typing import IO, Any, Protocol

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from hone.models.errors import InvalidInput
from hone.models.measures import main_measure

Event = dict[str, Any]

HELD_BEFORE = {"cpu": "libraries and data", "cuda": "on the GPU before"}
"""What memory is called that was held before a training began, by its device."""


class Listener(Protocol):
    """Something that is told every event."""

    def __call__(self, event: Event, /) -> None:
        """Take one event; must not raise."""


class Events:
    """Sends each event to every listener. Only the main process of a run has listeners."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def emit(self, name: str, **content: Any) -> None:  # noqa: ANN401 - any JSON
        """Tell the listeners of an event."""
        event = {"event": name, "time": round(time.time(), 3), **content}
        for listener in self._listeners:
            listener(event)


def json_lines(file: IO[bytes]) -> Callable[[Event], None]:
    """Return a listener that writes events to `file`, one JSON object a line, flushed."""

    def write(event: Event) -> None:
        file.write(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        file.flush()

    return write


def open_events(path: Path) -> IO[bytes]:
    """Open a file to add events to; what a killed run left of a line becomes a line of its own."""
    try:
        file = path.open("ab")
    except OSError:
        raise InvalidInput(f"events cannot be written to {path}") from None
    if path.is_file() and file.tell():
        with path.open("rb") as written:
            written.seek(-1, SEEK_END)
            file.write(b"" if written.read(1) == b"\n" else b"\n")
    return file


def writers(stack: ExitStack, events: str | None) -> Iterator[Listener]:
    """Yield what writes events where `--events` says: a file, or `-` for standard output."""
    if events == "-":
        yield json_lines(sys.stdout.buffer)
    elif events is not None:
        yield json_lines(stack.enter_context(open_events(Path(events))))


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a file, leaving out lines that a kill cut short."""
    with path.open("rb") as file:
        for line in file:
            with suppress(orjson.JSONDecodeError):
                yield orjson.loads(line)


class Screen:
    """Shows events to a person: a bar with loss, speed and time left, and a line for the rest."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[speed]}  {task.fields[left]} left"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    @contextmanager
    def shown(self) -> Iterator["Screen"]:
        """Draw the bar while the block runs."""
        with self._progress:
            yield self

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event["event"] == "step":
            self._step(event)
            return
        line = _SENTENCES.get(event["event"])
        if line is not None:
            self._console.print(line(event), highlight=False, markup=False)

    def _step(self, event: Event) -> None:
        if self._task is None:
            self._task = self._progress.add_task(
                "", total=event["total"], epoch="", loss="", speed="", left=""
            )
        self._progress.update(
            self._task,
            completed=event["step"],
            epoch=f"{event['epoch']:.1f}",
            loss=f"{event['loss']:.3f}",
            speed=f"{event['examples_per_s']:.0f} examples/s",
            left=duration(event["seconds_left"]),
        )


def duration(seconds: float) -> str:
    """Return `42 s`, `3 min 05 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def _settled(event: Event) -> str:
    return (
        f"training: {_count(event['epochs'], 'epoch')} of "
        f"{_count(event['steps_per_epoch'], 'step')}, "
        f"batch {event['batch_size']}, learning rate {event['learning_rate']:.1e}, "
        f"{event['precision']} on {event['device']}, {_millions(event['trained_parameters'])} of "
        f"{_millions(event['all_parameters'])} parameters"
    )


def _millions(count: int) -> str:
    """Write a number of parameters in millions, unless that would be 0.0."""
    return f"{count / 1e6:.1f} M" if count >= 100_000 else f"{count:,}"


def _evaluated(event: Event) -> str:
    kept = "" if event["kept"] else " (not kept)"
    return (
        f"epoch {event['epoch']:.1f}: validation accuracy {event['accuracy']:.3f}, "
        f"loss {max(event['loss'], 0.0):.3f}{kept}"
    )


def _data_loaded(event: Event) -> str:
    rows = ", ".join(f"{name} {count}" for name, count in event["rows"].items())
    cut = event["truncated"]
    are = "text is" if cut == 1 else "texts are"
    tail = f"; {cut} {are} longer than {event['max_tokens']} tokens and cut" if cut else ""
    return f"data: {rows} rows, {_count(event['labels'], 'label')}{tail}"


def _parity(event: Event) -> str:
    verdict = "passed" if event["passed"] else "refused: " + "; ".join(event["reasons"])
    return (
        f"parity {event['variant']}: {event['equal_predictions']:.2%} equal predictions, "
        f"largest logit difference {event['largest_logit_difference']:.2g}: {verdict}"
    )


def _scored(event: Event) -> str:
    accuracy = event["accuracy"]
    return (
        f"{event['split']} {event['variant']}: accuracy {accuracy['value']:.4f} "
        f"({accuracy['low']:.4f} to {accuracy['high']:.4f}, n={accuracy['n']})"
    )


def _conversations_loaded(event: Event) -> str:
    rows = ", ".join(f"{name} {count}" for name, count in event["rows"].items())
    long = f"of more than {event['max_tokens']} tokens"
    out, cut = event["left_out"], event["truncated"]
    tail = f"; {_count(out, 'example')} {long} left out" if out else ""
    tail += f"; {_count(cut, 'example')} {long} cut" if cut else ""
    return (
        f"data: {rows} examples, {event['tokens']:,} training tokens, trained on "
        f"{event['trained_tokens']:,} of them{tail}"
    )


def _sampled(event: Event) -> str:
    first = event["samples"][0]
    return (
        f"sample at step {event['step']}: {first['prompt']!r:.100} -> {first['completion']!r:.200}"
    )


def _text_scored(event: Event) -> str:
    name, words = main_measure(event)
    found = event[name]
    return (
        f"{event['split']}: {words} {found['value']:.4f} ({found['low']:.4f} to "
        f"{found['high']:.4f}, n={found['n']}), loss {event['loss']['value']:.4f}"
    )


def _decoder_parity(event: Event) -> str:
    return (
        f"parity {event['variant']}: {event['equal_continuations']:.1%} equal continuations, "
        f"{event['equal_tokens']:.2%} equal next tokens, largest logit difference "
        f"{event['largest_logit_difference']:.2g}: passed"
    )


def _memory_estimated(event: Event) -> str:
    names = {"before": HELD_BEFORE[event["device"]]}
    parts = ", ".join(
        f"{names.get(part, part)} {event[part] / 1e6:,.0f}"
        for part in ("before", "weights", "gradients", "optimizer", "activations", "kernels")
    )
    return f"memory: about {event['total'] / 1e6:,.0f} MB ({parts})"


def _interrupted(event: Event) -> str:
    where = event.get("during") or f"at step {event['step']}"
    return f"interrupted {where}; the same command goes on"


_SENTENCES: dict[str, Callable[[Event], str]] = {
    "run_started": lambda e: f"run: {e['folder']}",
    "data_loaded": _data_loaded,
    "settled": _settled,
    "probing": lambda e: (
        f"probe: a head on the frozen features of {_millions(e['all_parameters'])} parameters"
    ),
    "features_computed": lambda e: f"features: {e['features']} of each of {e['rows']:,} pictures",
    "probed": lambda e: (
        f"penalty {e['penalty']:g}: validation accuracy {e['scores']['accuracy']:.3f}, "
        f"loss {max(e['loss'], 0.0):.3f}"
    ),
    "quantized": lambda e: f"quantized; left in fp32: {e['left_out']}",
    "resumed": lambda e: f"resumed at step {e['step']} from the last checkpoint",
    "evaluated": _evaluated,
    "early_stopped": lambda e: f"stopped early: no gain for {e['patience']} evaluations",
    "interrupted": _interrupted,
    "calibrated": lambda e: (
        f"calibrated: temperature {e['temperature']:.3f}, "
        f"expected calibration error {e['ece_before']:.3f} -> {e['ece_after']:.3f}"
    ),
    "scored": _scored,
    "exported": lambda e: f"exported {e['variant']}: {e['bytes'] / 1e6:.1f} MB",
    "parity": _parity,
    "variant_left_out": lambda e: f"left out {e['variant']}: {e['reason']}",
    "conversations_loaded": _conversations_loaded,
    "memory_estimated": _memory_estimated,
    "memory_measured": lambda e: (
        f"memory: {e['peak'] / 1e6:,.0f} MB at the peak, {e['estimate'] / 1e6:,.0f} MB estimated"
    ),
    "sampled": _sampled,
    "checkpoint_published": lambda e: (
        f"checkpoint: {e['model']}@{e['version']}, in {e['seconds']:g} s"
    ),
    "checkpoint_left_out": lambda e: f"checkpoint {e['step']} left out: {e['reason']}",
    "text_scored": _text_scored,
    "model_saved": lambda e: f"trained model in {e['folder']}",
    "decoder_parity": _decoder_parity,
    "base_provided": lambda e: f"the adapter's base: {e['model']}@{e['version']}",
    "published": lambda e: f"published {e['model']}@{e['version']} in {e['folder']}",
}

"""A stand-in for `hone prepare` and `hone train` that takes no time and does what a test wants.

The environment says what: FAKE_ACTS is a list of acts separated by commas, one for each start of
the training of a job (the last one for all later starts); FAKE_STEPS and FAKE_STEP_S. Starts are
written into FAKE_LOG. A version that it publishes is an empty folder with a file's name in it.

It imports nothing of ours, so that it starts at once.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

LABELS = ("no", "yes")


class Stopped(Exception):
    pass


def stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def prepare(words: list[str]) -> None:
    out = Path(words[words.index("--out") + 1])
    rows = len(Path(words[0]).read_text().splitlines())
    act = os.environ.get("FAKE_PREPARE", "")
    if act == "refuse":
        sys.exit("error: only the class 'yes' is left")
    time.sleep(float(act or 0))
    report = {
        "counts": {"read": rows, "dropped": {"duplicate": 2}, "kept": rows - 2},
        "splits": {
            "train": {"rows": rows - 8}, "validation": {"rows": 3}, "test": {"rows": 3},
        },
        "labels": [{"label": label} for label in LABELS],
        "problems": json.loads(os.environ.get("FAKE_PROBLEMS", "[]")),
        "prompt_form": {"stop": ""},
    }  # fmt: skip
    out.mkdir()
    (out / "report.json").write_text(json.dumps(report))


class Training:
    def __init__(self, words: list[str]) -> None:
        pairs = (word.partition("=") for word in words if "=" in word)
        self.values: dict[str, str] = {key: json.loads(value) for key, _, value in pairs}
        self.events = Path(words[words.index("--events") + 1])
        self.runs = Path(self.values["saving.runs"])
        self.runs.mkdir(exist_ok=True)
        self.steps = int(os.environ.get("FAKE_STEPS", "4"))

    def emit(self, event: str, **content: object) -> None:
        line = json.dumps({"event": event, "time": time.time(), **content}) + "\n"
        with self.events.open("a") as file:
            file.write(line)

    def run(self) -> None:
        act, first = self._act(), self._step()
        self._log(act, first)
        self.emit("run_started", folder="/a/secret/path")
        self.emit("settled", epochs=2.0, batch_size=8, steps_per_epoch=self.steps / 2,
                  learning_rate=1e-4)  # fmt: skip
        if act == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        try:
            for step in range(first + 1, self.steps + 1):
                self._one_step(step)
                if step == first + 2:
                    self._fail(act)
        except Stopped:
            self.emit("interrupted", step=self._step(), series=[])
            sys.exit(75)
        self._fail(act)
        self._publish()

    def _act(self) -> str:
        acts = os.environ.get("FAKE_ACTS", "ok").split(",")
        told = self.events.read_text() if self.events.exists() else ""
        starts = told.count('"run_started"')
        return acts[min(starts, len(acts) - 1)]

    def _step(self) -> int:
        path = self.runs / "step"
        return int(path.read_text()) if path.exists() else 0

    def _log(self, act: str, first: int) -> None:
        with Path(os.environ["FAKE_LOG"]).open("a") as log:
            log.write(f"{self.values['saving.name']} {first} {os.getpid()} {os.getppid()} {act}\n")

    def _one_step(self, step: int) -> None:
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0.01")))
        self.emit("step", step=step, total=self.steps, loss=1 / step, seconds_left=1.0,
                  series=[[step, 1 / step, 0.5, step * 8, step * 80]])  # fmt: skip
        if step % (self.steps // 2) == 0:
            epoch = 2 * step / self.steps
            self.emit("evaluated", step=step, epoch=epoch, loss=0.25, accuracy=0.75, series=[])
        beside = self.runs / "step.new"
        beside.write_text(str(step))
        beside.rename(self.runs / "step")

    def _fail(self, act: str) -> None:
        match act.split(":"):
            case ["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["failed", code]:
                self.emit("failed", code=code, message="words of /some/library")
                sys.exit("error: words of /some/library")
            case ["status", status]:
                sys.exit(int(status))
            case ["say", words]:
                sys.exit(f"Traceback (most recent call last):\n{words}")
            case ["abort"]:
                os.abort()

    def _publish(self) -> None:
        names = ("accuracy", "precision", "recall", "auroc", "auprc", "weighted_f1", "f1.5")
        scores = {name: {"value": 0.9, "low": 0.8, "high": 1.0, "n": 10} for name in names}
        self.emit("scored", split="validation", variant="fp32", **scores)
        model = Path(self.values["saving.store"]) / self.values["saving.name"]
        model.mkdir(parents=True, exist_ok=True)
        versions = [int(path.name) for path in model.iterdir() if path.name.isdigit()]
        version = max(versions, default=0) + 1
        (model / str(version)).mkdir()
        self.emit("published", model=model.name, version=version)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    command, *arguments = sys.argv[1:]
    if command == "prepare":
        prepare(arguments)
    else:
        Training(arguments).run()

"""Who is measured, and how each is started and asked."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import own_python, peer_python, peer_version
from benchmarks.load import Requests, ask, get
from benchmarks.machine import versions
from benchmarks.processes import Server, free_port, running
from benchmarks.served import BUILD, ServedModel
from benchmarks.session import MODEL_VARIABLE, VARIANT_VARIABLE, WORKERS_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
VENVS = BUILD / "venvs"
LOGS = BUILD / "logs"


class NotMeasurable(Exception):
    """A contestant cannot take part here; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of `benchmarks.peers`.

    `arguments` has `{port}` where the port goes. `package` is installed in an environment of its
    own; None is ours. `as_documented` tells a server in the form of its own documents' example
    from one that was given our session.
    """

    name: str
    module: str
    path: str
    arguments: tuple[str, ...]
    package: str | None
    as_documented: bool


PEERS = (
    Peer("fastapi+pipeline", "fastapi_pipeline", "/classify", ("{port}",), None, True),
    Peer("litserve", "litserve_torch", "/predict", ("{port}",), "litserve", True),
    Peer("litserve+session", "litserve_onnx", "/predict", ("{port}",), "litserve", False),
    *(
        Peer(
            name,
            module,
            "/inference",
            ("--address", "127.0.0.1", "--port", "{port}", "--log-level", "error"),
            "mosec",
            as_documented,
        )
        for name, module, as_documented in (
            ("mosec", "mosec_torch", True),
            ("mosec+session", "mosec_onnx", False),
        )
    ),
)


class Contestant:
    """A server that can be started, and asked for the label of a text."""

    def __init__(self, name: str, variant: str, path: str) -> None:
        self.name = name
        self.variant = variant
        self.path = path
        self.version = ""

    def start(self, port: int) -> AbstractContextManager[Server]:
        """Run the server on a port until the block ends; it is ready when the block begins."""
        raise NotImplementedError

    def body(self, text: str) -> bytes:
        """Return the body of a request for one text."""
        return json.dumps({"input": text}).encode()

    def label(self, answer: bytes) -> str:
        """Return the best label of an answer."""
        return str(json.loads(answer)["label"])

    def requests(self, port: int, texts: Sequence[str]) -> Requests:
        """Return what to send for these texts."""
        return Requests(port, self.path, [self.body(text) for text in texts])

    def first_labels(self, port: int, texts: Sequence[str]) -> list[str]:
        """Ask for each text and return the labels; NotMeasurable if any has no answer."""
        requests = self.requests(port, texts)
        answers = [ask(requests, body) for body in requests.bodies]
        failed = [body for status, body in answers if status != 200]
        if failed:
            raise NotMeasurable(f"it does not answer: {failed[0][:200].decode(errors='replace')}")
        return [self.label(body) for _, body in answers]


class Hone(Contestant):
    """Our service, with one variant of the model."""

    def __init__(self, model: ServedModel, variant: str, layouts_folder: Path) -> None:
        super().__init__(f"hone {variant}", variant, "/v1/classify")
        self.version = versions(["hone"]).get("hone", "")
        self._model = model
        self._layouts_folder = layouts_folder

    def start(self, port: int) -> AbstractContextManager[Server]:
        """Run `hone serve` until the block ends."""
        command = [sys.executable, "-m", "hone", "serve", self._model.bundle.manifest.model]
        command += ["--store", str(self._model.store), "--variant", self.variant]
        command += ["--port", str(port), "--drain-delay", "0"]
        return running(
            command,
            port=port,
            is_ready=lambda port: get(port, "/readyz")[0] == 200,
            log=LOGS / f"{self.name}.log".replace(" ", "-"),
            environment={"HONE_STATE_DIR": str(self._layouts_folder)},
            cwd=ROOT,
        )

    def layout(self, port: int) -> str:
        """Return the layout that the service found to be the fastest."""
        _, body = get(port, f"/v1/models/{self._model.name}")
        return str(json.loads(body)["layout"])

    def body(self, text: str) -> bytes:
        """Return the body of a request for one text."""
        return json.dumps({"model": self._model.name, "input": text}).encode()

    def label(self, answer: bytes) -> str:
        """Return the best label of an answer."""
        return str(json.loads(answer)["data"][0]["label"])


class PeerServer(Contestant):
    """One of `PEERS`, on the same model; NotInstalled or NotMeasurable if it cannot be."""

    def __init__(self, peer: Peer, model: ServedModel, workers: int) -> None:
        variant = "fp32" if peer.as_documented else model.variants[0]
        super().__init__(peer.name, variant, peer.path)
        self.peer = peer
        if peer.as_documented and not model.runs_in_torch:
            raise NotMeasurable("the bundle keeps no weights that torch could run")
        if peer.package is None:
            self._python = own_python()
            self.version = versions(["fastapi"])["fastapi"]
        else:
            self._python = peer_python(peer.package, VENVS)
            self.version = peer_version(peer.package, VENVS)
        self._environment = {
            MODEL_VARIABLE: str(model.description),
            VARIANT_VARIABLE: variant,
            WORKERS_VARIABLE: str(workers),
            "TOKENIZERS_PARALLELISM": "false",
            "PATH": f"{self._python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def start(self, port: int) -> AbstractContextManager[Server]:
        """Run the peer until the block ends."""
        arguments = [argument.format(port=port) for argument in self.peer.arguments]
        return running(
            [str(self._python), "-m", f"benchmarks.peers.{self.peer.module}", *arguments],
            port=port,
            is_ready=self._answers,
            log=LOGS / f"{self.name}.log",
            environment=self._environment,
            cwd=ROOT,
        )

    def _answers(self, port: int) -> bool:
        requests = self.requests(port, ["Is anybody there?"])
        return ask(requests, requests.bodies[0])[0] == 200


@contextlib.contextmanager
def started(contestant: Contestant) -> Iterator[Server]:
    """Run a contestant on a free port until the block ends."""
    with contestant.start(free_port()) as server:
        yield server

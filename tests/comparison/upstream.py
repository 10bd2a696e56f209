"""A stand-in for a hosted model: a real HTTP server whose answers depend on what it is sent.

It reads the examples, the label names and the question out of the prompt and answers with the
label of the example that shares most words with the question, or of the label whose name does.
Then it errs, refuses, chats, delays and breaks, as it is told to: by rates that a seed fixes for
each request, or by a script for the next requests. It reports `usage`, with a prompt cache.
"""

import hashlib
import json
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.comparison.picture_prompts import PICTURE_TOKENS, in_words, pictures_in

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LISTED = re.compile(r"^- ([^:\n]+)(?:: .*)?$", re.MULTILINE)
_SHOT = re.compile(r"Text: (.*)\nLabel: (\S.*)")
_ASKED = re.compile(r"Text: (.*)\nLabel:\s*\Z")
CACHE_BLOCK = 64
"""Tokens of a prompt are cached in blocks of so many, as hosted APIs do it."""


@dataclass
class Behaviour:
    """How the upstream answers. Rates are shares of all requests, decided by the seed.

    `script` has what the next requests get, one each: `answer`, `refuse`, `filter`, `explain`,
    `garble`, `status:CODE[:RETRY_AFTER]`, `cut`, `malformed`, `endless`, `shapeless`, `hang`, or
    `say:TEXT`.
    """

    seed: int = 0
    wrong: float = 0.0
    refuses: float = 0.0
    explains: float = 0.0
    garbles: float = 0.0
    fails: float = 0.0
    delay_s: float = 0.0
    key: str | None = None
    usage: bool = True
    logprobs: bool = True
    echo_key: bool = False
    script: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Served:
    """One request with what it got: status 0 is a connection that was cut."""

    path: str
    body: dict[str, Any]
    status: int
    answer: dict[str, Any] | None
    key: str | None


@dataclass
class Upstream:
    """A running stand-in; `served` has every request, `busiest` how many ran at once."""

    behaviour: Behaviour
    port: int = 0
    served: list[Served] = field(default_factory=list)
    running: int = 0
    connections: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: Counter[str] = field(default_factory=Counter)
    cached: set[str] = field(default_factory=set)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Return every answer that was sent whole, as it was sent."""
        return [one.answer for one in self.served if one.status == 200 and one.answer]

    def settle(self) -> None:
        """Return once no connection is left of clients that have gone.

        What a killed client had sent is still read, and noted in `served`, after its death. By
        the time that a request of our own is answered, all of its connections are accepted.
        """
        ours = HTTPConnection("127.0.0.1", self.port)
        ours.request("GET", "/")
        ours.getresponse().read()
        ours.close()
        deadline = time.monotonic() + 60
        while self.connections:
            assert time.monotonic() < deadline, f"{self.connections} connections are left"
            time.sleep(0.001)

    def action(self, content: bytes) -> str:
        """Return what this request gets."""
        with self.lock:
            if self.behaviour.script:
                return self.behaviour.script.pop(0)
            self.seen[digest := hashlib.sha256(content).hexdigest()] += 1
            attempt = self.seen[digest]
        b = self.behaviour
        if self._drawn(f"fails {attempt} {digest}") < b.fails:
            kinds = ("status:500", "status:429:0", "cut", "malformed")
            return kinds[int(self._drawn(f"kind {attempt} {digest}") * len(kinds))]
        rates = (("refuse", b.refuses), ("explain", b.explains), ("garble", b.garbles))
        drawn = self._drawn(f"manner {digest}")
        for action, rate in rates:
            if drawn < rate:
                return action
            drawn -= rate
        return "answer"

    def choose(self, body: dict[str, Any]) -> str:
        """Return the label that the prompt leads to, or another one where it errs."""
        system, question, shots, labels = read_prompt(body)
        del system
        best = nearest_label(question, tuple(shots), tuple(labels))
        if self._drawn(f"wrong {question}") < self.behaviour.wrong and len(labels) > 1:
            others = [label for label in labels if label != best]
            return others[int(self._drawn(f"which {question}") * len(others))]
        return best

    def usage(self, body: dict[str, Any], answer: str) -> dict[str, Any]:
        """Return the tokens of a request, those of a prefix seen before as cached."""
        tokens = _TOKEN.findall(prompt_text(body))
        blocks = ["\n".join(tokens[:end]) for end in range(CACHE_BLOCK, len(tokens), CACHE_BLOCK)]
        digests = [hashlib.sha256(block.encode()).hexdigest() for block in blocks]
        with self.lock:
            hits = sum(1 for digest in digests if digest in self.cached)
            self.cached.update(digests)
        prompt, said = len(tokens) + PICTURE_TOKENS * len(pictures_in(body)), _TOKEN.findall(answer)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": len(said),
            "total_tokens": prompt + len(said),
            "prompt_tokens_details": {"cached_tokens": hits * CACHE_BLOCK},
        }

    def _drawn(self, what: str) -> float:
        digest = hashlib.sha256(f"{self.behaviour.seed} {what}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def prompt_text(body: dict[str, Any]) -> str:
    """Return everything that a request sends for the model to read."""
    if "messages" in body:
        return "\n".join(f"{m['role']}: {in_words(m['content'])}" for m in body["messages"])
    if "prompt" in body:
        return str(body["prompt"])
    questions = json.dumps(body.get("questions", []))
    return f"{questions}\n{body['input']}" if body.get("questions") else in_words(body["input"])


def read_prompt(
    body: dict[str, Any],
) -> tuple[str, str, list[tuple[str, str]], list[str]]:
    """Return instruction, question, examples and labels, as a reader would find them."""
    shots: list[tuple[str, str]] = []
    if "messages" in body:
        messages = body["messages"]
        system = "\n".join(m["content"] for m in messages if m["role"] == "system")
        turns = [in_words(m["content"]) for m in messages if m["role"] != "system"]
        shots += list(zip(turns[:-1:2], turns[1::2], strict=False))
        question = turns[-1]
    elif "questions" in body:
        system, question = body["questions"][0]["instructions"], body["input"]
    else:
        system, question = "", in_words(body.get("prompt", body.get("input", "")))
    whole = f"{system}\n\n{question}"
    shots += _SHOT.findall(whole)
    labels = _LISTED.findall(whole) or sorted({label for _, label in shots})
    if "questions" in body:
        labels = [choice["value"] for choice in body["questions"][0]["choices"]]
    asked = _ASKED.search(question)
    return system, asked[1] if asked else question, shots, labels


@lru_cache(maxsize=100_000)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold().replace("_", " ")))


@lru_cache(maxsize=8)
def _weights(shots: tuple[tuple[str, str], ...]) -> dict[str, float]:
    """Return how telling a word is: rare among the examples, and so about their labels."""
    counts = Counter(word for text, _ in shots for word in _words(text))
    return defaultdict(lambda: 1.0, {word: 1.0 / count for word, count in counts.items()})


def nearest_label(
    question: str, shots: tuple[tuple[str, str], ...], labels: tuple[str, ...]
) -> str:
    """Return the label of the example that shares most with a question, or that is named so."""
    asked = _words(question)
    best, most = "", 0.0
    weights = _weights(shots) if shots else {}
    for text, label in shots:
        words = _words(text)
        shared = sum(weights[word] for word in words & asked) / (1 + len(words)) ** 0.5
        if shared > most:
            best, most = label, shared
    if best:
        return best
    ranked = sorted(labels, key=lambda label: (-len(_words(label) & asked), label))
    return ranked[0] if ranked else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream: Upstream

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        pass

    def do_POST(self) -> None:
        upstream = self.upstream
        with upstream.lock:
            upstream.running += 1
            upstream.busiest = max(upstream.busiest, upstream.running)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._serve(self.rfile.read(int(self.headers["Content-Length"])))
        finally:
            with upstream.lock:
                upstream.running -= 1

    def _serve(self, content: bytes) -> None:
        upstream, behaviour = self.upstream, self.upstream.behaviour
        body = json.loads(content)
        if behaviour.key is not None and self._key() != behaviour.key:
            message = f"Incorrect API key provided: {self._key()}"
            return self._error(body, 401, code="invalid_api_key", message=message)
        if behaviour.delay_s:
            time.sleep(behaviour.delay_s)
        action, _, rest = upstream.action(content).partition(":")
        if action == "status":
            status, _, wait = rest.partition(":")
            return self._error(body, int(status), wait=wait)
        if action == "filter":
            return self._error(body, 400, code="content_filter")
        if action in {"cut", "malformed", "endless", "hang"}:
            return self._broken(body, action)
        if action == "shapeless":
            return self._answer(body, {"usage": upstream.usage(body, ""), "choices": []})
        text = {
            "refuse": "I'm sorry, I can't help with that.",
            "garble": "¯\\_(ツ)_/¯",
            "say": rest,
        }.get(action) or upstream.choose(body)
        if action == "explain" and self.path.endswith("/completions"):
            text = f"I would say this is about {text}, because of its wording."
        return self._answer(body, self._body(body, text, refused=action == "refuse"))

    def _body(self, body: dict[str, Any], text: str, *, refused: bool) -> dict[str, Any]:
        behaviour = self.upstream.behaviour
        usage = self.upstream.usage(body, text)
        told = {"usage": usage} if behaviour.usage else {}
        if behaviour.echo_key:
            told["seen"] = {"authorization": self.headers.get("Authorization")}
        if self.path.endswith("/classify"):
            entry = {"index": 0, "label": text, "confidence": 0.9, "scores": []}
            return {"object": "list", "model": body["model"], "data": [entry], **told}
        if self.path.endswith("/decisions"):
            answer: dict[str, Any] = {"type": "choice", "choice": text, "confidence": 0.8}
            if refused:
                answer = {"type": "refusal", "name": None}
            names = {"input_tokens": usage["prompt_tokens"], "output_tokens": 0}
            return {"answers": [answer], **(told | {"usage": names} if told else {})}
        finish = "stop"
        if self.path.endswith("/chat/completions"):
            tokens = [{"token": text, "logprob": -0.25, "top_logprobs": []}]
            message = {"role": "assistant", "content": text, "refusal": None}
            told_of = {"content": tokens} if body.get("logprobs") else None
            choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": told_of}
            return {"choices": [choice], **told}
        logprobs = {"token_logprobs": [-0.25], "tokens": [text]} if body.get("logprobs") else None
        plain = {"index": 0, "text": f" {text}", "finish_reason": finish, "logprobs": logprobs}
        return {"choices": [plain], **told}

    def _key(self) -> str | None:
        given = self.headers.get("Authorization")
        return given.removeprefix("Bearer ") if given else None

    def _answer(self, body: dict[str, Any], answer: dict[str, Any]) -> None:
        self._note(body, 200, answer)
        self._send(200, json.dumps(answer).encode())

    def _error(
        self,
        body: dict[str, Any],
        status: int,
        *,
        wait: str = "",
        code: str = "",
        message: str = "",
    ) -> None:
        error = {"message": message or "no", "type": "some_error", "param": None, "code": code}
        self._note(body, status, None)
        headers = {"Retry-After": wait} if wait else {}
        self._send(status, json.dumps({"error": error}).encode(), headers)

    def _broken(self, body: dict[str, Any], action: str) -> None:
        self._note(body, 200 if action == "malformed" else 0, None)
        if action == "malformed":
            return self._send(200, b'{"choices": [{"message": ')
        if action == "hang":
            self.upstream.closing.wait(60)
        if action == "endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
            while not self.upstream.closing.is_set():
                self.wfile.write(piece)
        self.close_connection = True
        return None

    def _note(self, body: dict[str, Any], status: int, answer: dict[str, Any] | None) -> None:
        with self.upstream.lock:
            self.upstream.served.append(Served(self.path, body, status, answer, self._key()))

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256  # more than connect at once: else the kernel lets them wait a second
    upstream: Upstream

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.upstream.lock:
            self.upstream.connections += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self.upstream.lock:
                self.upstream.connections -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a killed client's is no news
            super().handle_error(request, client_address)


@contextmanager
def upstream(behaviour: Behaviour | None = None, script: Sequence[str] = ()) -> Iterator[Upstream]:
    """Run a stand-in on a free port until the block ends."""
    running = Upstream(behaviour or Behaviour())
    running.behaviour.script += script
    handler = type("Handler", (_Handler,), {"upstream": running})
    server = _Server(("127.0.0.1", 0), handler)
    server.upstream = running
    running.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        running.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()

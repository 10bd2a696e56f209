"""The demo: examples -> checked -> fine-tuned -> served -> asked, with the commands a person types.

Run by `make demo`. Everything it makes lies in build/demo. It ends the server that it starts.
"""

import json
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

BUILD = Path("build/demo")
HONE = Path(sys.executable).parent / "hone"
QUESTIONS = [
    "where is my parcel?? it said tuesday",
    "u charged my card twice for the same order",
    "the mug arrived in pieces",
    "pls stop my monthly box, i dont use it any more",
]


def main() -> None:
    """Run the whole way once."""
    started = time.monotonic()
    store = BUILD / "store"
    show("1. Check and split the examples")
    hone("prepare", "examples/support/support.csv", "--yes", "--out", str(BUILD / "data"))
    show("2. Fine-tune, export to ONNX, hold against the trained model, publish")
    places = [f"dataset.path={BUILD / 'data'}", f"saving.store={store}"]
    hone("train", "demo", *places, f"saving.runs={BUILD / 'runs'}")
    show("3. Serve it")
    port = free_port()
    server = subprocess.Popen([HONE, "serve", "--store", store, "--port", str(port)])
    try:
        wait_until_ready(port, server)
        show("4. Ask it")
        for question in QUESTIONS:
            ask(port, question)
        show("5. What it saved so far, from /metrics")
        print_savings(port)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
    show("6. What there is to look at")
    print(f"  the data's report   {BUILD / 'data' / 'report.html'}")
    for card in sorted((BUILD / "runs").glob("*/card.html")):
        print(f"  the model card      {card}")
    print(f"  serve it yourself   {HONE} serve --store {store}")
    print(f"\ndone in {time.monotonic() - started:.0f} s")


def show(title: str) -> None:
    """Print a heading."""
    print(f"\n=== {title}", flush=True)


def hone(*arguments: str) -> None:
    """Print and run a hone command; stop the demo if it fails."""
    print(f"$ hone {shlex.join(arguments)}", flush=True)
    status = subprocess.run([HONE, *arguments], check=False).returncode
    if status:
        raise SystemExit(
            f"hone {arguments[0]} ended with status {status}; make demo goes on from there"
        )


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait for /readyz; stop the demo if the server ends or a minute passes."""
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("the server ended before it was ready")
        try:
            get(port, "/readyz")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    sys.exit("the server was not ready within a minute")


def get(port: int, path: str, body: bytes | None = None) -> bytes:
    """Return the answer to a GET, or to a POST of JSON."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: bytes = response.read()
    return answer


def ask(port: int, question: str) -> None:
    """Ask for one text's label and print it with the tokens saved."""
    body = json.dumps({"model": "support", "input": question, "top_k": 1}).encode()
    began = time.perf_counter()
    answer = json.loads(get(port, "/v1/classify", body))
    milliseconds = 1000 * (time.perf_counter() - began)
    best, savings = answer["data"][0], answer["savings"]
    print(f"  {question}")
    print(
        f"    -> {best['label']} ({best['confidence']:.0%}) in {milliseconds:.1f} ms; the prompt "
        f"would have been {savings['baseline_prompt_tokens']} tokens, "
        f"{savings['tokens_saved']} saved ({savings['method']})"
    )


def print_savings(port: int) -> None:
    """Print the metrics that count what was saved."""
    for line in get(port, "/metrics").decode().splitlines():
        if line.startswith("hone_") and "saved" in line and "_created" not in line:
            print(f"  {line}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; `make demo` again goes on with the training where it was")

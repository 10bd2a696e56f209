"""Does the service stand still while a large file comes in? Stalls, and memory.

    python -m benchmarks.jobs.upload_stalls --megabytes 500

Uploads a file of chat examples for `fine-tune` over loopback and asks `/livez` every 5 ms on
another connection, until the file has been received, hashed and checked line by line. A request
that took longer than 50 ms is a stall. As the machine itself may stand still, the same requests
go to a second service that nothing is uploaded to, at the same moments: its stalls are the
machine's. Prints one JSON line.
"""

import argparse
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.jobs.probe import watched
from benchmarks.jobs.service import service
from benchmarks.machine import describe_machine, now
from benchmarks.processes import Server

_BOUNDARY = "a-limit-that-no-example-holds"
_PIECE = 2**20


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "asked"), Path(folder, "idle")
        with service(first, run_jobs="false") as asked, service(second, run_jobs="false") as idle:
            result = measure(asked, idle, options.megabytes * 10**6)
    print(json.dumps({"date": now(), "machine": describe_machine(), **result}))
    sys.exit(result["asked"]["stalls"] > 0)


def measure(asked: Server, idle: Server, size: int) -> dict[str, Any]:
    """Upload about `size` bytes to one of two services, and return what both probes saw."""
    before = peak = asked.resident_mib()
    uploaded: dict[str, Any] = {}
    upload = threading.Thread(target=lambda: uploaded.update(_upload(asked.port, size)))
    started = time.monotonic()
    with watched(asked=asked.port, idle=idle.port) as seen:
        upload.start()
        while upload.is_alive():
            peak = max(peak, asked.resident_mib())
            time.sleep(0.05)
    return {
        **uploaded,
        "seconds": round(time.monotonic() - started, 1),
        "resident_mib_before": round(before),
        "resident_mib_peak": round(peak),
        **seen,
    }


def _upload(port: int, size: int) -> dict[str, Any]:
    """Send the form, and wait until the file has been checked."""
    head, tail = _form()
    lines = _lines(size)
    length = len(head) + sum(map(len, lines)) + len(tail)
    with socket.create_connection(("127.0.0.1", port), timeout=600) as connection:
        connection.sendall(
            f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n"
            f"content-type: multipart/form-data; boundary={_BOUNDARY}\r\n\r\n".encode()
        )
        started = time.monotonic()
        for piece in (head, *lines, tail):
            connection.sendall(piece)
        file = _answer(connection)
        received_s = time.monotonic() - started
        while file["status"] == "uploaded":
            time.sleep(0.2)
            connection.sendall(
                f"GET /v1/files/{file['id']} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
            )
            file = _answer(connection)
    if file["status"] != "processed":
        raise SystemExit(f"the file was not taken: {file}")
    return {"bytes": file["bytes"], "seconds_to_received": round(received_s, 1)}


def _form() -> tuple[bytes, bytes]:
    part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="'
    file = f'{part}file"; filename="big.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
    return (
        f'{part}purpose"\r\n\r\nfine-tune\r\n{file}'.encode(),
        f"\r\n--{_BOUNDARY}--\r\n".encode(),
    )


def _lines(size: int) -> list[bytes]:
    """Return about `size` bytes of examples, the same megabyte again and again."""
    piece = b"".join(_examples())
    return [piece] * max(1, size // len(piece))


def _examples() -> Iterator[bytes]:
    made = number = 0
    while made < _PIECE:
        number += 1
        question = f"Message {number}: my parcel has not come yet, " + "and I am waiting " * 8
        turns = [("system", "Route it."), ("user", question), ("assistant", f"queue {number % 20}")]
        messages = [{"role": role, "content": content} for role, content in turns]
        line = json.dumps({"messages": messages}).encode() + b"\n"
        made += len(line)
        yield line


def _answer(connection: socket.socket) -> dict[str, Any]:
    received = b""
    while True:
        head, separator, body = received.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"]
        if separator and lengths and len(body) >= int(lengths[0][15:]):
            answer: dict[str, Any] = json.loads(body)
            return answer
        part = connection.recv(65536)
        if not part:
            raise SystemExit(f"the service closed: {received[:300]!r}")
        received += part


if __name__ == "__main__":
    main()

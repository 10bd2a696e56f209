"""One training process: tied to its parent, stopped in order, its events read as they come."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hone.service.jobs.errors import DiskFull, StoreFailed
from hone.service.jobs.trainer import (
    KEPT_ERRORS_BYTES,
    Command,
    EventTail,
    Trainer,
    folder_lock,
    python_module,
)
from hone.service.jobs.workplace import Workplace
from tests.service.jobs.running_jobs import alive, sleep_until_ended
from tests.service.running import ROOT, wait_until


def start(folder: Path, code: str) -> Trainer:
    with folder_lock(folder) as lock:
        assert lock is not None
        return Trainer.start(Command([sys.executable, "-c", code], folder, 2, 3), lock)


def ended(trainer: Trainer) -> int:
    wait_until(lambda: trainer.poll() is not None, timeout_s=60)
    status = trainer.poll()
    assert status is not None
    return status


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_it_gives_its_status_and_the_end_of_what_it_said(tmp_path: Path) -> None:
    code = "import sys; sys.stderr.write('x' * 20_000 + 'the end'); sys.exit(3)"
    trainer = start(tmp_path, code)
    assert ended(trainer) == 3
    assert len(trainer.errors()) == KEPT_ERRORS_BYTES
    assert trainer.errors().endswith("the end")


def test_what_it_says_takes_no_more_than_a_megabyte_of_disk(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "sys.stderr.write('x' * 3_000_000); sys.stderr.flush(); time.sleep(1.5)\n"
        "sys.stderr.write('the end')"
    )
    trainer = start(tmp_path, code)
    assert ended(trainer) == 0
    assert trainer.errors().endswith("the end")
    assert (tmp_path / "stderr.txt").stat().st_size < 2**20


def test_a_stop_asks_first_and_kills_later(tmp_path: Path) -> None:
    listens = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(75))\nprint()\n"
    ready = f"open({str(tmp_path / 'ready')!r}, 'w')\n"
    trainer = start(tmp_path, listens + ready + "time.sleep(60)")
    wait_until((tmp_path / "ready").exists)
    trainer.stop(30)
    assert ended(trainer) == 75

    (tmp_path / "ready").unlink()
    deaf = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\n"
    trainer = start(tmp_path, deaf + ready + "time.sleep(60)")
    wait_until((tmp_path / "ready").exists)
    trainer.stop(0.2)
    assert trainer.poll() is None
    assert ended(trainer) == -signal.SIGKILL


def test_a_stop_reaches_what_it_has_started_too(tmp_path: Path) -> None:
    child = "import subprocess, time\np = subprocess.Popen(['sleep', '60'])\n"
    code = f"{child}open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid) + '\\n')\ntime.sleep(60)"
    trainer = start(tmp_path, code)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    trainer.kill()
    sleep_until_ended(int((tmp_path / "pid").read_text()))


def test_only_one_process_at_a_time_runs_in_a_folder(tmp_path: Path) -> None:
    trainer = start(tmp_path, "import time; time.sleep(60)")
    with folder_lock(tmp_path) as lock:
        assert lock is None
    trainer.kill()
    with folder_lock(tmp_path) as lock:
        assert lock is not None


def test_a_folder_that_is_not_there_is_trouble_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed), folder_lock(tmp_path / "nowhere"):
        pass


PARENT = """
import os, sys, time
from pathlib import Path
from hone.service.jobs.trainer import Command, Trainer, folder_lock
folder = Path(sys.argv[1])
code = (
    "import signal, sys, time\\n"
    f"def stop(*_): open({str(folder / 'stopped')!r}, 'w'); sys.exit(75)\\n"
    "signal.signal(15, stop)\\n"
    f"open({str(folder / 'ready')!r}, 'w')\\n"
    "time.sleep(60)"
)
with folder_lock(folder) as lock:
    trainer = Trainer.start(Command([sys.executable, "-c", code], folder, 1, 0), lock)
print(trainer.pid, flush=True)
time.sleep(60)
"""


def test_it_is_asked_to_end_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    wait_until((tmp_path / "ready").exists, timeout_s=60)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    sleep_until_ended(pid)
    assert (tmp_path / "stopped").exists()


def test_one_whose_parent_is_dead_already_does_not_begin(tmp_path: Path) -> None:
    somebody = subprocess.Popen(["true"])
    somebody.wait()
    argv = python_module("hone.models.leash", str(somebody.pid), "SIGTERM", "0")
    mark = tmp_path / "ran"
    done = subprocess.run([*argv, "/bin/touch", str(mark)], cwd=ROOT, check=False)
    assert done.returncode == 75
    assert not mark.exists()


def test_events_are_read_as_they_come_and_a_cut_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    lines = [json.dumps({"event": "step", "step": n}) for n in range(3)]
    path.write_text(f"{lines[0]}\n{lines[1][:9]}")
    assert [event["step"] for event in tail.read()] == [0]
    with path.open("a") as file:
        file.write(f"{lines[1][9:]}\n" + '{"event": "st\n' + '[1]\n{"step": 4}\n' + lines[2])
    assert [event["step"] for event in tail.read()] == [1]
    with path.open("a") as file:
        file.write("\n")
    assert [event["step"] for event in tail.read()] == [2]
    assert tail.read() == []


def test_a_job_that_finds_no_room_for_its_files_says_so(tmp_path: Path) -> None:
    content, disk = tmp_path / "content", tmp_path / "small"
    content.write_bytes(b"x" * 100_000)
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be made here: mounting is not allowed")
    try:
        place = Workplace(disk / "work")
        with pytest.raises(DiskFull):
            place.make(content, None)
        assert not place.training.exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_content_is_there_under_another_name_after_it_was_deleted(tmp_path: Path) -> None:
    (tmp_path / "content").write_text("some")
    (tmp_path / "other").write_text("more")
    place = Workplace(tmp_path / "work")
    place.make(tmp_path / "content", tmp_path / "other")
    (tmp_path / "content").unlink()
    assert (place.training.read_text(), place.validation.read_text()) == ("some", "more")
    with pytest.raises(StoreFailed):
        Workplace(tmp_path / "again").make(tmp_path / "content", None)


def test_the_process_of_a_test_is_gone_when_it_has_ended(tmp_path: Path) -> None:
    trainer = start(tmp_path, "pass")
    assert ended(trainer) == 0
    assert not alive(trainer.pid)
    assert os.getpriority(os.PRIO_PROCESS, 0) < 20

"""The written folder: whole or absent, and never at the cost of something else."""

from pathlib import Path

import pytest

from hone.models.errors import Conflict, InvalidInput
from hone.training.preparation import output
from hone.training.preparation.prepare import PrepareOptions, prepare
from tests.preparation.running import plain_rows, run, write_lines

FILES = {"train.jsonl", "validation.jsonl", "test.jsonl", "report.json", "report.html"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rows_file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "rows.jsonl", plain_rows(60))


def test_five_files_are_written_and_nothing_is_left_beside(tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    out = tmp_path / "deep" / "out"
    run(path, out=out)
    assert names(out) == FILES
    assert names(out.parent) == {"out"}


def test_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    first = run(path, seed=1, out=tmp_path / "out")
    second = run(path, seed=2, out=tmp_path / "out")
    assert names(tmp_path / "out") == FILES
    assert first.splits != second.splits
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run(rows_file(tmp_path), out=tmp_path / "out")
    assert names(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": "mine"},
        {"report.json": "not json", "train.jsonl": ""},
        {"report.json": '{"kind": "something else"}'},
        {"report.json": '{"kind": "hone-preparation"}', "notes.txt": "mine"},
    ],
)
def test_what_is_not_an_earlier_output_is_left_alone(tmp_path: Path, files: dict[str, str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, content in files.items():
        (out / name).write_text(content)
    with pytest.raises(Conflict, match="another --out"):
        run(rows_file(tmp_path), out=out)
    assert {name: (out / name).read_text() for name in names(out)} == files


def test_a_file_or_a_link_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(Conflict, match="not a folder"):
            run(path, out=tmp_path / name)


def test_a_place_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidInput, match="nothing can be written into"):
        run(path, out=tmp_path / "file" / "out")


def test_a_run_that_fails_while_writing_leaves_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rows_file(tmp_path)
    out = run(path, out=tmp_path / "out").report.folder
    before = {name: (out / name).read_bytes() for name in names(out)}

    def fail(_folder: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(output, "_make_durable", fail)
    with pytest.raises(OSError, match="disk full"):
        run(path, out=out, seed=5)
    assert {name: (out / name).read_bytes() for name in names(out)} == before
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_every_file_is_on_the_disk_before_the_folder_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(output, "fsync_file", lambda path: steps.append(path.name))
    monkeypatch.setattr(output, "rename", lambda source, _target: steps.append("moved"))
    path = rows_file(tmp_path)
    prepare(PrepareOptions(file=path, out=tmp_path / "out"), lambda _problem: True)
    assert set(steps[:-1]) == FILES
    assert steps[-1] == "moved"

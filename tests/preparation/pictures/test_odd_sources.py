"""Folders with links and empty classes, and tables with texts and pictures side by side."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import InvalidExamples
from hone.training.preparation.pictures.sources import holds_pictures
from hone.training.preparation.prepare import PrepareOptions
from tests.pictures import encoded, picture
from tests.preparation.pictures.running import folder_of_classes, found, rows_of, run


def pictures_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def test_links_that_lead_out_of_a_folder_are_told_and_left_out(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(encoded(picture((1, 2, 3), seed=7), "PNG"))
    (source / "red/out.png").symlink_to(outside / "secret.png")
    (source / "red/folder").symlink_to(outside)
    (source / "red/gone.png").symlink_to(tmp_path / "nowhere.png")
    (source / "blue").symlink_to(outside)
    (source / "red/relative.png").symlink_to(
        os.path.relpath(outside / "secret.png", source / "red")
    )
    (source / "red/inside.png").symlink_to(source / "store.png")
    (source / "store.png").write_bytes(encoded(picture((200, 9, 9), seed=8), "PNG"))
    report, out = run(source)
    told = found(report, "links")
    assert (told.count, told.severity) == (5, "advice")
    for name in ("blue", "red/out.png", "red/folder", "red/gone.png", "red/relative.png"):
        assert name in told.message
    names = {row["name"] for rows in rows_of(out).values() for row in rows}
    assert "red/inside.png" in names
    assert not any("secret" in n or "out.png" in n or "relative" in n for n in names)
    assert report.kept == 41
    assert {label.label for label in report.labels} == {"red", "green"}


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_table_that_is_a_link_out_of_its_folder_is_refused_by_name(
    tmp_path: Path, name: str
) -> None:
    source = folder_of_classes(tmp_path / "photos")
    rows = [(path.relative_to(source).as_posix(), path.parent.name) for path in pictures_of(source)]
    if name.endswith(".csv"):
        text = "\n".join(["image,label", *map(",".join, rows)])
    else:
        text = "\n".join(json.dumps({"image": path, "label": label}) for path, label in rows)
    outside = tmp_path / name
    outside.write_text(text + "\n")
    (source / name).symlink_to(outside)
    with pytest.raises(InvalidExamples, match=f"has the table {name}, a link that leads out of it"):
        run(source)
    (source / name).unlink()
    (source / ".kept").write_text(text + "\n")
    (source / name).symlink_to(source / ".kept")  # it stays inside
    report, _ = run(source)
    assert (report.kept, report.columns) == (40, ("image", "label"))


def test_paths_of_a_folder_s_table_that_lead_out_of_it_are_told(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(picture((1, 2, 3), seed=7), "PNG"))
    (source / "red/link.png").symlink_to(secret)
    rows = [(path.relative_to(source).as_posix(), path.parent.name) for path in pictures_of(source)]
    out = [str(secret), "../secret.png", "red/link.png", "red/a\0b.png"]
    rows = [row for row in rows if row[0] not in out] + [(path, "red") for path in out]
    lines = [json.dumps({"image": path, "label": label}) for path, label in rows]
    (source / "labels.jsonl").write_text("\n".join(lines) + "\n")
    report, _ = run(source)
    assert (report.rows, report.kept) == (44, 40)
    assert report.dropped == {"unreadable": 4}


def test_a_class_that_is_a_link_inside_of_the_folder_stays(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    (source / ".kept").mkdir()
    (source / "green").rename(source / ".kept/green")
    (source / "green").symlink_to(source / ".kept/green")
    report, _ = run(source)
    assert {label.label for label in report.labels} == {"red", "green"}
    assert not [problem for problem in report.problems if problem.code == "links"]


def test_a_folder_that_is_a_link_itself_is_read(tmp_path: Path) -> None:
    folder_of_classes(tmp_path / "photos")
    (tmp_path / "linked").symlink_to(tmp_path / "photos")
    report, _ = run(tmp_path / "linked")
    assert report.kept == 40


def test_a_folder_of_nothing_but_links_out_says_so(tmp_path: Path) -> None:
    photos = folder_of_classes(tmp_path / "photos")
    for wrapped in (False, True):
        source = tmp_path / f"links-{wrapped}"
        source.mkdir()
        if wrapped:
            (source / "data").symlink_to(photos)
        else:
            for label in ("red", "green"):
                (source / label).symlink_to(photos / label)
        with pytest.raises(InvalidExamples, match="are not followed"):
            run(source)


def test_an_empty_class_is_told(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    for name in ("blue", "black/inner"):
        (source / name).mkdir(parents=True)
    (source / "black/notes.txt").write_text("none yet")
    report, _ = run(source)
    told = found(report, "empty_classes")
    assert (told.count, told.severity) == (2, "advice")
    assert told.message == "folders without a picture make no class: black, blue"


def prepare_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hone", "prepare", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_what_waits_for_a_yes_is_said_as_what_would_be(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    (source / "red/copy.png").write_bytes((source / "red/00.png").read_bytes())
    waiting = prepare_command(str(source), "--out", str(tmp_path / "out"))
    assert waiting.returncode == 2, waiting.stderr
    said = "41 pictures read, 40 would be kept and 1 dropped, if all that is recommended were done"
    assert said in waiting.stdout
    assert not (tmp_path / "out").exists()
    done = prepare_command(str(source), "--out", str(tmp_path / "out"), "--yes")
    assert "41 pictures read, 40 kept, 1 dropped\n" in done.stdout


def table_of_both(folder: Path, *columns: str) -> Path:
    """Write a table with a text, a picture and a label in each row, in columns of these names."""
    source = folder_of_classes(folder / "photos")
    paths = sorted(source.rglob("*.png"))
    rows = [
        f"what is number {number}?,{path.relative_to(folder).as_posix()},{path.parent.name}"
        for number, path in enumerate(paths)
    ]
    table = folder / "table.csv"
    table.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return table


def kind(table: Path, **options: Any) -> bool:
    return holds_pictures(table, PrepareOptions(file=table, **options).reading(table))


@pytest.mark.parametrize("text", ["text", "Question", "prompt"])
def test_a_table_of_texts_and_pictures_is_not_guessed(tmp_path: Path, text: str) -> None:
    table = table_of_both(tmp_path, text, "image", "label")
    with pytest.raises(InvalidExamples) as refused:
        kind(table)
    message = str(refused.value)
    assert f"--text-column {text} or --text-column image" in message
    assert not kind(table, text_column=text)
    assert not kind(table, text_column="1")
    assert kind(table, text_column="image")
    assert kind(table, text_column="IMAGE")
    assert kind(table, text_column="2")
    assert kind(table, label_column=text)
    report, _ = run(table, text_column="image")
    assert (report.kept, report.columns) == (40, ("image", "label"))


def test_the_command_asks_and_obeys(tmp_path: Path) -> None:
    table = table_of_both(tmp_path, "text", "image", "label")
    out = tmp_path / "out"
    asked = prepare_command(str(table), "--yes", "--out", str(out))
    assert asked.returncode == 1
    assert "say which" in asked.stderr
    for chosen, task in (("text", "text-classification"), ("image", "image-classification")):
        done = prepare_command(
            str(table), "--yes", "--out", str(out / chosen), "--text-column", chosen, "--json"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["task"] == task
    texts = prepare_command(str(table), "--yes", "--out", str(out / "no"), "--no-pictures")
    assert "Read as texts" in texts.stdout, texts.stderr


def test_other_columns_beside_pictures_do_not_matter(tmp_path: Path) -> None:
    table = table_of_both(tmp_path, "caption", "image", "label")
    assert kind(table)
    table.write_text("text,image,label\n,photos/red/00.png,red\n,photos/red/01.png,green\n")
    assert kind(table)  # nobody wrote a text


def test_embedded_pictures_beside_a_text_column_that_was_asked_for(tmp_path: Path) -> None:
    line = {"image": "data:image/png;base64,AAAA", "text": "where", "label": "x"}
    table = tmp_path / "t.jsonl"
    table.write_text(json.dumps(line) + "\n")
    assert kind(table)
    assert kind(table, text_column="image")
    assert not kind(table, text_column="text")


def test_a_table_in_an_archive_obeys_too(tmp_path: Path) -> None:
    table = table_of_both(tmp_path, "text", "image", "label")
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(table, "table.csv")
        for path in (tmp_path / "photos").rglob("*.png"):
            packed.write(path, path.relative_to(tmp_path).as_posix())
    with pytest.raises(InvalidExamples, match="say which"):
        run(archive)
    with pytest.raises(InvalidExamples, match="'text' does not hold the paths of pictures"):
        run(archive, text_column="text")
    report, _ = run(archive, text_column="image")
    assert report.kept == 40


def test_what_a_table_names_that_is_no_file_is_told_and_not_read(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    rows = [
        {"image": path.relative_to(source).as_posix(), "label": path.parent.name}
        for path in sorted(source.rglob("*.*"))
    ]
    rows += [{"image": name, "label": "red"} for name in ("/dev/null", "red")]
    table = source / "table.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)) + "\n")
    report, _ = run(table)
    assert report.kept == 40
    told = found(report, "unreadable")
    assert told.count == 2
    assert {e["text"]: e["reason"] for e in told.examples} == {
        "/dev/null": "it is a device, and no file with a picture",
        "red": "it is a folder, and no file with a picture",
    }

import csv
import hashlib
import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import Conflict, InvalidExamples, InvalidInput
from hone.models.examples import SPLITS, read_examples
from hone.training.preparation.pictures.prepare import prepare_pictures
from hone.training.preparation.pictures.sources import holds_pictures
from hone.training.preparation.prepare import PrepareOptions
from hone.training.preparation.problems import Answer, Problem
from hone.training.preparation.report import PrepareReport
from tests.pictures import encoded, picture, png_bomb

COLOURS = {"red": (190, 40, 40), "green": (40, 170, 60)}


def folder_of_classes(root: Path, each: int = 20) -> Path:
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for seed in range(each):
            image = picture(colour, seed=seed + 100 * len(label))
            (root / label / f"{seed:02}.png").write_bytes(encoded(image, "PNG"))
    return root


def run(source: Path, answer: Answer = True, **options: Any) -> tuple[PrepareReport, Path]:
    out = options.pop("out", source.parent / "out")
    return prepare_pictures(PrepareOptions(file=source, out=out, **options), lambda _: answer), out


def rows_of(out: Path) -> dict[str, list[dict[str, str]]]:
    return {
        split: [json.loads(line) for line in (out / f"{split}.jsonl").read_text().splitlines()]
        for split in SPLITS
    }


def found(report: PrepareReport, code: str) -> Problem:
    (problem,) = [problem for problem in report.problems if problem.code == code]
    return problem


def test_a_folder_of_classes_becomes_a_folder_that_is_whole_by_itself(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    report, out = run(source)
    rows = rows_of(out)
    assert {split: Counter(row["label"] for row in found) for split, found in rows.items()} == {
        "train": {"red": 16, "green": 16},
        "validation": {"red": 2, "green": 2},
        "test": {"red": 2, "green": 2},
    }
    for row in [row for found in rows.values() for row in found]:
        content = (out / row["image"]).read_bytes()
        assert content == (source / row["name"]).read_bytes()
        assert Path(row["image"]).stem == hashlib.sha256(content).hexdigest()
        assert Path(row["name"]).parts[0] == row["label"]
    assert report.task == "image-classification"
    stated = json.loads((out / "report.json").read_text())
    assert (stated["task"], stated["picture_sides"]["p50"]) == ("image-classification", 40)
    assert "pixels, the median shorter side" in (out / "report.html").read_text()
    assert len(read_examples(out / "train.jsonl", "image")) == 32


def test_the_cut_follows_from_the_seed_and_not_from_the_files_names(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    _, out = run(source)
    first = {split: {row["image"] for row in rows} for split, rows in rows_of(out).items()}
    for path in sorted(source.rglob("*.png")):
        path.rename(path.with_name(f"z{hash(path.name) % 997}-{path.name}"))
    run(source)
    assert {s: {row["image"] for row in rows} for s, rows in rows_of(out).items()} == first
    run(source, seed=1)
    assert {s: {row["image"] for row in rows} for s, rows in rows_of(out).items()} != first


def test_what_cannot_be_used_is_reported_and_left_out(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    good = encoded(picture((0, 0, 0)))
    (source / "red/cut.jpg").write_bytes(good[:-40])
    (source / "red/other.gif").write_bytes(encoded(picture((0, 0, 0)), "GIF"))
    (source / "red/small.png").write_bytes(encoded(picture((9, 9, 9), size=(15, 90)), "PNG"))
    (source / "red/large.png").write_bytes(png_bomb(6_000))
    (source / "red/notes.txt").write_text("mine")
    report, _ = run(source)
    assert report.dropped == {"unreadable": 2, "too_large": 1, "too_small": 1}
    reasons = {str(e["text"]): e["reason"] for e in found(report, "unreadable").examples}
    assert "cut off" in str(reasons["red/cut.jpg"])
    assert "no JPEG, PNG or WebP" in str(reasons["red/other.gif"])
    assert found(report, "too_large").examples[0]["reason"] == "6000 x 6000 pixels"
    assert "red/notes.txt" in found(report, "other_files").message
    assert report.kept == 40


def test_copies_go_and_conflicting_labels_too(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    first = (source / "red/00.png").read_bytes()
    (source / "red/copy.png").write_bytes(first)
    (source / "green/other.png").write_bytes((source / "red/01.png").read_bytes())
    report, out = run(source)
    assert found(report, "duplicates").count == 1
    assert "byte for byte" in found(report, "duplicates").message
    assert found(report, "conflicting_labels").message.startswith("1 picture stands")
    assert report.kept == 39  # red/01 has no majority: both of its rows go
    images = [row["image"] for rows in rows_of(out).values() for row in rows]
    assert len(set(images)) == len(images)


def test_pictures_that_look_alike_stay_in_one_split(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    for seed in range(15):
        near = picture(COLOURS["red"], seed=seed + 300)
        (source / f"red/{seed:02}-again.jpg").write_bytes(encoded(near, quality=95))
    report, out = run(source)
    likenesses = found(report, "near_duplicates")
    assert likenesses.count == 30
    split_of = {row["name"]: split for split, rows in rows_of(out).items() for row in rows}
    for seed in range(15):
        assert split_of[f"red/{seed:02}.png"] == split_of[f"red/{seed:02}-again.jpg"]


def test_a_table_of_paths_and_a_zip_of_it_give_the_same_rows(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    paths = [p.relative_to(source).as_posix() for p in sorted(source.rglob("*.png"))]
    with (source / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "image", "label"])
        table.writerows([n, path, path.split("/")[0].upper()] for n, path in enumerate(paths))
        table.writerow([99, "red/missing.png", "RED"])
        table.writerow([100, "https://example.com/x.png", "RED"])
    (tmp_path / "data.jsonl").write_text(
        "".join(json.dumps({"path": f"photos/{p}", "class": p[:3]}) + "\n" for p in paths)
    )
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        for path in [*paths, "labels.csv"]:
            file.write(source / path, f"wrapped/{path}")
    by_table, _ = run(source / "labels.csv")
    assert {label.label for label in by_table.labels} == {"RED", "GREEN"}
    reasons = [str(e["reason"]) for e in found(by_table, "unreadable").examples]
    assert "no such file" in reasons[0]
    assert "nothing is fetched" in reasons[1]
    zipped, out = run(tmp_path / "photos.zip")
    assert (zipped.kept, zipped.rows) == (by_table.kept, by_table.rows) == (40, 42)
    assert {row["label"] for row in rows_of(out)["train"]} == {"RED", "GREEN"}
    lines, _ = run(tmp_path / "data.jsonl")
    assert ({label.label for label in lines.labels}, lines.kept) == ({"red", "gre"}, 40)


def test_a_zipped_table_cannot_point_out_of_its_archive(tmp_path: Path) -> None:
    outside = folder_of_classes(tmp_path / "photos") / "red/00.png"
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("labels.csv", f"image,label\n{outside},red\n../../x.png,green\n")
    with pytest.raises(InvalidExamples, match=r"no picture of bad\.zip can be used"):
        run(tmp_path / "bad.zip")


def test_a_test_split_of_its_own_loses_what_also_stands_in_the_folder(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    given = tmp_path / "held-out"
    for label, colour in COLOURS.items():
        (given / label).mkdir(parents=True)
        (given / label / "new.png").write_bytes(encoded(picture(colour, seed=999), "PNG"))
    (given / "red/known.png").write_bytes((source / "red/05.png").read_bytes())
    report, out = run(source, test=given)
    assert found(report, "leakage").count == 1
    assert [row["name"] for row in rows_of(out)["test"]] == ["green/new.png", "red/new.png"]


def test_nothing_is_written_without_a_yes_and_foreign_files_are_never_lost(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    (source / "red/copy.png").write_bytes((source / "red/00.png").read_bytes())
    report, out = run(source, answer=None)
    assert not report.written
    assert not out.exists()
    run(source)
    (out / "pictures/mine.png").write_bytes(b"precious")
    with pytest.raises(Conflict, match="mine"):
        run(source)
    assert (out / "pictures/mine.png").read_bytes() == b"precious"


def test_what_holds_no_classes_or_is_for_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/1.png").write_bytes(encoded(picture((1, 2, 3)), "PNG"))
    with pytest.raises(InvalidExamples, match="no sub-folder for each class"):
        run(tmp_path / "flat")
    source = folder_of_classes(tmp_path / "photos", each=3)
    with pytest.raises(InvalidInput, match="for texts"):
        run(source, max_tokens=12)


def test_tables_of_texts_are_left_to_the_preparation_of_texts(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("text,label\nsee photo.png,bug\nall well,praise\n")
    options = PrepareOptions(file=table)
    assert not holds_pictures(table, options.reading(table))


def test_the_command_takes_a_folder(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    arguments = ["prepare", str(source), "--yes", "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "hone", *arguments], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["kept"] == 40


def table_of_paths(folder: Path, column: str, *odd: str) -> Path:
    """Write a table that names forty good pictures, and whatever else is given."""
    source = folder_of_classes(folder / "photos")
    paths = [path.relative_to(folder).as_posix() for path in sorted(source.rglob("*.png"))]
    lines = [f"{path},{Path(path).parent.name}" for path in paths]
    lines += [f"{path},red" for path in odd]
    table = folder / "table.csv"
    table.write_text("\n".join([f"{column},label", *lines]) + "\n")
    return table


@pytest.mark.parametrize("column", ["path", "image", "file", "where"])
def test_a_few_bad_rows_do_not_make_texts_of_a_table_of_pictures(
    tmp_path: Path, column: str
) -> None:
    odd = ("https://x.y/a.jpg", "../../../etc/passwd", "nope.jpg", "/etc/hostname")
    table = table_of_paths(tmp_path, column, *odd)
    assert holds_pictures(table, PrepareOptions(file=table).reading(table))
    report, _ = run(table)
    assert (report.task, report.kept) == ("image-classification", 40)
    told = {e["line"]: str(e["reason"]) for e in found(report, "unreadable").examples}
    assert told.keys() == {42, 43, 44, 45}
    assert "nothing is fetched" in told[42]
    assert "no such file" in told[44]


@pytest.mark.parametrize(
    "rows",
    [
        "file,label\nsee a.png,x\nnothing at all,y\nwhat is it,x\n",
        "text,image,label\nwhere is it,a.png,x\nhow so,,y\nand now,b,x\nwhen,c.png,y\n",
        "body,label\na.png,x\nwhy is that,y\nb.png,x\n",
    ],
)
def test_a_table_of_texts_stays_one_of_texts(tmp_path: Path, rows: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(rows)
    assert not holds_pictures(table, PrepareOptions(file=table).reading(table))


def test_the_terminal_says_what_a_source_was_read_as(tmp_path: Path) -> None:
    table = table_of_paths(tmp_path, "path", "nope.jpg")
    command = [sys.executable, "-m", "hone", "prepare", str(table), "--out", str(tmp_path / "o")]
    done = subprocess.run([*command, "--yes"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Read as pictures: csv with paths, from columns path, label" in done.stdout

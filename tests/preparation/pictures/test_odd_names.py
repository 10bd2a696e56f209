"""Names that no file should have, files that are none, and where they are told."""

import csv
import os
import zipfile
from pathlib import Path

import pytest

from hone.models.errors import InvalidExamples, InvalidInput
from hone.training.preparation.problems import EXAMPLES_SHOWN
from tests.pictures import encoded, picture
from tests.preparation.pictures.running import folder_of_classes, found, rows_of, run


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *rows])


def table_of_classes(folder: Path) -> list[tuple[str, str]]:
    folder_of_classes(folder)
    return [
        (path.relative_to(folder).as_posix(), path.parent.name)
        for path in sorted(folder.glob("*/*.png"))
    ]


def make_strange(folder: Path, name: bytes, content: bytes = b"") -> None:
    """Write a file whose name is not UTF-8, where the file system takes it."""
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)
    except OSError:
        pytest.skip("this file system takes no such names")


def test_a_picture_whose_name_is_not_utf_8_is_a_picture(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    make_strange(source / "red", b"caf\xe9.png", encoded(picture((200, 9, 9), seed=8), "PNG"))
    make_strange(source / "red", b"caf\xe9.txt")
    report, out = run(source)
    assert report.kept == 41
    names = {row["name"] for rows in rows_of(out).values() for row in rows}
    assert "red/caf?.png" in names
    assert "red/caf?.txt" in found(report, "other_files").message


def test_a_class_whose_name_is_not_utf_8_is_told_and_left_out(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    make_strange(source, b"probe\xff")
    strange = Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9"))
    strange.mkdir()
    (strange / "a.png").write_bytes(encoded(picture((200, 9, 9), seed=8), "PNG"))
    report, _ = run(source)
    assert report.kept == 40
    assert "not UTF-8" in str(found(report, "unreadable").examples)


def test_a_path_longer_than_any_file_s_name_is_one_unreadable_row(tmp_path: Path) -> None:
    rows = table_of_classes(tmp_path / "photos")
    table = tmp_path / "photos/labels.csv"
    write_table(table, [*rows, ("x" * 5000 + ".png", "red")])
    report, _ = run(table, out=tmp_path / "written")
    assert (report.kept, report.dropped) == (40, {"unreadable": 1})
    assert "there is no such file" in str(found(report, "unreadable").examples)


def test_so_it_is_in_an_archive(tmp_path: Path) -> None:
    rows = table_of_classes(tmp_path / "photos")
    write_table(tmp_path / "labels.csv", [*rows, ("x" * 5000 + ".png", "red")])
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "labels.csv", "labels.csv")
        for name, _ in rows:
            archive.write(tmp_path / "photos" / name, name)
    report, _ = run(tmp_path / "photos.zip")
    assert (report.kept, report.dropped) == (40, {"unreadable": 1})


def test_where_no_picture_can_be_used_the_first_reasons_are_told(tmp_path: Path) -> None:
    write_table(tmp_path / "moved.csv", table_of_classes(tmp_path / "photos"))
    with pytest.raises(InvalidExamples, match=r"'green/00.png': there is no such file; 'green/01"):
        run(tmp_path / "moved.csv")


def test_a_pipe_among_the_pictures_is_told(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    os.mkfifo(source / "red/pipe.png")
    report, _ = run(source)
    (example,) = found(report, "unreadable").examples
    assert (example["text"], example["reason"]) == (
        "red/pipe.png",
        "it is a pipe, and no file with a picture",
    )


def test_the_first_files_that_are_left_alone_are_named_in_the_report_and_all_counted(
    tmp_path: Path,
) -> None:
    source = folder_of_classes(tmp_path / "photos")
    (source / "loose.png").write_bytes(encoded(picture((200, 9, 9), seed=8), "PNG"))
    names = [f"red/{number:03}.svg" for number in range(EXAMPLES_SHOWN)]
    for name in names:
        (source / name).write_bytes(b"<svg/>")
    told = found(run(source)[0], "other_files")
    assert "not pictures" not in told.message
    assert told.count == EXAMPLES_SHOWN + 1
    named = [str(example["text"]) for example in told.examples]
    assert len(named) == EXAMPLES_SHOWN
    assert len({"loose.png", *names}.difference(named)) == 1


def test_a_copy_is_told_with_the_name_of_what_it_copies(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    (source / "red/copy.png").write_bytes((source / "red/03.png").read_bytes())
    (example,) = found(run(source)[0], "duplicates").examples
    assert (example["text"], example["repeats"]) == ("red/copy.png", "red/03.png")


def test_nothing_is_written_into_the_folder_of_classes(tmp_path: Path) -> None:
    source = folder_of_classes(tmp_path / "photos")
    with pytest.raises(InvalidInput, match=r"lies in .*photos, and would be read as a class"):
        run(source, out=source / "build")
    assert not (source / "build").exists()


def test_beside_a_table_it_may_be(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    write_table(tmp_path / "labels.csv", table_of_classes(source))
    (tmp_path / "labels.csv").rename(source / "labels.csv")
    report, _ = run(source, out=source / "build")
    assert report.kept == 40

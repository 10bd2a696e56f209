"""The one reader of picture files: regular files alone, within their bound, never waited for."""

import os
import socket
from pathlib import Path

import pytest

from hone.models.imaging import files
from hone.models.imaging.files import leads_out, path_within, read_picture_file
from hone.models.imaging.headers import UnusablePicture


def refusal(path: Path) -> str:
    with pytest.raises(UnusablePicture) as caught:
        read_picture_file(path)
    assert path.name not in str(caught.value)  # whoever asks knows it as the user wrote it
    return str(caught.value)


def test_a_file_is_read_to_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_FILE", 1000)
    path = tmp_path / "picture"
    path.write_bytes(b"x" * 1000)
    assert read_picture_file(path) == b"x" * 1000
    path.write_bytes(b"x" * 1001)
    assert refusal(path) == "it has more than 1,000 bytes"


def test_what_is_no_regular_file_is_called_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    os.mkfifo("p.jpg")  # nobody writes to it: a plain open would wait for ever
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.jpg")
        assert "it is a socket" in refusal(Path("s.jpg"))
    Path("link").symlink_to("p.jpg")
    for path in (Path("p.jpg"), Path("link")):
        assert refusal(path) == "it is a pipe, and no file with a picture"
    assert refusal(tmp_path) == "it is a folder, and no file with a picture"
    for device in ("/dev/zero", "/dev/null"):
        assert refusal(Path(device)) == "it is a device, and no file with a picture"


def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    for name in ("none.jpg", "file/below.jpg", "a\0b", "n" * 5000, "circle.jpg"):
        assert refusal(tmp_path / name) == "there is no such file"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        refusal(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_path_stays_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "away").symlink_to(tmp_path)
    (folder / "home").symlink_to(folder / "below")
    for written in ("a.jpg", "below/a.jpg", "below/../a.jpg", "home/a.jpg", "..a.jpg"):
        assert path_within(folder, written) == folder / written
    for written in ("..", "../a.jpg", "below/../../a.jpg", "away/a.jpg", "../folder-2/a.jpg"):
        with pytest.raises(UnusablePicture, match="it leads out of the folder"):
            path_within(folder, written)
    with pytest.raises(UnusablePicture, match="it is an absolute path"):
        path_within(folder, str(folder / "a.jpg"))


def test_a_path_leads_out_by_where_it_ends_and_not_by_how_it_is_written(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside.jpg"
    inside.mkdir()
    outside.touch()
    (inside / "link.jpg").symlink_to(outside)
    assert not leads_out(inside.resolve() / "picture.jpg", inside)
    for path in (outside, inside / "../outside.jpg", inside / "link.jpg"):
        assert leads_out(path, inside)

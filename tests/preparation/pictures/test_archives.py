import contextlib
import random
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import InvalidExamples
from hone.models.imaging.archives import ArchiveBounds, unpack


def make(tmp_path: Path, *entries: tuple[str, bytes], mode: int | None = None, **how: Any) -> Path:
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w", **how) as file:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = how.get("compression", zipfile.ZIP_STORED)
            if mode is not None:
                entry.external_attr = mode << 16
            file.writestr(entry, content)
    return archive


def test_an_archive_is_unpacked_without_what_systems_leave_in_it(tmp_path: Path) -> None:
    entries = [("a/1.jpg", b"one"), ("__MACOSX/a/._1.jpg", b"x"), ("b/.DS_Store", b"x")]
    unpack(make(tmp_path, *entries, ("b/2.jpg", b"two")), tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
             for p in (tmp_path / "out").rglob("*") if p.is_file()}  # fmt: skip
    assert found == {"a/1.jpg": b"one", "b/2.jpg": b"two"}


@pytest.mark.parametrize(
    "name", ["../out.jpg", "a/../../out.jpg", "/etc/out.jpg", "C:/out.jpg", "a\\..\\out.jpg"]
)
def test_an_entry_that_leads_out_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str
) -> None:
    archive = make(tmp_path, ("a/1.jpg", b"one"), (name, b"bad"))
    with pytest.raises(InvalidExamples, match="leads out"):
        unpack(archive, tmp_path / "deep/out")
    assert [p.name for p in tmp_path.rglob("*.jpg")] == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    archive = make(tmp_path, ("a/1.jpg", b"/etc/passwd"), mode=kind | 0o777)
    with pytest.raises(InvalidExamples, match="link or a device"):
        unpack(archive, tmp_path / "out")


def test_more_entries_or_bytes_than_the_bounds_are_refused(tmp_path: Path) -> None:
    archive = make(tmp_path, *((f"a/{n}.jpg", b"x" * 100) for n in range(20)))
    unpack(archive, tmp_path / "fits", ArchiveBounds(entries=20, total_bytes=2000))
    for bounds in (
        ArchiveBounds(entries=19),
        ArchiveBounds(total_bytes=1999),
        ArchiveBounds(entry_bytes=99),
    ):
        with pytest.raises(InvalidExamples):
            unpack(archive, tmp_path / "out", bounds)
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = make(tmp_path, ("a/1.png", bytes(4 << 20)), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidExamples, match="100 times"):
        unpack(archive, tmp_path / "out")


def test_a_bomb_of_many_small_entries_is_refused_by_the_ratio_of_all(tmp_path: Path) -> None:
    small = [(f"a/{number}.png", bytes(1 << 20)) for number in range(12)]
    archive = make(tmp_path, *small, compression=zipfile.ZIP_DEFLATED)
    assert archive.stat().st_size < 20_000
    with pytest.raises(InvalidExamples, match="the archive unpacks to more than 100 times"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    few = make(tmp_path, ("a/1.png", bytes(200_000)), compression=zipfile.ZIP_DEFLATED)
    unpack(few, tmp_path / "few")  # next to nothing, whatever its ratio


def test_entries_that_share_their_data_are_refused_by_the_ratio_of_all(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(30_000)
    archive = tmp_path / "shared.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/0.jpg", content)
        first = file.infolist()[0]
        for number in range(1, 130):
            again = zipfile.ZipInfo(f"a/{number}.jpg")
            again.file_size = again.compress_size = first.file_size
            again.CRC, again.header_offset = first.CRC, first.header_offset
            file.filelist.append(again)
            file.NameToInfo[again.filename] = again
    assert archive.stat().st_size < 39_000
    with pytest.raises(InvalidExamples, match="the archive unpacks to more than 100 times"):
        unpack(archive, tmp_path / "out")


def test_an_entry_that_lies_about_its_size_is_found_out(tmp_path: Path) -> None:
    archive = make(tmp_path, ("a/1.jpg", bytes(5000)), compression=zipfile.ZIP_DEFLATED)
    content = archive.read_bytes()
    # 5,000 stands as the unpacked size in the local header and in the directory.
    lying = content.replace(struct.pack("<I", 5000), struct.pack("<I", 10))
    assert lying != content
    archive.write_bytes(lying)
    with pytest.raises(InvalidExamples):
        unpack(archive, tmp_path / "out")
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.jpg")) <= 10


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(200)])
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InvalidExamples, match="no zip archive, or is broken"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_a_broken_entry_and_one_in_another_s_way_are_told(tmp_path: Path) -> None:
    archive = make(tmp_path, ("a/1.jpg", b"abcdefgh" * 50))
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"abcdefgh", b"abcdefgX", 1))
    with pytest.raises(InvalidExamples, match="broken"):
        unpack(archive, tmp_path / "one")
    with pytest.raises(InvalidExamples, match="in another's way"):
        unpack(make(tmp_path, ("a", b"x"), ("a/1.jpg", b"y")), tmp_path / "two")


@pytest.mark.parametrize("name", ["n" * 256, "a/" * 600 + "b"])
def test_names_that_no_file_system_takes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidExamples, match="too long a name"):
        unpack(make(tmp_path, (name, b"one")), tmp_path / "out")


def test_a_list_of_entries_that_is_too_long_is_refused_unread(tmp_path: Path) -> None:
    archive = make(tmp_path, *((f"{'n' * 200}{number}.jpg", b"") for number in range(60)))
    with pytest.raises(InvalidExamples, match="list of entries has"):
        unpack(archive, tmp_path / "out", ArchiveBounds(entries=10))


def with_records(archive: Path, tail: bytes) -> Path:
    """Put other records behind an archive's list of entries, and return it."""
    content = archive.read_bytes()
    archive.write_bytes(content[: content.rindex(b"PK\x05\x06")] + tail)
    return archive


@pytest.mark.parametrize("said", [0, 10, 0xFFFFFFFF])
def test_the_list_that_counts_is_the_one_that_is_read(tmp_path: Path, said: int) -> None:
    archive = make(tmp_path, *((f"{'n' * 200}{number}.jpg", b"") for number in range(60)))
    content = archive.read_bytes()
    start = content.index(b"PK\x01\x02")
    size = content.rindex(b"PK\x05\x06") - start
    zip64 = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 60, 60, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 60, 60, said, said, 0)
    with_records(archive, zip64 + locator + end)
    with zipfile.ZipFile(archive) as file:
        assert len(file.namelist()) == 60
    with pytest.raises(InvalidExamples, match="list of entries has"):
        unpack(archive, tmp_path / "out", ArchiveBounds(entries=10))


def test_an_end_within_the_end_hides_no_list(tmp_path: Path) -> None:
    archive = make(tmp_path, *((f"{'n' * 200}{number}.jpg", b"") for number in range(60)))
    content = archive.read_bytes()
    size = content.rindex(b"PK\x05\x06") - content.index(b"PK\x01\x02")
    # The offset of the list is not needed: zipfile takes where the record stands for granted.
    place = int.from_bytes(b"PK\x05\x06", "little")
    with_records(archive, struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 60, 60, size, place, 0))
    with pytest.raises(InvalidExamples, match="list of entries has"):
        unpack(archive, tmp_path / "out", ArchiveBounds(entries=10))


def test_many_small_entries_are_counted_before_there_is_an_object_for_each(tmp_path: Path) -> None:
    archive = make(tmp_path, *((str(number), b"") for number in range(60)))
    with pytest.raises(InvalidExamples, match="60 entries; 50 fit"):
        unpack(archive, tmp_path / "out", ArchiveBounds(entries=50))


def test_no_flipped_bytes_break_more_than_the_archive(tmp_path: Path) -> None:
    content = make(tmp_path, ("a/1.jpg", b"one" * 50), ("b/2.jpg", b"two")).read_bytes()
    chance = random.Random(3)
    archive = tmp_path / "flipped.zip"
    for number in range(600):
        flipped = bytearray(content)
        for _ in range(chance.randint(1, 5)):
            flipped[chance.randrange(len(flipped))] = chance.randrange(256)
        archive.write_bytes(flipped)
        with contextlib.suppress(InvalidExamples):
            unpack(archive, tmp_path / str(number))

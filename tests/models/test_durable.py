"""Everything is on the disk before the step that makes it count."""

import os
from pathlib import Path

import pytest

from hone.models import durable
from hone.models.manifest import MANIFEST_FILE
from hone.models.names import ModelReference
from hone.models.registry import STATE_FILE, Registry
from tests.models.bodies import MODEL_FILE, publish


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Record each flush and each rename, by the last part of the path."""
    recorded: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def recording_fsync(descriptor: int) -> None:
        recorded.append(("flush", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def recording_rename(source: Path, target: Path) -> None:
        recorded.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "rename", recording_rename)
    return recorded


def test_a_bundle_is_flushed_whole_before_the_rename_and_its_parent_after(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    publish(Registry(tmp_path / "store"))
    appears = steps.index(("rename", "1"))
    manifest = steps.index(("rename", MANIFEST_FILE))
    assert steps.index(("flush", MODEL_FILE)) < manifest
    assert steps.index(("flush", "card.md")) < manifest
    assert ("flush", "support") in steps[appears:]
    kind, flushed = steps[manifest - 1]
    assert kind == "flush"
    assert MANIFEST_FILE in flushed
    assert steps[manifest + 1][0] == "flush"  # the staged folder, whose entries are now all there
    assert manifest + 1 < appears


def test_a_new_store_and_model_are_flushed_into_their_parents(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    publish(Registry(tmp_path / "new" / "store"))
    appears = steps.index(("rename", "1"))
    for parent in (tmp_path.name, "new", "store"):
        assert ("flush", parent) in steps[:appears], parent


def test_state_is_flushed_before_and_after_it_is_replaced(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    registry = Registry(tmp_path / "store")
    publish(registry)
    steps.clear()
    registry.promote(ModelReference("support"))
    replaced = steps.index(("rename", STATE_FILE))
    assert [kind for kind, _ in steps[replaced - 1 : replaced + 2]] == ["flush", "rename", "flush"]
    assert steps[replaced + 1] == ("flush", "support")


def test_an_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    for content in (b"first", b"", b"second"):
        durable.write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    durable.write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        durable.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_two_writers_with_one_process_id_do_not_share_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers with one store may both be process 1."""
    path = tmp_path / "file.json"
    fsync_file, second = durable.fsync_file, [b"the second writer's"]

    def write_between(beside: Path) -> None:
        if second:
            durable.write_atomically(path, second.pop())
        fsync_file(beside)

    monkeypatch.setattr(durable, "fsync_file", write_between)
    durable.write_atomically(path, b"the first writer's")
    assert path.read_bytes() == b"the first writer's"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_a_name_that_is_taken_is_neither_written_nor_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "0")
    taken = tmp_path / ".file.json.0.new"
    taken.write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        durable.write_atomically(tmp_path / "file.json", b"ours")
    assert taken.read_bytes() == b"another's"


def test_folders_are_made_once(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "a" / "b")
    durable.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="exists"):
        durable.make_folder(tmp_path / "file")

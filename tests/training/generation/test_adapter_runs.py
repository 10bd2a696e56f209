"""LoRA kept as an adapter: published beside a base that is exported once, or refused in time."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from hone.models.bundle import open_bundle
from hone.models.decoding.adapters import read_adapter
from hone.models.errors import Conflict
from hone.models.manifest import file_sha256
from hone.models.names import ModelReference
from hone.models.registry import Registry
from hone.training.generation.base_bundles import provide_base
from hone.training.generation.causal_bases import obtain_causal_base
from hone.training.methods import pace
from tests.bases import base_folder
from tests.training.generation.running import Finished, recipe_for, train, write_splits


def train_adapter(folder: Path, data: Path, name: str, variants: list[str], rank: int) -> Finished:
    recipe = recipe_for(
        folder,
        data,
        model={"base": str(base_folder("stories260K")), "method": "lora", "lora_rank": rank},
        saving={"adapter": True, "name": name, "variants": variants},
    )
    return train(recipe)


@pytest.mark.slow
def test_two_runs_share_one_base_whose_files_stay_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_splits(tmp_path / "data")
    registry = Registry(tmp_path / "store")
    first = train_adapter(tmp_path, data, "first", ["fp32"], 4)
    [base] = first.named("base_provided")
    one = registry.open(ModelReference("first"))
    assert one.manifest.adapter is not None
    assert one.manifest.generation is not None
    assert one.manifest.adapter.base == base["model"]
    assert one.manifest.adapter.rank == read_adapter(one.file("adapter.safetensors")).rank == 4
    assert one.manifest.generation.parity["fp32"].passed
    assert {entry.path for entry in one.manifest.files} == {
        "adapter.safetensors", "card.md", "tokenizer.json",
    }  # fmt: skip
    assert "kept as an adapter" in one.file("card.md").read_text(encoding="utf-8")

    train_adapter(tmp_path, data, "second", ["fp32", "int8"], 6)
    two = registry.open(ModelReference("second"))
    assert two.manifest.adapter is not None
    older, newer = (open_bundle(registry.folder(base["model"], v)).manifest for v in (1, 2))
    assert set(newer.variants) == {"fp32", "int8"}
    assert file_sha256(older, "fp32") == file_sha256(newer, "fp32")
    assert two.manifest.adapter.base_files["fp32"] == file_sha256(newer, "fp32")

    again = obtain_causal_base(str(base_folder("stories260K")))
    provided = provide_base(registry, again, [[1, 2]], ["int8"], tmp_path / "scratch")
    assert provided.manifest.version == 2
    assert registry.listing(base["model"]).versions == [1, 2], "nothing was left to export"

    monkeypatch.setattr(pace, "ROUNDS", 1)
    monkeypatch.setattr(pace, "_MOST_TOKENS", 4)
    [found] = pace.measure_paces([(two, "fp32")], [])
    assert min(found.per_s.values()) > 0

    registry.remove(base["model"], 1)  # the other version has all that it had
    assert str(registry.base_of(one.manifest.adapter, "fp32")) == f"{base['model']}@2"
    with pytest.raises(Conflict, match="is an adapter on"):
        registry.remove(base["model"], 2)
    for name in ("first", "second"):
        registry.remove(name, 1)
    registry.remove(base["model"], 2)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"base": "somewhere", "method": "full"}, "saving.adapter is for model.method lora"),
        ({"base": "scratch:llama-1m", "method": "lora"}, "not a scratch: one"),
    ],
)
def test_what_nobody_could_share_is_refused_in_the_recipe(
    model: dict[str, str], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match=reason):
        recipe_for(tmp_path, tmp_path, model=model, saving={"adapter": True})

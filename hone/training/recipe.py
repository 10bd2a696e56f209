"""Recipes: TOML files with one level of groups; every problem is named at once."""

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hone.models.errors import HoneError, InvalidRecipe, NotFound
from hone.models.manifest import Variant, sha256_of_json
from hone.models.names import check_model_name
from hone.models.tokenizer import LongTexts

RECIPES_FOLDER = Path(__file__).parent / "recipes"
"""The recipes that ship; `hone train NAME` finds them by their stem."""

Auto = Literal["auto"]
_GROUP_KEY = re.compile(r"[a-z_]+\.[a-z0-9_]+")


def _model_name(name: str) -> str:
    try:
        return check_model_name(name)
    except HoneError as error:
        raise ValueError(str(error)) from None


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelGroup(_Group):
    """Which base, and how it is changed."""

    base: str = "minilm"
    method: Literal["full", "lora"] = "full"
    pooling: Literal["auto", "mean", "cls"] = "auto"
    dropout: float = Field(0.1, ge=0, lt=1)
    lora_rank: int = Field(16, ge=1, le=512)
    lora_alpha: float = Field(32.0, gt=0)
    lora_dropout: float = Field(0.05, ge=0, lt=1)


class OptimizerGroup(_Group):
    """AdamW (Loshchilov and Hutter 2019) and its schedule."""

    name: Literal["adamw"] = "adamw"
    learning_rate: Auto | Annotated[float, Field(gt=0, lt=1)] = "auto"
    weight_decay: float = Field(0.01, ge=0, le=1)
    warmup_share: float = Field(0.06, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_gradient_norm: float = Field(1.0, gt=0)


class DatasetGroup(_Group):
    """Where the prepared examples lie, and how texts are cut."""

    path: str | None = None
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    max_tokens: Auto | Annotated[int, Field(ge=4, le=8192)] = "auto"
    long_texts: LongTexts = "head_tail"
    class_weights: Literal["none", "balanced"] = "none"
    positive_label: str | None = None

    @model_validator(mode="after")
    def _either_folder_or_files(self) -> Self:
        if self.path is None and (self.train is None or self.validation is None):
            raise ValueError(
                "give 'path', a folder that hone prepare made, or the files 'train' and "
                "'validation' (and 'test')"
            )
        if self.path is not None and (self.train or self.validation or self.test):
            raise ValueError("give either 'path' or the files, not both")
        return self

    def file(self, split: str) -> Path | None:
        """Return the JSONL file of a split, or None when there is no such split."""
        if self.path is None:
            named: str | None = getattr(self, split)
            return None if named is None else Path(named)
        inside = Path(self.path) / f"{split}.jsonl"
        return inside if split != "test" or inside.exists() else None


class TrainingGroup(_Group):
    """The loop."""

    epochs: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    gradient_accumulation: int = Field(1, ge=1, le=1024)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    head_start: Literal["centroids", "none"] = "centroids"
    train_embeddings: bool = False
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    early_stopping_patience: int = Field(3, ge=0)
    checkpoint_every_s: float = Field(60.0, gt=0)
    seed: int = Field(0, ge=0, lt=2**31)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class SavingGroup(_Group):
    """Where the bundle goes, and what is in it."""

    name: Annotated[str, AfterValidator(_model_name)]
    store: str = "store"
    runs: str = "runs"
    variants: list[Variant] = Field(["fp32", "int8"], min_length=1)
    keep_weights: bool = True
    promote: bool = False
    licence: str = "unknown"

    @model_validator(mode="after")
    def _fp32_is_the_reference(self) -> Self:
        if "fp32" not in self.variants:
            raise ValueError("variants must hold 'fp32': the others are made from it")
        return self


class BaselineGroup(_Group):
    """The prompt whose work the model takes over, for counting what is saved."""

    instruction: str | None = None
    examples: int = Field(16, ge=0, le=1000)
    tokenizer: str | None = None
    price_model: str | None = None


class Recipe(_Group):
    """A whole recipe, with defaults filled in."""

    model: ModelGroup = ModelGroup()
    optimizer: OptimizerGroup = OptimizerGroup()
    dataset: DatasetGroup
    training: TrainingGroup = TrainingGroup()
    saving: SavingGroup
    baseline: BaselineGroup = BaselineGroup()

    def sha256(self) -> str:
        """Return the SHA-256 of the recipe's canonical JSON, where it is stored left out."""
        content = self.model_dump(mode="json")
        for place in ("store", "runs", "promote"):
            del content["saving"][place]
        return sha256_of_json(content)


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a path, or the name of one that ships."""
    for candidate in (Path(name), RECIPES_FOLDER / f"{name}.toml"):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(path.stem for path in RECIPES_FOLDER.glob("*.toml")))
    raise NotFound(f"there is no recipe {name!r}: give a TOML file or one of {shipped}")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `group.key=value` overrides; InvalidRecipe names every problem."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidRecipe([f"{path} is not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidRecipe([f"{path} is not TOML: {error}"]) from None
    problems = [problem for text in overrides if (problem := _override(content, text))]
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise InvalidRecipe([*problems, *_describe(error)]) from None
    if problems:
        raise InvalidRecipe(problems)
    return recipe


def _override(content: dict[str, Any], text: str) -> str | None:
    """Put one `group.key=value` into the content; return what is wrong with it, if anything."""
    key, separator, value = text.partition("=")
    if not separator or not _GROUP_KEY.fullmatch(key):
        return f"{text!r} is not of the form group.key=value"
    group, _, name = key.partition(".")
    target = content.setdefault(group, {})
    if not isinstance(target, dict):
        return f"{group!r} is a value in the recipe, not a group"
    target[name] = _toml_value(value)
    return None


def _toml_value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    """Read a value as TOML would; what is no TOML value is a string, so quotes may be left out."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _describe(error: ValidationError) -> list[str]:
    """Say each wrong place once, in the recipe's own terms.

    A value that may be `auto` or a number fails twice, once for each; the two are joined.
    """
    places: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for found in error.errors():
        location = [str(part) for part in found["loc"]][:2]
        place = ".".join(location)
        messages = places.setdefault(place, [])
        if found["type"] == "extra_forbidden":
            messages.append(f"unknown key{_suggestion(location)}")
        elif found["type"] == "missing":
            messages.append("missing")
        else:
            message = found["msg"].removeprefix("Value error, ").removeprefix("Input ")
            messages.append(message)
            if len(location) > 1:
                shown[place] = f" (it is {found['input']!r:.80})"
    return [
        f"{place}: {' or '.join(messages)}{shown.get(place, '')}"
        for place, messages in places.items()
    ]


def _suggestion(location: Sequence[str]) -> str:
    group: Any = Recipe
    for part in location[:-1]:
        group = group.model_fields[part].annotation
    near = difflib.get_close_matches(location[-1], list(group.model_fields), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""

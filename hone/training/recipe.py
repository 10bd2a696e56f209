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
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class ModelGroup(_Group):
    """Which base, and how it is changed."""

    base: str = "minilm"
    """A name of the catalogue, a local Hugging Face folder, or `hub:owner/name[@revision]`."""
    continue_from: str | None = None
    """A version in the store (`support@3`) of this base, with whose weights to begin."""
    method: Literal["full", "lora"] = "full"
    """All weights, or low-rank matrices on every linear layer (merged before the export)."""
    pooling: Literal["auto", "mean", "cls"] = "auto"
    """How token vectors become one; `auto` takes what the base's own files say, else the mean."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout before the head."""
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of attention weights. At 0 a CPU has a fused attention, several times faster on
    long texts; the base's other dropout is as its config.json says."""
    lora_rank: int = Field(16, ge=1, le=512)
    """Rank of the LoRA matrices."""
    lora_alpha: float = Field(32.0, gt=0)
    """Scale of the LoRA matrices, divided by the rank."""
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout inside LoRA."""


class OptimizerGroup(_Group):
    """AdamW (Loshchilov and Hutter 2019) and its schedule."""

    name: Literal["adamw"] = "adamw"
    """The optimizer."""
    learning_rate: Auto | Annotated[float, Field(gt=0, lt=1)] = "auto"
    """Peak rate; `auto` is 2e-4 (LoRA 1e-3) for a batch of 32, growing with its square root."""
    learning_rate_multiplier: float = Field(1.0, gt=0, le=1000)
    """What the rate is multiplied by, also one that `auto` has settled."""
    head_rate_factor: float = Field(5.0, gt=0, le=1000)
    """How much faster the head learns, which begins with no pretraining behind it."""
    weight_decay: float = Field(0.01, ge=0, le=1)
    """Decay of matrices; biases and norms have none."""
    warmup_share: float = Field(0.06, ge=0, lt=1)
    """Share of the steps in which the rate rises from zero."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate falls afterwards."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""


class DatasetGroup(_Group):
    """Where the prepared examples lie, and how texts are cut."""

    path: str | None = None
    """A folder that `hone prepare` made. Instead of it: the files below."""
    train: str | None = None
    """Training examples, JSON lines."""
    validation: str | None = None
    """Validation examples: they choose weights, calibrate, and are the gate's texts."""
    test: str | None = None
    """Test examples: only scored, at the end."""
    max_tokens: Auto | Annotated[int, Field(ge=4, le=8192)] = "auto"
    """Longest text in tokens; `auto` takes the longest there is, within the base's positions."""
    long_texts: LongTexts = "head_tail"
    """What is done with a longer one: keep its `head`; its first quarter and its end; or `reject`
    it."""
    class_weights: Literal["none", "balanced"] = "none"
    """Whether rare classes weigh more in the loss."""
    positive_label: str | None = None
    """With two labels: the one that precision, recall and F-beta are about; else the rarer."""
    betas: list[Annotated[float, Field(gt=0, le=100)]] = Field([0.5, 2.0], max_length=20)
    """Which F-betas are scored with two labels."""

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
    """Passes over the data; `auto` takes 8, for small data more (600 steps, 30 epochs at most)."""
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = "auto"
    """Examples in one step on all devices; `auto` is 8 below 300 rows, 16 below 2,000, else 32."""
    gradient_accumulation: int = Field(1, ge=1, le=1024)
    """Parts in which a batch is computed, where memory is short."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target spread over all labels (Szegedy et al. 2016)."""
    token_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the tokens that a training step hides from the model, drawn anew each time."""
    easy_share: Auto | Annotated[float, Field(ge=0, le=1)] = "auto"
    """Share of the rows, those with the lowest loss, of which half sit out an epoch and half weigh
    twice (InfoBatch, Qin et al. 2024); `auto` is 0.6 from 4,000 rows on, else 0: every row."""
    train_embeddings: bool = False
    """Whether word embeddings are trained; half of a small base, and of little use."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic; `auto` is bf16 where the hardware has it."""
    early_stopping_patience: int = Field(5, ge=0)
    """Evaluations (one an epoch) without gain after which the run stops; 0 never stops."""
    checkpoint_every_s: float = Field(60.0, gt=0)
    """Seconds between checkpoints."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of the data's order, the head and dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""


class SavingGroup(_Group):
    """Where the bundle goes, and what is in it."""

    name: Annotated[str, AfterValidator(_model_name)]
    """The model's name in the store."""
    store: str = "store"
    """The store's folder."""
    runs: str = "runs"
    """The folder for checkpoints and the model card's page."""
    variants: list[Variant] = Field(["fp32", "int8"], min_length=1)
    """What is exported; those that fail the gate are left out with the reason."""
    keep_weights: bool = True
    """Whether the bundle also holds the trained weights as safetensors."""
    promote: bool = False
    """Whether the new version becomes `production` at once."""
    licence: str = "unknown"
    """The licence of your data, noted in the bundle."""

    @model_validator(mode="after")
    def _fp32_is_the_reference(self) -> Self:
        if "fp32" not in self.variants:
            raise ValueError("variants must hold 'fp32': the others are made from it")
        if "int4" in self.variants:
            raise ValueError("'int4' is for causal models: a classifier is not faster with it")
        return self


class BaselineGroup(_Group):
    """The prompt whose work the model takes over, for counting what is saved."""

    instruction: str | None = None
    """Its instruction; by default the one that the data shared, else a list of the labels."""
    examples: int = Field(16, ge=0, le=1000)
    """How many training examples it holds; none by default if the data shared an instruction."""
    tokenizer: str | None = None
    """A tokenizer.json of the model that was prompted, to count exactly; else an estimate."""
    price_model: str | None = None
    """The prompted model's name in the price file, for dollars saved."""


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
    except (ValueError, RecursionError):  # a number of thousands of digits; as many brackets
        raise InvalidRecipe([f"{path} is not TOML that can be read"]) from None
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
    found = _toml_value(value)
    # Quotes may be left out: a text is a text even where it looks like a number or a date.
    target[name] = found if isinstance(found, str) or not _is_text(group, name) else value
    return None


def _toml_value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    """Read a value as TOML would; what is no TOML value is a string, so quotes may be left out."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if len(found) == 1 else text


def _is_text(group: str, name: str) -> bool:
    """Whether a key can only have a string."""
    groups: dict[str, Any] = Recipe.model_fields
    fields = groups[group].annotation.model_fields if group in groups else {}
    return name in fields and fields[name].annotation in {str, str | None}


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

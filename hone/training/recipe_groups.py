"""What the recipes of all tasks share: the form of a group, where bundles go, the baseline."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from hone.models.errors import HoneError
from hone.models.manifest import Variant, sha256_of_json
from hone.models.names import check_model_name
from hone.models.toml_files import Group

Auto = Literal["auto"]


def _model_name(name: str) -> str:
    try:
        return check_model_name(name)
    except HoneError as error:
        raise ValueError(str(error)) from None


class SavingGroup(Group):
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
        return self


class BaselineGroup(Group):
    """The prompt whose work the model takes over, for counting what is saved."""

    instruction: str | None = None
    """Its instruction; by default the one that the data shared, else a list of the labels."""
    examples: int = Field(16, ge=0, le=1000)
    """How many training examples it holds; none by default if the data shared an instruction."""
    tokenizer: str | None = None
    """A tokenizer.json of the model that was prompted, to count exactly; else an estimate."""
    price_model: str | None = None
    """The prompted model's name in the price file, for dollars saved."""


class LoopGroup(Group):
    """What every training loop can be told."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic; `auto` is bf16 where the hardware has it."""
    gradient_accumulation: int = Field(1, ge=1, le=1024)
    """Parts in which a batch is computed, where memory is short."""
    early_stopping_patience: int = Field(5, ge=0)
    """Evaluations without gain after which the run stops; 0 never stops."""
    checkpoint_every_s: float = Field(60.0, gt=0)
    """Seconds between checkpoints."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of everything that is drawn: the data's order, new weights, dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""


class Recipe(Group):
    """A whole recipe of some task, with defaults filled in. Its `model` group names the task."""

    training: LoopGroup = LoopGroup()
    saving: SavingGroup
    baseline: BaselineGroup = BaselineGroup()

    def sha256(self) -> str:
        """Return the SHA-256 of the recipe's canonical JSON, where it is stored left out."""
        content = self.model_dump(mode="json")
        for place in ("store", "runs", "promote"):
            del content["saving"][place]
        content["saving"].pop("checkpoints", None)  # they change nothing of the model
        return sha256_of_json(content)

"""The manifest: what a bundle says about itself."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hone.models.catalogue import Task
from hone.models.decoding.tool_calls import ToolForm
from hone.models.errors import BundleCorrupt
from hone.models.imaging.preprocessing import Preprocessing
from hone.models.names import MODEL_NAME
from hone.models.prompt_form import PromptForm
from hone.models.prompting.arm import PromptArm
from hone.models.savings import BaselinePrompt
from hone.models.tokenizer import LongTexts

FORMAT_VERSION: Literal[1] = 1
MANIFEST_FILE = "manifest.json"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "card.md"

Variant = Literal["fp32", "int8", "int4", "fp16"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    # JSON has no NaN or infinity: refused where the record is made, not when it is published.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(_Record):
    """One file of the bundle: path relative to the bundle's folder, bytes, SHA-256."""

    path: str = Field(pattern=r"^[a-z0-9][A-Za-z0-9._-]*$")
    size: int = Field(ge=0)
    sha256: Sha256


class Limits(_Record):
    """The longest text in tokens, and what is done with a longer one."""

    max_tokens: int = Field(ge=1)
    long_texts: LongTexts = "head"


class BaseModelRecord(_Record):
    """The pretrained model that was fine-tuned.

    `revision` is the SHA-256 of its weights' bytes, of all shards one after another in the order
    of their index.
    """

    id: str
    licence: str
    revision: str


class RecipeRecord(_Record):
    """The recipe as it was resolved, and the SHA-256 of its canonical JSON."""

    sha256: Sha256
    content: dict[str, Any]


class SplitRecord(_Record):
    """One split of the data: rows, and the SHA-256 of its file."""

    rows: int = Field(ge=0)
    sha256: Sha256


class Score(_Record):
    """A score with its 95 % interval and the number of items that it rests on."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)
    interval: str = "wilson"


class Calibration(_Record):
    """Temperature by which logits are divided before the softmax (Guo et al. 2017)."""

    temperature: float = Field(gt=0)
    ece_before: float
    ece_after: float
    n: int


class ParityRecord(_Record):
    """How an exported variant's answers compare with the trained model's, on validation rows.

    `device` is where the exported one ran, `cpu` or `cuda`.
    """

    passed: bool
    rows: int
    equal_predictions: float
    largest_logit_difference: float
    accuracy_trained: float
    accuracy_exported: float
    accuracy_change_low: float
    accuracy_change_high: float
    alone_and_in_batch_difference: float
    alone_and_in_batch_equal: float
    reasons: list[str] = []
    device: str = "cpu"


class GenerationParity(_Record):
    """How an exported decoder compares with the trained model, on validation prompts.

    Shares of the greedy continuations that are equal, and that part where two tokens are as good
    as tied; the share of all places with the same most probable token, given the same text before;
    losses in nats a token of the prompts.
    """

    passed: bool
    prompts: int
    tokens: int
    equal_continuations: float
    tied_continuations: float
    equal_tokens: float
    largest_logit_difference: float
    loss_trained: float
    loss_exported: float
    alone_and_in_company_equal: float
    reasons: list[str] = []
    device: str = "cpu"


class GenerationRecord(_Record):
    """What serving must know of a causal model.

    `context_tokens` is the most that prompt and completion may have together. A completion ends at
    one of `eos_ids`. `chat_template` is a file of the bundle in Jinja's language, None for a model
    that does not chat; `template_tokens` are the texts that it may name (`bos_token`, ...).
    `tool_form` is how it writes tool calls, None where it knows no tools. `trained_on_chats` is
    whether its training examples were chats, written by that template.
    """

    context_tokens: int = Field(ge=2)
    eos_ids: list[int] = Field(min_length=1)
    chat_template: str | None = None
    template_tokens: dict[str, str] = {}
    tool_form: ToolForm | None = None
    parity: dict[Variant, GenerationParity] = {}
    takes_adapters: bool = False
    trained_on_chats: bool = False


class AdapterRecord(_Record):
    """An adapter's rank, and the base that it changes: another bundle of the same store.

    `base` is that bundle's model name; `base_files` the SHA-256 of its ONNX file for each variant
    on which the adapter passed the gate. Any version of the base that holds the file will do.
    """

    rank: int = Field(ge=1)
    base: str = Field(pattern=f"^{MODEL_NAME.pattern}$")
    base_files: dict[Variant, Sha256] = Field(min_length=1)


class FallbackRecord(_Record):
    """Below which confidence a text goes to a prompt as well, and what that rests on.

    Of the answers with a calibrated confidence of at least `threshold`, at most the share
    `max_error` is wrong, with the probability `confidence` over the choice of the `items` that
    chose it; `kept` of them were at or above it, and `wrong` of these were wrong. On the items that
    did not choose, the share `share_kept` was at or above it. `judgement_sha256` is the hash of the
    report.json that it comes from, `judged_digest` that of the manifest of the version that was
    judged, and `variant` the one of its variants.
    """

    threshold: float = Field(ge=0, le=1)
    max_error: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    items: int = Field(ge=1)
    kept: int = Field(ge=0)
    wrong: float = Field(ge=0)
    share_kept: float = Field(ge=0, le=1)
    verdict: str
    set_at: datetime
    judgement_sha256: Sha256
    judged_digest: Sha256
    variant: Variant
    arm: PromptArm


class TokenLengths(_Record):
    """Percentiles of the training texts' lengths in tokens, special ones included."""

    p50: int
    p90: int
    p99: int
    longest: int


class ManifestBody(_Record):
    """What the training room knows when it publishes."""

    task: Task
    labels: list[str] = []
    limits: Limits | None = None
    base: BaseModelRecord
    recipe: RecipeRecord
    data: dict[str, SplitRecord]
    scores: dict[str, dict[str, Score]]
    calibration: Calibration = Calibration(temperature=1.0, ece_before=0.0, ece_after=0.0, n=0)
    variants: dict[Variant, str] = Field(min_length=1)
    parity: dict[Variant, ParityRecord] = {}
    generation: GenerationRecord | None = None
    adapter: AdapterRecord | None = None
    left_out: dict[Variant, str] = {}
    baseline: BaselinePrompt | None = None
    prompt_form: PromptForm | None = None
    token_lengths: TokenLengths | None = None
    preprocessing: Preprocessing | None = None
    fallback: FallbackRecord | None = None
    libraries: dict[str, str] = {}
    licence: str = "unknown"

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        return self

    @model_validator(mode="after")
    def _says_what_its_task_needs(self) -> Self:
        generates = self.task == "text-generation"
        if generates != (self.generation is not None):
            raise ValueError("'generation' is for models of that task, and for all of them")
        if not generates and len(self.labels) < 2:
            raise ValueError("a classifier has two labels at least")
        return self

    @model_validator(mode="after")
    def _says_on_what_its_adapter_runs(self) -> Self:
        if self.adapter is None:
            return self
        if self.generation is None or self.generation.takes_adapters:
            raise ValueError("'adapter' is for models that generate, and not for their bases")
        if self.adapter.base_files.keys() != self.variants.keys():
            raise ValueError("'adapter' names a file of its base for each variant")
        return self

    @model_validator(mode="after")
    def _says_how_its_inputs_are_read(self) -> Self:
        pictures = self.task == "image-classification"
        if pictures != (self.preprocessing is not None):
            raise ValueError("'preprocessing' is for models of pictures, and for all of them")
        if not pictures and (self.limits is None or self.token_lengths is None):
            raise ValueError("'limits' and 'token_lengths' are needed for models of texts")
        return self

    @model_validator(mode="after")
    def _falls_back_to_its_own_labels(self) -> Self:
        if self.fallback is None:
            return self
        if self.task == "text-generation":
            raise ValueError("'fallback' is for models that classify")
        if (self.fallback.arm.inputs == "image") != (self.task == "image-classification"):
            raise ValueError("the fallback is asked about other inputs than the model's")
        if set(self.fallback.arm.labels) != set(self.labels):
            raise ValueError("the fallback's labels are not those of the model")
        return self

    @property
    def text_limits(self) -> Limits:
        """The limits of a model of texts; BundleCorrupt for a model of pictures."""
        if self.limits is None:
            raise BundleCorrupt("the bundle is of no model of texts")
        return self.limits

    @property
    def text_lengths(self) -> TokenLengths:
        """The lengths of the texts a model was trained on; BundleCorrupt for one of pictures."""
        if self.token_lengths is None:
            raise BundleCorrupt("the bundle is of no model of texts")
        return self.token_lengths

    @property
    def picture_rule(self) -> Preprocessing:
        """How a model of pictures has them; BundleCorrupt for a model of texts."""
        if self.preprocessing is None:
            raise BundleCorrupt("the bundle is of no model of pictures")
        return self.preprocessing


class Manifest(ManifestBody):
    """The whole manifest; `digest` is the SHA-256 of the canonical JSON of all other fields."""

    format_version: Literal[1] = FORMAT_VERSION
    model: str = Field(pattern=f"^{MODEL_NAME.pattern}$")
    version: int = Field(ge=1)
    created_at: datetime
    hone_version: str
    files: list[FileEntry]
    digest: Sha256

    def to_bytes(self) -> bytes:
        """Return the one canonical form in which a manifest may stand on disk."""
        return _dump(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read a manifest; BundleCorrupt unless it is canonical, valid and has its own digest.

        Because the bytes must be the canonical form of what they say, and what they say must
        hash to `digest`, a flipped byte anywhere in the file is noticed. Both are asked of the
        JSON as it stands, not of these classes: fields that came later have their defaults, and
        a manifest from before them stays whole.
        """
        try:
            stated = orjson.loads(content)
            canonical = _dump(stated) == content
            manifest = cls.model_validate_json(content, strict=True)
            del stated["digest"]
            unchanged = canonical and manifest.digest == sha256_of_json(stated)
        except (ValueError, TypeError):  # no JSON, no manifest, or one that cannot be JSON again
            raise BundleCorrupt(f"{MANIFEST_FILE} is not a valid manifest") from None
        if not unchanged:
            raise BundleCorrupt(f"{MANIFEST_FILE} was changed after it was written")
        return manifest


def digest_of(manifest: Manifest) -> str:
    """Return the SHA-256 of the manifest's canonical JSON without `digest`, as written today."""
    return sha256_of_json(manifest.model_dump(mode="json", exclude={"digest"}))


def file_sha256(manifest: Manifest, variant: Variant) -> str | None:
    """Return the SHA-256 of a variant's file; None if the bundle has no such variant."""
    name = manifest.variants.get(variant)
    return next((entry.sha256 for entry in manifest.files if entry.path == name), None)


def sha256_of_json(content: Any) -> str:  # noqa: ANN401 - any JSON
    """Return the SHA-256 of the canonical (sorted, compact) JSON of `content`."""
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def build_manifest(
    body: ManifestBody, *, model: str, version: int, hone_version: str, files: list[FileEntry]
) -> Manifest:
    """Complete a body with name, version, time, files and digest."""
    draft = Manifest(
        **dict(body),
        model=model,
        version=version,
        created_at=datetime.now(UTC).replace(microsecond=0),
        hone_version=hone_version,
        files=files,
        digest="0" * 64,
    )
    return draft.model_copy(update={"digest": digest_of(draft)})


def _dump(content: Any) -> bytes:  # noqa: ANN401 - any JSON
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2) + b"\n"

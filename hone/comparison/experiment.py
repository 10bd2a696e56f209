"""What an experiment file may say: the groups of a comparison, and its contenders."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from hone.models.errors import HoneError
from hone.models.manifest import Variant, sha256_of_json
from hone.models.names import parse_reference
from hone.models.prompting.wire import PATHS, Api, Detail
from hone.models.toml_files import Group, fault_of_keys

Billing = Literal["tokens", "hosting"]

_OWN_FIELDS = frozenset(
    [
        "best_of",
        "input",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "prompt",
        "questions",
        "stop",
        "stream",
        "temperature",
    ]
)
"""Fields that have a key of their own, or that answers are neither read nor paid by."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}$"


def _reference(text: str) -> str:
    try:
        parse_reference(text)
    except HoneError as error:
        raise ValueError(str(error)) from None
    return text


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        named, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not an address") from None
    if parts.scheme not in {"http", "https"} or not named:
        raise ValueError("should be an address such as https://api.example.com/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("should hold no user, key or query: name the key in api_key_env")
    if any(sign.isspace() for sign in text):
        raise ValueError("should hold no spaces")
    path = parts.path.rstrip("/")  # of the path alone: a host may be called "classify"
    for route in PATHS.values():
        if path.endswith(route):
            raise ValueError(f"should be where the API begins, without {route!r}")
    return text.rstrip("/")


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    own = [repr(name) for name in given if name in _OWN_FIELDS]
    if own:
        raise ValueError(f"{', '.join(own)} cannot be given here")
    return given


class ExperimentGroup(Group):
    """What is asked of every contender."""

    name: Annotated[str, Field(pattern=NAME)]
    """What the comparison is called; its run folder has this name."""
    task: Literal["classification", "text-classification", "image-classification"] = (
        "classification"
    )
    """What is classified: by default what the items are. Another kind than that is refused."""
    path: str | None = None
    """A folder that `hone prepare` made: its test split is asked, its training split teaches."""
    test: str | None = None
    """Instead of `path`: the test items, JSON lines with text or image, label, and id and group if
    any. An image is a path beside the file, or a data URL."""
    train: str | None = None
    """Training examples, for few-shot and retrieved prompts, the majority and contamination."""
    made_by: str | None = None
    """The command that makes these files, for the message where they are not there."""
    labels: Annotated[list[str], Field(min_length=2)] | None = None
    """The labels in the order of the prompt; by default all of the files', sorted."""
    label_descriptions: dict[str, str] = Field({})
    """What a label means, for the prompts: shown after its name."""
    labels_from: Literal["people", "model"] = "people"
    """Who gave the gold labels. A model's make the report speak of agreement, not of accuracy."""
    repeats: int = Field(1, ge=1, le=100)
    """How often each item is asked of a contender that may answer differently each time."""
    most_items: int | None = Field(None, ge=1)
    """Ask only so many of the test items, drawn by the seed."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of the few-shot examples, the drawn items, and what the judge draws."""
    reading: Literal["lenient", "strict"] = "lenient"
    """Whether a label may be found within a longer answer, or must be all of it."""

    @model_validator(mode="after")
    def _either_folder_or_files(self) -> Self:
        if (self.path is None) == (self.test is None):
            said = "give either 'path', a folder that hone prepare made, or 'test'"
            raise fault_of_keys(said, "path", "test")
        if self.path is not None and self.train is not None:
            said = "give either 'path' or the files ('train'), not both"
            raise fault_of_keys(said, "path", "train")
        return self


class DecisionGroup(Group):
    """What the judge decides by. Written before the run: a later change is recorded."""

    candidate: str
    """The contender that would replace the baseline."""
    baseline: str
    """The contender in use today."""
    margin: float = Field(gt=0, lt=1)
    """The loss of accuracy that would not matter (0.02 is two points)."""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """The risk of calling a candidate not inferior that is."""
    power: float = Field(0.8, gt=0.5, lt=1)
    """How surely a candidate that is as good should be seen to be, for the number of items."""
    max_error: float | None = Field(None, gt=0, lt=1)
    """The error among kept answers that fallback must stay under; none: no fallback."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """How surely it must."""
    least_kept: float = Field(0.1, ge=0, le=1)
    """A fallback that keeps a smaller share of the answers is not worth having."""
    most_failed: float = Field(0.1, ge=0, le=1)
    """The share of a contender's calls that may fail before nothing is judged."""
    must_save: bool = True
    """Whether a replacement that costs more than the prompt is none."""


class ServingCosts(Group):
    """What one contender costs besides its tokens, in US dollars."""

    serving_usd_per_hour: float | None = Field(None, ge=0)
    """The price of the machine that serves it."""
    requests_per_second: float | None = Field(None, gt=0)
    """What that machine was measured to sustain; else one call at a time, as in this run."""
    most_in_use: float = Field(0.5, gt=0, le=1)
    """The largest share of that which is planned for."""
    serving_billing: Literal["always_on", "per_use"] = "always_on"
    """Whether the machine runs all month, or is paid while it answers."""
    training_usd: float = Field(0.0, ge=0)
    """What training it cost, once."""
    labelling_usd: float = Field(0.0, ge=0)
    """What its labels cost, once."""


class CostsGroup(ServingCosts):
    """What everything costs. The machine, the training and the labels are the candidate's; other
    contenders have `[contenders.costs]`. What is not given is not known, and never zero.
    """

    prices: str | None = None
    """A price file in LiteLLM's form; by default the snapshot that ships."""
    requests_per_month: float | None = Field(None, gt=0)
    """The traffic that would move."""
    months: float = Field(12.0, gt=0)
    """Over how many months what is paid once is spread."""
    shadow_share: float = Field(0.0, ge=0, le=1)
    """The share of requests that also go to the baseline after the replacement, for watching."""


class LimitsGroup(Group):
    """How the contenders are asked."""

    dollars: float | None = Field(None, ge=0)
    """The most that the calls of this run folder may ever cost; none: no limit."""
    unknown_prices: Literal["refuse", "allow"] = "refuse"
    """With a limit in dollars: whether contenders without a known price may be asked."""
    concurrency: int = Field(4, ge=1, le=256)
    """Calls at once, of one contender; 1 measures its delay best."""
    retries: int = Field(4, ge=0, le=20)
    """How often a call that failed is made again."""
    timeout_s: float = Field(60.0, gt=0, le=3600)
    """How long one call may take."""
    first_wait_s: float = Field(0.5, gt=0, le=3600)
    """How long to wait before the first retry; each further one waits twice as long."""
    longest_wait_s: float = Field(60.0, gt=0, le=3600)
    """How long to wait before a retry at most; an answerer that asks for more has failed."""


class Contender(Group):
    """What every contender has."""

    name: Annotated[str, Field(pattern=NAME)]
    """What it is called in the report."""
    costs: ServingCosts | None = None
    """What it costs besides tokens, in place of what `[costs]` says of the candidate."""


class BundleContender(Contender):
    """A fine-tuned bundle of a store, run in this process."""

    kind: Literal["bundle"]
    model: Annotated[str, AfterValidator(_reference)]
    """Which version: `support`, `support@3` or `support@production`."""
    store: str = "store"
    """The store's folder."""
    variant: Variant | None = None
    """Default: the fastest that the bundle has."""


class RemoteContender(Contender):
    """A model that is asked over HTTP."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """The model's name there."""
    address: Annotated[str, AfterValidator(_address)]
    """Where its API begins, such as `https://api.openai.com/v1`."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds its key."""
    key_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "Authorization"
    """The header for the key: `Authorization` gets `Bearer KEY`, another one the key alone."""
    temperature: Annotated[float, Field(ge=0, le=2)] | Literal["default"] = 0.0
    """Sent with the request; `default` leaves it to the model."""
    max_answer_tokens: int = Field(32, ge=1, le=100_000)
    """The longest answer, reasoning included."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the API calls that; newer hosted chat models want `max_completion_tokens`."""
    stop: list[str] | None = None
    """Where an answer ends; a completion ends at a line's end by default."""
    logprobs: bool = False
    """Ask for the tokens' probabilities, for a confidence."""
    detail: Detail | None = None
    """How closely a chat's model should look at pictures: `auto`, `low` or `high`; not sent
    unless given."""
    parameters: Annotated[dict[str, Any], AfterValidator(_parameters)] = Field({})
    """More fields of the request's body, as they are (`reasoning_effort`, `top_p`, `seed`)."""
    billing: Billing | None = None
    """`tokens`: each call costs its tokens; `hosting`: it costs nothing by itself. Hone's own
    classify is `hosting`, all others `tokens` unless said so here."""
    price_model: str | None = None
    """Its name in the price file; by default `model`."""
    tokenizer: str | None = None
    """A tokenizer.json, to count tokens exactly where the answers have no `usage`."""
    repeats: int | None = Field(None, ge=1, le=100)
    """In place of the experiment's."""
    concurrency: int | None = Field(None, ge=1, le=256)
    """In place of the limits'."""


class ServedContender(RemoteContender):
    """A model behind an API that needs no prompt: it gets the text or the picture alone."""

    kind: Literal["served"]
    api: Api = "classify"
    """Hone's `/v1/classify`, or the API's `chat`, `completions` or `decisions`."""
    template: str | None = None
    """What it is sent, for a model that was trained with a separator: by default `{text}`, the
    input, or `{image}`."""


class Prompted(Contender):
    """A large model with a prompt, wherever it runs."""

    prompt: Literal["zero-shot", "few-shot", "retrieved"]
    """No examples; `k` examples drawn by the seed; or the `k` nearest for each item."""
    k: int | None = Field(None, ge=1, le=1000)
    """How many examples; 16 by default, 8 where they are retrieved."""
    system: str | None = None
    """The template of the system message: {labels}, {examples}, {text}."""
    template: str | None = None
    """The template of the user's message: {text}, {labels}, {examples}; {image} for pictures."""
    example: str | None = None
    """The template of one example, by default `Text: {text}` and `Label: {label}` on two lines; of
    pictures `{image}` and `Label: {label}`."""
    examples_as: Literal["text", "turns"] = "text"
    """In place of {examples}, or as turns of the chat, each a question and its answer."""
    base: str = "minilm"
    """The encoder that finds the nearest examples; for pictures an image classifier's folder, or
    `hub:owner/name`, which has to be given."""

    @model_validator(mode="after")
    def _examples_fit(self) -> Self:
        found: dict[str, str] = {}
        if self.prompt == "zero-shot" and self.k is not None:
            found["k"] = "a zero-shot prompt has no examples: leave 'k' out"
        if self.examples_as == "turns" and getattr(self, "api", "chat") != "chat":
            found["examples_as"] = "'examples_as' can be turns in a chat only"
        if found:
            raise fault_of_keys("; ".join(found.values()), *found)
        return self

    @property
    def shots(self) -> int:
        """How many examples its prompt has."""
        if self.prompt == "zero-shot":
            return 0
        return self.k or (8 if self.prompt == "retrieved" else 16)


class PromptContender(Prompted, RemoteContender):
    """A large model with a prompt."""

    kind: Literal["prompt"]
    api: Literal["chat", "completions", "decisions"] = "chat"
    """The API that it is asked by."""


class GeneratingContender(Prompted):
    """A causal model of a store with a prompt, run in this process, greedily."""

    kind: Literal["generating"]
    model: Annotated[str, AfterValidator(_reference)]
    """Which version: `writer`, `writer@3` or `writer@production`."""
    store: str = "store"
    """The store's folder."""
    variant: Variant | None = None
    """Default: the first of int8, int4 and fp32 that the bundle has."""
    api: Literal["chat", "completions"] = "chat"
    """Through the bundle's chat template, or as one text to go on from."""
    max_answer_tokens: int = Field(32, ge=1, le=4096)
    """The longest answer."""
    stop: list[str] | None = None
    """Where an answer ends; a completion ends at a line's end by default."""


class EmbeddedContender(Contender):
    """A base without any training: the label whose name is nearest to the text."""

    kind: Literal["embedded"]
    base: str = "minilm"
    """The encoder."""
    template: str = "{label}"
    """What is embedded for a label; `{description}` is its description, or its name."""


class MajorityContender(Contender):
    """The label that the training examples have most often, whatever the text."""

    kind: Literal["majority"]


class RecordedContender(Contender):
    """Answers that were recorded in a file before."""

    kind: Literal["recorded"]
    path: str
    """JSON lines with id or text, and answer (read by the rules) or label."""
    price_model: str | None = None
    """Its name in the price file, where the file tells its tokens."""


AnyContender = Annotated[
    BundleContender
    | ServedContender
    | PromptContender
    | GeneratingContender
    | EmbeddedContender
    | MajorityContender
    | RecordedContender,
    Field(discriminator="kind"),
]
Asked = ServedContender | PromptContender
"""The contenders that are asked over HTTP."""

CONTENDERS: dict[str, type[Contender]] = {
    "bundle": BundleContender,
    "served": ServedContender,
    "prompt": PromptContender,
    "generating": GeneratingContender,
    "embedded": EmbeddedContender,
    "majority": MajorityContender,
    "recorded": RecordedContender,
}


class Experiment(Group):
    """A whole experiment, with defaults filled in. Its names are checked in `experiment_draft`."""

    experiment: ExperimentGroup
    decision: DecisionGroup
    costs: CostsGroup = CostsGroup()
    limits: LimitsGroup = LimitsGroup()
    contenders: list[AnyContender] = Field(min_length=1)

    def decision_sha256(self) -> str:
        """Return the SHA-256 of what the judge decides by: the decision's group."""
        return sha256_of_json(self.decision.model_dump(mode="json"))


def billing_of(contender: Asked) -> Billing:
    """Return whether a contender's calls cost their tokens."""
    if contender.billing is not None:
        return contender.billing
    return "hosting" if contender.api == "classify" else "tokens"

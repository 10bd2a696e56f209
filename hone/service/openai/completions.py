"""`POST /v1/completions`, and `/v1/engines/{engine}/completions`: prompts in, labels out.

A label is one token. `logprobs` are the labels' own, true log-probabilities; of the prompt, which
`echo` repeats as one token, there is none, as there is none of the first token ever.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hone.models.prompt_form import Reading
from hone.service.answers import Bill, savings_body
from hone.service.endpoint import Reply
from hone.service.errors import InvalidRequest
from hone.service.openai.fields import Fields
from hone.service.openai.sampling import (
    MOST_CHOICES,
    MOST_TOKENS,
    Sampling,
    answer_head,
    answered_label,
    check_choices,
    ranked_labels,
    read_sampling,
    streamed,
    usage_body,
    whole,
)
from hone.service.reading import check_texts
from hone.service.serving import LoadedModel
from hone.service.settings import Settings
from hone.service.tickets import Ticket, WorkItem

MOST_LOGPROBS = 5
DEFAULT_MAX_TOKENS = 16


@dataclass(slots=True)
class CompletionQuestion:
    """Prompts to complete; `logprobs` is how many labels to show, None for no log-probabilities.

    `says_label` is False where no token of a completion is wanted, only the echo.
    """

    model: str
    prompts: list[str]
    places: Sequence[str]
    sampling: Sampling
    logprobs: int | None
    echo: bool
    says_label: bool
    readings: list[Reading] = field(default_factory=list)

    def texts(self, model: LoadedModel) -> Sequence[str]:
        """Return the prompts without what the training data's prompts shared."""
        self.readings = [model.prompt_form.read(prompt) for prompt in self.prompts]
        for place, reading in zip(self.places, self.readings, strict=True):
            if not reading.text:
                message = f"'{place}' holds nothing but what all prompts share."
                raise InvalidRequest(message, param=place, code="empty_text")
        return [reading.text for reading in self.readings]

    def sent_beside(self) -> Sequence[str]:
        """Return what was sent with each prompt and not read."""
        return [reading.taken_off for reading in self.readings]

    def wants_label(self, model: LoadedModel) -> bool:
        """Return whether it does: not for an echo alone."""
        del model
        return self.says_label

    def place(self, index: int) -> str:
        """Return the prompt's place in the body."""
        return self.places[index]

    def reply(self, model: LoadedModel, ticket: Ticket, bill: Bill, request_id: str) -> Reply:
        """Return `n` choices for each prompt, in the order of the prompts."""
        choices = list(self._choices(model, ticket.items))
        head = answer_head(model, "text_completion", request_id)
        usage = usage_body(bill, len(choices) * self.says_label)
        last = {"usage": usage, "savings": savings_body(bill)}
        if not self.sampling.stream:
            return whole(head, choices, last)
        return streamed(head, _parts(choices), last if self.sampling.include_usage else None)

    def _choices(self, model: LoadedModel, items: Sequence[WorkItem]) -> Iterator[dict[str, Any]]:
        for number, (prompt, item) in enumerate(zip(self.prompts, items, strict=True)):
            choice = self._choice(model, prompt, item)
            for copy in range(self.sampling.n):
                yield {**choice, "index": number * self.sampling.n + copy}

    def _choice(self, model: LoadedModel, prompt: str, item: WorkItem) -> dict[str, Any]:
        # At least one stands in the top, as it always did.
        top = ranked_labels(model, item, max(1, self.logprobs or 0))
        answer, *ranked = (
            (model.prompt_form.completion(label), logprob)
            for label, logprob in (answered_label(model, item), *top)
        )
        said = self.sampling.cut(answer[0]) if self.says_label else ""
        return {
            "text": prompt + said if self.echo else said,
            "index": 0,
            "logprobs": None if self.logprobs is None else self._logprobs(prompt, answer, ranked),
            "finish_reason": "stop" if self.says_label else "length",
        }

    def _logprobs(
        self, prompt: str, answer: tuple[str, float], top: list[tuple[str, float]]
    ) -> dict[str, Any]:
        """Return the four parallel lists; offsets count from the beginning of the prompt."""
        tokens: list[tuple[str, float | None, dict[str, float] | None, int]] = []
        if self.echo:
            tokens.append((prompt, None, None, 0))
        if self.says_label:
            tokens.append((*answer, dict(top), len(prompt)))
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        columns = zip(*tokens, strict=True) if tokens else ([], [], [], [])
        return dict(zip(names, map(list, columns), strict=True))


def _parts(choices: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for choice in choices:
        yield {**choice, "finish_reason": None}
        yield {**choice, "text": "", "logprobs": None}


def read_completion(
    content: Mapping[str, Any], model: str, settings: Settings
) -> CompletionQuestion:
    """Read a body, its model left out; InvalidRequest with the field that is wrong."""
    fields = Fields(content)
    prompts, places = _prompts(fields, settings)
    sampling = read_sampling(fields)
    check_choices(sampling.n, len(prompts), settings.max_items)
    if fields.whole("best_of", sampling.n, low=1, high=MOST_CHOICES) < sampling.n:
        raise fields.wrong("best_of", "must not be less than 'n'")
    logprobs = fields.whole_if_any("logprobs", low=0, high=MOST_LOGPROBS)
    says_label = fields.whole("max_tokens", DEFAULT_MAX_TOKENS, low=0, high=MOST_TOKENS) > 0
    echo = _echo(fields, prompts, sampling, settings)
    fields.none_of(["suffix"])
    fields.end()
    return CompletionQuestion(model, prompts, places, sampling, logprobs, echo, says_label)


def _prompts(fields: Fields, settings: Settings) -> tuple[list[str], Sequence[str]]:
    value = fields.take("prompt")
    if type(value) is list and value and type(value[0]) in {int, list}:
        raise fields.wrong("prompt", "must be text: token ids are not taken", "token_ids")
    prompts = check_texts(value, "prompt", settings)
    single = type(value) is str
    return prompts, ["prompt"] if single else [f"prompt[{i}]" for i in range(len(prompts))]


def _echo(fields: Fields, prompts: list[str], sampling: Sampling, settings: Settings) -> bool:
    echo = fields.flag("echo")
    if echo and sampling.n * sum(map(len, prompts)) > settings.max_body_bytes:
        raise fields.wrong("echo", "would make too long an answer with that 'n'", "answer_too_long")
    return echo

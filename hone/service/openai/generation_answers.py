"""Answers of a causal model, as both completion APIs write them: whole, or event by event."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from hone.models.decoding.detokenizing import places
from hone.models.decoding.generations import Generation, Update
from hone.models.decoding.sampling import TokenLogprob
from hone.service.answers import Bill, created_now, savings_body
from hone.service.generating import GeneratingModel
from hone.service.openai.generation_requests import GenerationQuestion, Prompt
from hone.service.openai.sampling import IMPOSSIBLE
from hone.service.openai.tool_answers import ToolAnswer

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": still at work\n\n"

Json = dict[str, Any]


class Scored(NamedTuple):
    """A token's log-probabilities as the chat API writes them, and where in the text it begins."""

    entry: Json
    place: int


@dataclass(slots=True)
class Choice:
    """One choice of an answer as far as it is known. `prompt` is what a completion goes on from."""

    index: int
    generation: Generation
    prompt: str = ""
    text: str = ""
    finish: str | None = None
    tokens: list[Scored] = field(default_factory=list)
    told: int = 0
    """How many of the tokens were told so far, in a stream."""
    begun: bool = False
    tools: ToolAnswer | None = None
    """Reads its text, where tools may be called."""


class GenerationAnswer:
    """Collects the updates of one request and writes them."""

    def __init__(
        self,
        question: GenerationQuestion,
        model: GeneratingModel,
        generations: Sequence[Generation],
        request_id: str,
    ) -> None:
        self._question = question
        self._model = model
        self.generations = generations
        self._choices = {
            g: Choice(index, g, self._prompt(index), tools=self._tool_answer())
            for index, g in enumerate(generations)
        }
        self._places = [self._places_in(prompt) for prompt in self._echoed()]
        kind = "chat.completion" if question.is_chat else "text_completion"
        self._head: Json = {
            "id": request_id,
            "object": kind,
            "created": created_now(),
            "model": model.shown_as,
            "system_fingerprint": f"fp_{model.facts.digest[:10]}",
        }

    def _tool_answer(self) -> ToolAnswer | None:
        use, template = self._question.tools, self._model.template
        if use is None or template is None or template.tool_form is None:
            return None
        return ToolAnswer(template.tool_form, use)

    def take(self, update: Update) -> list[Json]:
        """Note what is new; return it as parts of a stream, none if it says nothing."""
        choice = self._choices[update.generation]
        self._note(choice, update)
        choice.text += update.text
        choice.finish = update.finish or choice.finish
        fresh = _fresh(choice)
        if choice.tools is not None:
            return self._tool_parts(choice, choice.tools, update, fresh)
        if not (update.text or fresh or not choice.begun):
            return []
        return [self._part(choice, update.text, fresh)]

    def _tool_parts(
        self, choice: Choice, tools: ToolAnswer, update: Update, fresh: list[Scored]
    ) -> list[Json]:
        deltas = tools.take(update.text, last=update.finish is not None)
        if update.finish == "stop" and tools.complete:
            choice.finish = "tool_calls"
        if fresh and not deltas:
            deltas = [{}]  # log-probabilities of what is held back
        parts: list[Json] = []
        for delta in deltas:
            logprobs = None if parts else self._chat_logprobs(fresh)
            ended = {"logprobs": logprobs, "finish_reason": None}
            parts.append({"index": choice.index, "delta": delta, **ended})
        return parts

    @property
    def complete(self) -> bool:
        """Whether every choice has ended."""
        return all(choice.finish for choice in self._choices.values())

    # Streams

    def event(self, choice: Json) -> bytes:
        """Return one event of a stream."""
        head = self._head
        if self._question.is_chat:
            head = head | {"object": "chat.completion.chunk"}
        beside = {"usage": None} if self._question.answering.include_usage else {}
        return _frame(head | {"choices": [choice]} | beside)

    def opening(self, update: Update) -> Iterator[bytes]:
        """Yield what begins a choice: the role of a chat's message, or the echoed prompt."""
        choice = self._choices[update.generation]
        if choice.begun:
            return
        choice.begun = True
        if self._question.is_chat:
            content = "" if choice.tools is None else None  # it may never come
            delta = {"role": "assistant", "content": content, "refusal": None}
            yield self.event({"index": choice.index, "delta": delta, **_NOT_YET})
        elif self._question.answering.echo:
            logprobs = self._legacy_logprobs(self._prompt_tokens(choice))
            echoed = {"text": choice.prompt, "logprobs": logprobs, "finish_reason": None}
            yield self.event({"index": choice.index, **echoed})

    def closing(self, update: Update) -> bytes:
        """Return the event that says why a choice ended."""
        choice = self._choices[update.generation]
        said: Json = {"delta": {}} if self._question.is_chat else {"text": ""}
        ended = {"logprobs": None, "finish_reason": choice.finish}
        return self.event({"index": choice.index, **said, **ended})

    def last_events(self, bill: Bill) -> bytes:
        """Return what ends a stream: usage and savings, if they were asked for, and the mark."""
        if not self._question.answering.include_usage:
            return DONE
        head = self._head
        if self._question.is_chat:
            head = head | {"object": "chat.completion.chunk"}
        return _frame(head | {"choices": [], **self._cost(bill)}) + DONE

    # Whole answers

    def body(self, bill: Bill) -> bytes:
        """Return the answer in one piece."""
        choices = [self._whole(choice) for choice in self._choices.values()]
        return orjson.dumps(self._head | {"choices": choices} | self._cost(bill))

    def _cost(self, bill: Bill) -> Json:
        return {"usage": self.usage(), "savings": savings_body(bill)}

    def bill(self, baseline_input_tokens: int) -> Bill:
        """Return what the answer cost and saved; counts the answers: not for the event loop."""
        prompt_tokens = self.usage()["prompt_tokens"]
        counter = self._model.savings
        if counter is None:
            return Bill(prompt_tokens, None)
        savings = counter.savings(
            texts=sum(generation.leader is None for generation in self.generations),
            text_tokens=baseline_input_tokens,
            prompt_tokens=prompt_tokens,
            completion_tokens=sum(counter.count_text(c.text) for c in self._choices.values()),
        )
        return Bill(prompt_tokens, savings)

    def usage(self) -> Json:
        """Return `usage`: a prompt counts once, whatever the number of its choices."""
        first = [g for g in self.generations if g.leader is None]
        prompt = sum(len(generation.request.prompt) for generation in first)
        completion = sum(generation.generated for generation in self.generations)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(g.reused for g in first)},
        }

    def _whole(self, choice: Choice) -> Json:
        ended = {"finish_reason": choice.finish}
        if self._question.is_chat:
            message = {"role": "assistant", **_said(choice), "refusal": None, "annotations": []}
            logprobs = self._chat_logprobs(choice.tokens)
            return {"index": choice.index, "message": message, "logprobs": logprobs, **ended}
        text, tokens = choice.text, choice.tokens
        if self._question.answering.echo:
            text, tokens = choice.prompt + text, self._prompt_tokens(choice) + tokens
        logprobs = self._legacy_logprobs(tokens)
        return {"index": choice.index, "text": text, "logprobs": logprobs, **ended}

    # Parts

    def _part(self, choice: Choice, text: str, tokens: list[Scored]) -> Json:
        if self._question.is_chat:
            said: Json = {"delta": {"content": text}, "logprobs": self._chat_logprobs(tokens)}
        else:
            said = {"text": text, "logprobs": self._legacy_logprobs(tokens)}
        return {"index": choice.index, **said, "finish_reason": None}

    def _note(self, choice: Choice, update: Update) -> None:
        token = update.token
        if token is not None and token.logprob is not None:
            entry = self._entry(token.id, token.logprob)
            choice.tokens.append(Scored(entry, len(choice.prompt) + token.place))

    def _prompt(self, index: int) -> str:
        if self._question.is_chat:
            return ""
        prompt = self._question.prompts[index // self._question.choices]
        return prompt if isinstance(prompt, str) else self._model.tokenizer.decode(prompt)

    def _echoed(self) -> Sequence[Prompt]:
        """Return the prompts whose tokens are to be scored."""
        return self._question.prompts if self._question.scores_prompts else ()

    def _places_in(self, prompt: Prompt) -> list[int]:
        tokenizer = self._model.tokenizer
        return tokenizer.places(prompt) if isinstance(prompt, str) else places(tokenizer, prompt)

    def _prompt_tokens(self, choice: Choice) -> list[Scored]:
        if not self._places:
            return []
        scores = [None, *choice.generation.prompt_logprobs]
        entries = map(self._entry, choice.generation.request.prompt, scores)
        begins = self._places[choice.index // self._question.choices]
        return [Scored(entry, place) for entry, place in zip(entries, begins, strict=True)]

    def _entry(self, token: int, score: TokenLogprob | None) -> Json:
        entry = self._named(token, None if score is None else score.logprob)
        best = [self._named(*one) for one in score.top] if score else None
        return {**entry, "top_logprobs": best}

    def _named(self, token: int, logprob: float | None) -> Json:
        found = self._model.tokenizer.token_bytes(token)
        shown = None if logprob is None else max(logprob, IMPOSSIBLE)
        return {
            "token": found.decode(errors="replace"), "logprob": shown, "bytes": list(found),
        }  # fmt: skip

    def _chat_logprobs(self, tokens: list[Scored]) -> Json | None:
        if self._question.answering.logprobs is None:
            return None
        return {"content": [token.entry for token in tokens], "refusal": None}

    def _legacy_logprobs(self, tokens: list[Scored]) -> Json | None:
        """Return four parallel lists. Offsets count from the beginning of the prompt."""
        if self._question.answering.logprobs is None:
            return None
        return {
            "tokens": [token.entry["token"] for token in tokens],
            "token_logprobs": [token.entry["logprob"] for token in tokens],
            "top_logprobs": [_best(token.entry) for token in tokens],
            "text_offset": [token.place for token in tokens],
        }


def _fresh(choice: Choice) -> list[Scored]:
    """Return the tokens that can be told now: those that begin in what was said.

    Later ones may be of a stop string, which has no place in the text. They are told when more was
    said, or at the end, as standing there.
    """
    end = len(choice.prompt) + len(choice.text)
    waiting = choice.tokens[choice.told :]
    if choice.finish:
        waiting = [Scored(entry, min(place, end)) for entry, place in waiting]
        choice.tokens[choice.told :] = waiting
    fresh = [token for token in waiting if token.place <= end]
    choice.told += len(fresh)
    return fresh


def _said(choice: Choice) -> Json:
    """Return content and tool calls of a chat's message."""
    if choice.tools is None:
        return {"content": choice.text}
    content, calls = choice.tools.content, choice.tools.calls
    if not calls:
        return {"content": content}
    return {"content": content or None, "tool_calls": calls}


_NOT_YET: Json = {"logprobs": None, "finish_reason": None}


def _best(entry: Json) -> dict[str, float] | None:
    if entry["top_logprobs"] is None:
        return None
    # The chosen token always stands there too, as the API has it.
    best = {one["token"]: one["logprob"] for one in entry["top_logprobs"]}
    return best | {entry["token"]: entry["logprob"]}


def _frame(event: Json) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"

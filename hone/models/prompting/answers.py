"""Reading a label out of what a model wrote, by rules that are stated and tested.

Tried in this order; the first that finds something decides:

1. The whole answer is a label, to the letter; or a JSON string or object that holds one.
2. The whole answer is a label but for case, spacing (`_`, `-` and spaces are alike), quotes,
   Markdown, a trailing period, or `Label:` and the like before it.
3. Its first line, its last line, or what follows the last `Label:` is one so; where they are
   different labels, nothing is read.
4. It begins as a refusal does: it is a refusal.
5. It mentions exactly one label, as whole words, and no negation stands shortly before it.

The strict reading stops after the second rule and the fourth. Two labels that differ in case or
spacing alone are told apart by the letter only. What no rule reads is unparsable: never a guess.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_SPACING = re.compile(r"[\s_\-‐-―]+")
_FENCE = re.compile(r"\A```[a-z]*\s*\n?(.*?)\n?```\Z", re.DOTALL)
_WRAPPING = "\"'`*“”‘’«»「」『』()[]<>.,;:!。，；：！ \t\r\n"
_LEAD = (
    r"(?:the\s+)?(?:final\s+|correct\s+|best\s+|predicted\s+)?"
    r"(?:label|category|class|classification|intent|answer|output|标签|类别|答案)"
)
_LEADING = re.compile(rf"\A{_LEAD}\s*(?:\bis\b\s*:?|:|=|：|是)\s*", re.IGNORECASE)
_MARKED = re.compile(rf"(?<!\w){_LEAD}\s*(?:\bis\b\s*:?|:|=|：|是)\s*([^\n]*)", re.IGNORECASE)
_KEYS = ("label", "category", "class", "classification", "intent", "answer", "result", "output")
_REFUSAL = re.compile(
    r"\A(?:(?:i['’]?m|i\s+am)\s+(?:very\s+|really\s+|so\s+)?(?:sorry|afraid)"
    r"|sorry\b|i\s+apologi[sz]e"
    r"|i\s+(?:can\s*not|can['’]?t|could\s+not|couldn['’]?t|won['’]?t|will\s+not"
    r"|must\s+decline|decline|refuse)\b"
    r"|(?:i['’]?m|i\s+am)\s+(?:unable|not\s+able|not\s+allowed)\b"
    r"|as\s+an\s+ai\b|unfortunately,?\s+i\s+can|抱歉|对不起|很抱歉|我无法|我不能)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|without|isn['’]?t|wasn['’]?t|doesn['’]?t|don['’]?t|cannot"
    r"|rather\s+than|instead\s+of|except|unlike|non)\b"
)
_NEGATION_REACH = 24
"""How many characters before a mention a negation counts in."""

_SHORTEST_MENTION = 3
"""Shorter labels (`a`, `5`, `no`) are only read where they are the whole answer or line."""

_LONGEST_READ = 20_000


@dataclass(frozen=True, slots=True)
class Read:
    """What was read: a label, a refusal, or nothing. `whole` says that the label was all of it."""

    kind: Literal["answered", "refused", "unparsable"]
    label: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class LabelReader:
    """Reads labels out of answers. Thread-safe."""

    labels: Sequence[str]
    lenient: bool = True
    _exact: frozenset[str] = field(init=False)
    _folded: dict[str, str] = field(init=False)
    _mentions: "re.Pattern[str] | None" = field(init=False)

    def __post_init__(self) -> None:
        exact = frozenset(self.labels)
        forms: dict[str, list[str]] = {}
        for label in dict.fromkeys(self.labels):
            forms.setdefault(_fold(label), []).append(label)
        folded = {form: found[0] for form, found in forms.items() if form and len(found) == 1}
        object.__setattr__(self, "_exact", exact)
        object.__setattr__(self, "_folded", folded)
        object.__setattr__(self, "_mentions", _mention_pattern(forms))

    def read(self, answer: str) -> Read:
        """Return what an answer says."""
        text = answer[:_LONGEST_READ].strip()
        fenced = _FENCE.match(text)
        text = fenced[1].strip() if fenced else text
        label = self._whole(text)
        if label is not None:
            return Read("answered", label, whole=True)
        if self.lenient:
            found = {label for part in _parts(text) if (label := self._whole(part)) is not None}
            if found:
                return Read("answered", found.pop()) if len(found) == 1 else Read("unparsable")
        if _REFUSAL.match(text.lstrip(_WRAPPING)):
            return Read("refused")
        label = self._mentioned(text) if self.lenient else None
        return Read("unparsable") if label is None else Read("answered", label)

    def _whole(self, text: str) -> str | None:
        """Return the label that a text is, else None."""
        if text in self._exact:
            return text
        inside = _json_label(text)
        if inside is not None:
            inside = inside.strip()
            return inside if inside in self._exact else self._folded.get(_fold(inside))
        stripped = text.strip(_WRAPPING)
        if stripped in self._exact:
            return stripped
        for candidate in (text, stripped, _LEADING.sub("", stripped)):
            bare = candidate.strip(_WRAPPING)
            if bare in self._exact:
                return bare
            for form in (_fold(candidate), _fold(bare)):
                if form in self._folded:
                    return self._folded[form]
        return None

    def _mentioned(self, text: str) -> str | None:
        """Return the one label that a text speaks of, else None."""
        if self._mentions is None:
            return None
        folded = _fold(text)
        found: set[str] = set()
        for mention in self._mentions.finditer(folded):
            before = folded[max(0, mention.start() - _NEGATION_REACH) : mention.start()]
            label = self._folded.get(mention[0])
            if label is None or _NEGATION.search(before):
                return None  # a form that two labels share, or one that is said not to be meant
            found.add(label)
        return found.pop() if len(found) == 1 else None


def _fold(text: str) -> str:
    return _SPACING.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _mention_pattern(forms: Sequence[str] | dict[str, list[str]]) -> "re.Pattern[str] | None":
    """Return what matches labels as whole words, the longest first."""
    long_enough = sorted((f for f in forms if len(f) >= _SHORTEST_MENTION), key=len, reverse=True)
    if not long_enough:
        return None
    either = "|".join(map(re.escape, long_enough))
    return re.compile(rf"(?<!\w)(?:{either})(?!\w)")


def _parts(text: str) -> Iterator[str]:
    """Yield the first line, the last one, and what follows the last `Label:`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        yield lines[0]
        yield lines[-1]
    marked = _MARKED.findall(text)
    if marked:
        yield marked[-1].strip()


def _json_label(text: str) -> str | None:
    """Return the text that a JSON string, a list of one, or an object holds for a label."""
    if text[:1] not in {"{", "[", '"'}:
        return None
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict):
        named = {str(key).casefold(): value for key, value in found.items()}
        keys = [key for key in _KEYS if key in named] or list(named)[: len(named) == 1]
        found = named[keys[0]] if keys else None
    return found if isinstance(found, str) else None

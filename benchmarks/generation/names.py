"""Names in texts, called by numbers: a small model need not learn to spell what it is to copy.

A question's names are looked up in a list (the database's names, say), and stand in what the model
reads as their kinds and a number; in what it writes, as the number. They are put back before
anything is judged. Only the question and the list are needed, so whoever serves can do the same.
"""

import re
from collections.abc import Mapping, Sequence


class Gazetteer:
    """Names by their kinds, to be found in texts as whole words, the longest first."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._kinds: dict[str, list[str]] = {}
        for kind, known in names.items():
            for name in known:
                self._kinds.setdefault(name, []).append(kind.partition("_")[0])
        longest_first = sorted(self._kinds, key=len, reverse=True)
        self._any = re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")

    def found(self, text: str) -> list[str]:
        """Return the names in a text, each once, in their order."""
        return list(dict.fromkeys(self._any.findall(text)))

    def numbered(self, text: str) -> str:
        """Return a text with `city capital #0` for its first name, and so on."""
        names = self.found(text)
        return self._any.sub(
            lambda match: " ".join([*self._kinds[match[0]], f"#{names.index(match[0])}"]), text
        )


def with_numbers(query: str, names: Sequence[str]) -> str:
    """Put numbers for the quoted names in a query."""
    for number, name in enumerate(names):
        query = query.replace(f'"{name}"', f'"#{number}"')
    return query


def with_names(query: str, names: Sequence[str]) -> str:
    """Put the names back; a number that no name has stays."""
    return re.sub(
        r'"#(\d+)"',
        lambda match: f'"{names[int(match[1])]}"' if int(match[1]) < len(names) else match[0],
        query,
    )

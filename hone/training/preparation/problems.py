"""What is found in an example file, how bad it is, and whether it was mended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["necessary", "recommended", "advice"]
"""`necessary` is always mended, `recommended` after a yes, `advice` is only told."""

EXAMPLES_SHOWN = 100
"""How many examples of a problem are kept for the report."""

Answer = bool | None
"""Yes, no, or None when there is nobody to ask: nothing is written then."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem in a file. `count` is in rows unless the message says otherwise.

    `examples` holds at most `EXAMPLES_SHOWN` JSON objects, mostly with `file`, `line`, `text`
    and `label`. `mend` says what a yes does; it is empty for advice.
    """

    code: str
    severity: Severity
    count: int
    message: str
    mend: str = ""
    examples: tuple[dict[str, object], ...] = ()
    mended: bool = False

    def as_mended(self) -> "Problem":
        """Return the same problem, mended."""
        return replace(self, mended=True)

    def as_json(self) -> dict[str, object]:
        """Return what stands in `report.json`."""
        return {
            "code": self.code,
            "severity": self.severity,
            "count": self.count,
            "mended": self.mended,
            "message": self.message,
            "mend": self.mend,
            "examples": list(self.examples),
        }


Ask = Callable[[Problem], Answer]
"""Called once for every recommended mend, in the order in which they are made."""

Progress = Callable[[str, int], None]
"""Called now and then with the name of the step and the rows it has done."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 row` or `2,000 rows`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def spoken(value: object) -> str:
    """Return a value of an example as a person would read it."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        place = f"{value.get('file', '')} {value.get('line', '')}".strip()
        rest = [str(value[name]) for name in ("text", "label") if name in value]
        return f"{place}: {' → '.join(rest)}" if rest else place
    if isinstance(value, list):
        return "\n".join(map(spoken, value))
    return str(value)

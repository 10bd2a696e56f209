"""The fields of a body, each taken by name and checked; what nobody takes is refused by name.

Clients send explicit nulls for what they leave open: a null is as if the field were absent.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hone.service.errors import InvalidRequest

_LONGEST_WORD = 512


class Fields:
    """What is left of a JSON object; `place` is where it stands, with a dot, in a larger one.

    `reader` is who does not support what is refused.
    """

    def __init__(
        self, content: Mapping[str, Any], place: str = "", *, reader: str = "a classifier"
    ) -> None:
        self._reader = reader
        self._left = {name: value for name, value in content.items() if value is not None}
        self._place = place

    def take(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        """Return any value, None if there is none."""
        return self._left.pop(name, None)

    def flag(self, name: str) -> bool:
        """Return a truth value, False if there is none."""
        value = self._left.pop(name, False)
        if type(value) is not bool:
            raise self.wrong(name, "must be true or false")
        return value

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number within bounds, `default` if there is none."""
        value = self.whole_if_any(name, low=low, high=high)
        return default if value is None else value

    def whole_if_any(self, name: str, *, low: int, high: int) -> int | None:
        """Return a whole number within bounds, None if there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(name, f"must be a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float = 0.0, *, low: float, high: float) -> float:
        """Return a number within bounds, `default` if there is none."""
        value = self._left.pop(name, None)
        if value is None:
            return default
        if type(value) not in {int, float} or not low <= value <= high:
            raise self.wrong(name, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def word(self, name: str) -> str | None:
        """Return a short string."""
        value = self._left.pop(name, None)
        if value is not None and (type(value) is not str or len(value) > _LONGEST_WORD):
            raise self.wrong(name, f"must be a string of at most {_LONGEST_WORD} characters")
        return value

    def one_of(self, name: str, harmless: Iterable[Any]) -> None:
        """Refuse every value but those that ask for what is done anyway."""
        value = self._left.pop(name, None)
        if value is not None and value not in harmless:
            raise self.unsupported(name)

    def none_of(self, names: Iterable[str]) -> None:
        """Refuse these fields unless they are empty."""
        for name in names:
            if self._left.pop(name, None):
                raise self.unsupported(name)

    def end(self) -> None:
        """Refuse what was not taken."""
        for name in self._left:
            raise InvalidRequest(
                f"There is no field {self.named(name)!r}.",
                param=self.named(name),
                code="unknown_field",
            )

    def wrong(self, name: str, what: str, code: str | None = None) -> InvalidRequest:
        """Return the error of a field that has a bad value."""
        place = self.named(name)
        return InvalidRequest(f"'{place}' {what}.", param=place, code=code)

    def unsupported(self, name: str) -> InvalidRequest:
        """Return the error of a field that asks for what the model cannot do."""
        return self.wrong(name, f"is not supported by {self._reader}", "unsupported_parameter")

    def named(self, name: str) -> str:
        """Return where a field stands in the body."""
        return f"{self._place}{name[:80]}"

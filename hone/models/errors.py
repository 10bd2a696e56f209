"""Every error that Hone raises on purpose.

    HoneError
    ├── InvalidInput            the caller's data or words are wrong
    │   ├── InvalidName         a model, version or alias name that is not allowed
    │   ├── InvalidExamples     an example file that cannot be used
    │   │   └── ToolsUnknown    … by this base, whose chat template knows no tools
    │   └── InvalidRecipe       a recipe with unknown keys or bad values
    ├── NotFound                a model, version, alias, base or file that is not there
    ├── Conflict                the store's state forbids it
    ├── BundleCorrupt           a bundle whose files do not match its manifest
    ├── ParityFailed            an exported model that does not answer as the trained one
    ├── ProcessFailed           a process of Hone's own that broke inside
    ├── MissingDependency       an extra that is not installed
    └── Overloaded              the queue is full; ask again later

The message is one sentence for a person; it never holds another library's exception text.
Messages may name files, because they are read at a terminal: the service never sends a
`BundleCorrupt` or `MissingDependency` message to a client.
"""

from collections.abc import Sequence


class HoneError(Exception):
    """Root of the tree. `code` is a stable word for programs."""

    code = "error"


class InvalidInput(HoneError):
    """The caller's data or words are wrong."""

    code = "invalid_input"


class InvalidName(InvalidInput):
    """A model, version or alias name that is not allowed."""

    code = "invalid_name"


class InvalidExamples(InvalidInput):
    """An example file that cannot be used."""

    code = "invalid_examples"


class ToolsUnknown(InvalidExamples):
    """An example file with tools, for a base whose chat template knows none."""

    code = "tools_not_supported"


class InvalidRecipe(InvalidInput):
    """A recipe with unknown keys or bad values; `problems` holds all of them, not the first."""

    code = "invalid_recipe"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"the recipe has {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n  - ".join([head + ":", *self.problems]))


class NotFound(HoneError):
    """A model, version, alias, base or file that is not there."""

    code = "not_found"


class Conflict(HoneError):
    """The state of the store forbids what was asked."""

    code = "conflict"


class BundleCorrupt(HoneError):
    """A bundle whose files do not match its manifest."""

    code = "bundle_corrupt"


class ParityFailed(HoneError):
    """An exported model that does not answer as the trained one did; nothing was published."""

    code = "parity_failed"


class ProcessFailed(HoneError):
    """A process that Hone started broke inside, or was killed: no word of the caller's is wrong."""

    code = "process_failed"


class MissingDependency(HoneError):
    """An optional part of Hone is not installed."""

    code = "missing_dependency"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'hone[{extra}]'")


class Overloaded(HoneError):
    """The queue is full. `retry_after_s` is when it is worth asking again, in seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

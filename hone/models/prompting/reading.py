"""From an answer's body to a label, or to why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hone.models.prompting.answers import LabelReader
from hone.models.prompting.wire import Reply


@dataclass(frozen=True, slots=True)
class Said:
    """What a reply comes to; `confidence` is the probability of `label`, where it is known."""

    kind: Literal["answered", "refused", "unparsable"]
    label: str | None = None
    confidence: float | None = None


def read_label(reply: Reply, labels: Sequence[str], reader: LabelReader) -> Said:
    """Read the label of a reply: from its own place, where the API has one, else from the text."""
    if reply.refused:
        return Said("refused")
    if reply.label is not None:
        if reply.label in labels:
            return Said("answered", reply.label, reply.confidence)
        return Said("unparsable")
    read = reader.read(reply.text)
    # The probability is that of the whole text: of a label within it nothing is known.
    return Said(read.kind, read.label, reply.confidence if read.whole else None)

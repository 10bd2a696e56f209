"""Which contenders can be asked about which inputs: what reads texts alone is refused by name."""

from collections.abc import Iterator

from hone.comparison.experiment import (
    AnyContender,
    EmbeddedContender,
    GeneratingContender,
    PromptContender,
    Prompted,
    ServedContender,
)
from hone.comparison.prompts import check_prompt, check_served, served_template
from hone.models.prompting.inputs import InputKind
from hone.models.prompting.wire import READ_PICTURES


def misfits(contender: AnyContender, kind: InputKind) -> Iterator[str]:
    """Yield what a contender cannot do with inputs of a kind."""
    if isinstance(contender, EmbeddedContender) and kind == "image":
        yield "is for texts: there is no encoder here that reads pictures and labels alike"
        return
    if isinstance(contender, GeneratingContender) and kind == "image":
        yield "is for texts: causal bundles read no pictures"
        return
    if isinstance(contender, PromptContender | ServedContender):
        yield from _unaskable(contender, kind)
    if isinstance(contender, Prompted):
        yield from check_prompt(contender, kind).errors
    elif isinstance(contender, ServedContender):
        yield from check_served(contender, kind).errors


def _unaskable(contender: PromptContender | ServedContender, kind: InputKind) -> Iterator[str]:
    if kind == "text":
        if contender.detail is not None:
            yield "detail: is for pictures, and the items are texts"
        return
    if contender.api not in READ_PICTURES:
        yield f"the API {contender.api} takes no pictures: give another 'api'"
    if contender.api == "classify" and contender.detail is not None:
        yield "detail: /classify has no such field"
    if not isinstance(contender, ServedContender) or contender.api != "classify":
        return
    if served_template(contender, kind).strip() != "{image}":
        yield "template: /classify takes the picture alone"

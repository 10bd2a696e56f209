"""How many tokens a picture costs in the prompt of a large multimodal model: an estimate.

The rule is the one that OpenAI publishes for GPT-4o at high detail: the picture is scaled to fit
2,048 x 2,048 and then so that its shorter side is at most 768 pixels; each square of 512 pixels
that it touches costs 170 tokens, and the picture itself 85, which at low detail is all. Other
models have other rules: the dearest that is published, GPT-4o mini's, has 5,667 and 2,833.
"""

import math

PICTURE_TOKENS = "estimated:gpt-4o-tiles"
"""The counting method, as savings name it."""

_LARGEST, _SHORTEST, _TILE = 2048, 768, 512
_EACH_TILE, _EACH_PICTURE = 170, 85
_DEAREST = 34

LOW_DETAIL_TOKENS = _EACH_PICTURE
"""What every picture costs at low detail."""


def picture_tokens(width: int, height: int) -> int:
    """Return the tokens of a picture of so many pixels."""
    scale = min(1.0, _LARGEST / max(width, height))
    scale = min(scale, _SHORTEST / min(width, height))
    across = max(1, math.ceil(round(width * scale, 6) / _TILE))
    down = max(1, math.ceil(round(height * scale, 6) / _TILE))
    return _EACH_PICTURE + _EACH_TILE * across * down


def most_picture_tokens(tokens: int) -> int:
    """Return what a picture of so many tokens costs at most, by the dearest rule published."""
    return _DEAREST * tokens

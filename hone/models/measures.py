"""What a causal language model is judged by, and what its scores are called.

Apart from `scoring`, whose libraries are not there where models are only served.
"""

from collections.abc import Container

GENERATION_MEASURES = {
    "reward_accuracy": "pairs ranked right",
    "exact_match": "exact match",
    "token_accuracy": "token accuracy",
}
"""Words for scores, the one that says most first: who ranks pairs was trained on preferences, of
which a share of answers repeated to the letter says little."""


def main_measure(scores: Container[str]) -> tuple[str, str]:
    """Return the name and the words of what a model with these scores is judged by.

    ValueError where it has none of them.
    """
    for name, words in GENERATION_MEASURES.items():
        if name in scores:
            return name, words
    raise ValueError(f"none of {', '.join(GENERATION_MEASURES)} was scored")

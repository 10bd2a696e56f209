"""How long the texts are in tokens, against what the base can read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from hone.models.catalogue import find_base
from hone.models.errors import InvalidInput, MissingDependency, NotFound
from hone.training.preparation.problems import EXAMPLES_SHOWN, Problem, Progress, counted
from hone.training.preparation.spool import Spool, shown

DEFAULT_BASE = "minilm"
DEFAULT_LIMIT = 256

_PERCENTILES = (50, 90, 95, 99)
_BATCH_ROWS = 512
_BATCH_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Ruler:
    """What lengths are measured with: a tokenizer, its name, and the limit in tokens."""

    tokenizer: Tokenizer
    name: str
    limit: int

    def measure(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, special ones included."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=True)
        return [len(encoding.ids) for encoding in encodings]

    def count(self, text: str) -> int:
        """Return the number of tokens of a part of a prompt, without special ones."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens of all kept texts. `histogram` holds (from, to, rows)."""

    tokenizer: str
    limit: int
    percentiles: dict[str, int]
    longest: int
    over_limit: int
    total: int
    histogram: tuple[tuple[int, int, int], ...]

    def as_json(self) -> dict[str, object]:
        """Return what stands in `report.json`."""
        bins = [{"from": low, "to": high, "rows": rows} for low, high, rows in self.histogram]
        return {
            "tokenizer": self.tokenizer,
            "limit": self.limit,
            **self.percentiles,
            "max": self.longest,
            "over_limit": self.over_limit,
            "total": self.total,
            "histogram": bins,
        }


def find_ruler(*, tokenizer: Path | None, base: str | None, max_tokens: int | None) -> Ruler | None:
    """Return the tokenizer of a file, or of a base.

    None when neither was named and the default base is not installed. Raises NotFound,
    InvalidInput or MissingDependency for one that was named.
    """
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInput("--max-tokens must be at least 1")
    if tokenizer is not None:
        return Ruler(_load(tokenizer), tokenizer.name, max_tokens or DEFAULT_LIMIT)
    try:
        found = find_base(base or DEFAULT_BASE)
    except MissingDependency:
        if base is not None:
            raise
        return None
    return Ruler(_load(found.folder / "tokenizer.json"), found.id, max_tokens or found.max_tokens)


def _load(path: Path) -> Tokenizer:
    if not path.is_file():
        raise NotFound(f"there is no tokenizer {path}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise InvalidInput(f"{path} is not a tokenizer file") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def measure_rows(spool: Spool, ruler: Ruler, progress: Progress) -> Lengths:
    """Write the token counts of all kept rows and sum them up."""
    done = 0
    spool.run("BEGIN")
    for batch in _batches(spool.select("SELECT id, text FROM kept ORDER BY id")):
        tokens = ruler.measure([text for _, text in batch])
        spool.database.executemany(
            "INSERT INTO lengths VALUES (?, ?)",
            [(id_, count) for (id_, _), count in zip(batch, tokens, strict=True)],
        )
        done += len(batch)
        progress("counting tokens", done)
    spool.run("COMMIT")
    return _summed_up(spool, ruler)


def _batches(rows: Iterable[tuple[object, ...]]) -> Iterator[list[tuple[int, str]]]:
    """Cut into batches of limited length, for texts may be long."""
    batch: list[tuple[int, str]] = []
    characters = 0
    for id_, text in rows:
        batch.append((int(str(id_)), str(text)))
        characters += len(str(text))
        if len(batch) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _summed_up(spool: Spool, ruler: Ruler) -> Lengths:
    query = "SELECT tokens, count(*) FROM lengths GROUP BY tokens ORDER BY tokens"
    counts = [(int(str(tokens)), int(str(rows))) for tokens, rows in spool.select(query)]
    longest = counts[-1][0]
    percentiles = {f"p{percent}": _percentile(counts, percent) for percent in _PERCENTILES}
    return Lengths(
        ruler.name,
        ruler.limit,
        percentiles,
        longest,
        sum(rows for tokens, rows in counts if tokens > ruler.limit),
        sum(tokens * rows for tokens, rows in counts),
        _histogram(counts, usual=percentiles["p99"]),
    )


def _percentile(counts: Sequence[tuple[int, int]], percent: int) -> int:
    """Return the smallest length that at least `percent` of a hundred rows do not pass."""
    wanted = percent * sum(rows for _, rows in counts) / 100
    seen = 0
    for tokens, rows in counts:
        seen += rows
        if seen >= wanted:
            return tokens
    return counts[-1][0]


def _histogram(
    counts: Sequence[tuple[int, int]], *, usual: int, bins: int = 32
) -> tuple[tuple[int, int, int], ...]:
    """Count rows in bins of equal width; the width is a round number.

    What is more than twice as long as `usual` is counted in one last, wider bin: a lone long text
    must not press all others into the first one.
    """
    longest = counts[-1][0]
    width = next(w for w in _round_widths() if w * bins > min(longest, 2 * usual))
    last = min(longest // width, bins)
    found = [0] * (last + 1)
    for tokens, rows in counts:
        found[min(tokens // width, last)] += rows
    edges = [(n * width, (n + 1) * width - 1) for n in range(last + 1)]
    edges[-1] = (last * width, max(longest, edges[-1][1]))
    return tuple((low, high, rows) for (low, high), rows in zip(edges, found, strict=True))


def _round_widths() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 4 * power, 5 * power)
        power *= 10


def long_texts(spool: Spool, lengths: Lengths) -> Problem | None:
    """Tell of texts over the limit; the training policy decides what becomes of them."""
    if not lengths.over_limit:
        return None
    query = (
        "SELECT r.origin, r.number, r.text, r.label, l.tokens FROM"
        " (SELECT * FROM lengths WHERE tokens > ? ORDER BY tokens DESC, id LIMIT ?) l"
        " CROSS JOIN rows r ON r.id = l.id"
    )
    examples = tuple(
        {**spool.place(origin, number), "tokens": tokens, "text": shown(text), "label": label}
        for origin, number, text, label, tokens in spool.select(
            query, (lengths.limit, EXAMPLES_SHOWN)
        )
    )
    message = (
        f"{counted(lengths.over_limit, 'text is', 'texts are')} longer than the {lengths.limit} "
        f"tokens that the base reads (p95 {lengths.percentiles['p95']}, longest "
        f"{lengths.longest:,}): the training recipe says whether their beginning is used, or "
        "their beginning and end"
    )
    return Problem("long_texts", "advice", lengths.over_limit, message, examples=examples)

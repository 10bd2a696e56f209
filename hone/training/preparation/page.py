"""The report as one HTML page: no script, nothing from the network, light and dark."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import hone
from hone.models.examples import SPLITS
from hone.training.preparation.lengths import Lengths
from hone.training.preparation.problems import EXAMPLES_SHOWN, Problem, counted, spoken
from hone.training.preparation.report import LabelCount, PrepareReport

_CLASSES_SHOWN = 400
_CLASSES_IN_ONE_COLUMN = 24


def page(report: PrepareReport) -> str:
    """Return the whole page; every word from the data is escaped."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    title = f"Examples of {report.sources[0].name}"
    sections = [
        _head(report, title),
        _tiles(report),
        _problems(report.problems),
        _classes(report.labels),
        _lengths(report.lengths),
        _instruction(report),
        _files(report),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n<footer>hone {hone.__version__} · seed {report.seed}</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _head(report: PrepareReport, title: str) -> str:
    columns = ", ".join(report.columns)
    said = f"{report.form}, from {'columns' if len(report.columns) > 1 else 'column'} {columns}"
    waits = ""
    if report.pending:
        waits = '<p class="waits">Nothing was written: run again with --yes to mend.</p>'
    return f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(said)}</p>{waits}'


def _tiles(report: PrepareReport) -> str:
    numbers = [
        (report.rows, "rows read"),
        (report.rows - report.kept, "dropped"),
        (len(report.labels), "classes"),
        *((split.rows, name) for name, split in report.splits.items()),
    ]
    if report.lengths is not None:
        numbers.append((report.lengths.percentiles["p95"], "tokens at the 95th percentile"))
    if report.picture_sides is not None:
        numbers.append((report.picture_sides["p50"], "pixels, the median shorter side"))
    tiles = (f'<div class="tile"><b>{n:,}</b><span>{escape(of)}</span></div>' for n, of in numbers)
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _problems(problems: Sequence[Problem]) -> str:
    found = "".join(map(_problem, problems)) or '<p class="soft">None.</p>'
    return f"<section><h2>What was found</h2>{found}</section>"


def _problem(problem: Problem) -> str:
    state = ""
    if problem.severity != "advice":
        state = (
            '<span class="pill mended">mended</span>'
            if problem.mended
            else '<span class="pill recommended">not mended</span>'
        )
    colour = "soft" if problem.mended else problem.severity
    mend = f'<p class="soft">Mend: {escape(problem.mend)}.</p>' if problem.mend else ""
    return (
        f'<div class="problem"><div class="head">'
        f'<span class="pill {colour}">{problem.severity}</span>{state}'
        f"<code>{escape(problem.code)}</code></div>"
        f"<p>{escape(_sentence(problem.message))}</p>{mend}{_examples(problem)}</div>"
    )


def _sentence(message: str) -> str:
    return f"{message[0].upper()}{message[1:]}."


def _examples(problem: Problem) -> str:
    if not problem.examples:
        return ""
    names = list(dict.fromkeys(name for example in problem.examples for name in example))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(_example_row(example, names) for example in problem.examples)
    shown = len(problem.examples)
    said = counted(shown, "example") + (" (the first)" if shown == EXAMPLES_SHOWN else "")
    return (
        f'<details><summary>{said}</summary><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _example_row(example: Mapping[str, object], names: Iterable[str]) -> str:
    cells = []
    for name in names:
        value = example.get(name)
        kind = ' class="number"' if isinstance(value, int) else ""
        cells.append(f"<td{kind}>{escape(spoken(value))}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _classes(labels: Sequence[LabelCount]) -> str:
    most = max((label.total for label in labels), default=1)
    rows = "".join(_class(label, most) for label in labels[:_CLASSES_SHOWN])
    many = " many" if len(labels) > _CLASSES_IN_ONE_COLUMN else ""
    legend = "".join(f'<span><i class="{split}"></i>{split}</span>' for split in SPLITS)
    hidden = len(labels) - _CLASSES_SHOWN
    more = (
        f'<p class="soft">{hidden:,} smaller classes stand in report.json.</p>'
        if hidden > 0
        else ""
    )
    return (
        f'<section><h2>Classes</h2><div class="legend">{legend}</div>'
        f'<div class="classes{many}">{rows}</div>{more}</section>'
    )


def _class(label: LabelCount, most: int) -> str:
    counts = {"train": label.train, "validation": label.validation, "test": label.test}
    bars = "".join(
        f'<i class="{split}" style="width:{100 * count / most:.2f}%"></i>'
        for split, count in counts.items()
        if count
    )
    said = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    return (
        f'<div class="class" title="{escape(label.label)}: {said}">'
        f'<span class="name">{escape(label.label)}</span><span class="bar">{bars}</span>'
        f'<span class="count">{label.total:,}</span></div>'
    )


def _lengths(lengths: Lengths | None) -> str:
    if lengths is None:
        return ""
    most = max(rows for _, _, rows in lengths.histogram)
    bars = "".join(_length_bar(bin_, most, lengths.limit) for bin_ in lengths.histogram)
    percentiles = ", ".join(f"{name} {value:,}" for name, value in lengths.percentiles.items())
    said = (
        f"{percentiles}, longest {lengths.longest:,}; {lengths.total:,} tokens in all. "
        f"The base reads {lengths.limit:,}: {counted(lengths.over_limit, 'text')} longer."
    )
    middle = lengths.histogram[len(lengths.histogram) // 2][0]
    last, wider = _last_bin(lengths)
    return (
        f"<section><h2>Lengths in tokens</h2>"
        f'<p class="soft">{escape(said)} Counted with {escape(lengths.tokenizer)}.</p>'
        f'<div class="lengths">{bars}</div><div class="axis"><span>'
        f"{lengths.histogram[0][0]}</span><span>{middle:,}</span><span>{last:,}{wider}</span></div>"
        "</section>"
    )


def _last_bin(lengths: Lengths) -> tuple[int, str]:
    """Return where the axis ends, and a sign if the last bar stands for all that is longer."""
    (first_low, first_high, _), (low, high, _) = lengths.histogram[0], lengths.histogram[-1]
    is_wider = high - low > first_high - first_low
    return (low, " and more") if is_wider else (high, "")


def _length_bar(bin_: tuple[int, int, int], most: int, limit: int) -> str:
    low, high, rows = bin_
    over = ' class="over"' if low > limit else ""
    # A lone text must stay visible beside thousands.
    height = max(1.5, 100 * rows / most) if rows else 0
    title = f"{low:,} to {high:,} tokens: {counted(rows, 'text')}"
    return f'<i{over} style="height:{height:.2f}%" title="{title}"></i>'


def _instruction(report: PrepareReport) -> str:
    shared = report.shared_instruction
    if shared is None:
        return ""
    tokens = report.shared_instruction_tokens
    saved = f" ({counted(tokens, 'token')} with every request)" if tokens is not None else ""
    return (
        f"<section><h2>The instruction that all examples share</h2>"
        f'<p class="soft">This is what the fine-tuned model makes needless{saved}.</p>'
        f"<pre>{escape(shared.text)}</pre></section>"
    )


def _files(report: PrepareReport) -> str:
    rows = [
        (
            source.name,
            str(source.role),
            f"{source.rows:,}",
            f"{source.kept:,}",
            source.encoding or "",
            source.sha256,
        )
        for source in report.sources
    ]
    rows += [
        (f"{name}.jsonl", "written", f"{split.rows:,}", f"{split.rows:,}", "utf-8", split.sha256)
        for name, split in report.splits.items()
        if split.sha256
    ]
    names = ("file", "is", "rows", "kept", "encoding", "SHA-256")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<section><h2>Files</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )

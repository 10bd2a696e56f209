"""The shell of Hone's HTML pages: one file, no scripts, nothing from the network.

Light or dark as the reader's system says. The colours are CSS variables, so that a page's own
drawings can use them; `LIGHT_SURFACE` and `DARK_SURFACE` are for pictures that lie on a page.
"""

import html
import re

LIGHT_SURFACE = "#ffffff"
DARK_SURFACE = "#1b1f26"

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

# No origin is named, so a page that tried to load something could not.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --surface: #ffffff; --sunken: #f4f5f7; --line: #dcdfe5;
  --ink: #1a1d23; --muted: #5b6270; --accent: #1d5fbf; --range: #b9d0f0; --warn: #a3450b;
  --good: #1a7a43;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #13161b; --surface: #1b1f26; --sunken: #14171d; --line: #343a45;
    --ink: #e6e8ec; --muted: #a3abb8; --accent: #82b1ff; --range: #35527f; --warn: #ffab70;
    --good: #6fd39a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 2rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "Noto Sans",
    "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
}
main { max-width: 62rem; margin: 0 auto; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
ul { max-width: 46rem; padding-left: 1.2rem; margin: .5rem 0; overflow-wrap: anywhere; }
.lead { max-width: none; font-size: 1.08rem; color: var(--muted); }
section {
  background: var(--surface); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1.25rem 1.5rem; margin-top: 1rem;
}
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem;
  margin: 1.25rem 0 0;
}
.facts > div {
  background: var(--surface); border: 1px solid var(--line); border-radius: .6rem;
  padding: .8rem 1rem;
}
.facts dt { color: var(--muted); font-size: .85rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.facts .value { font-size: 1.4rem; font-weight: 600; line-height: 1.3; }
.facts .value.bad { color: var(--warn); }
.facts .value.good { color: var(--good); }
.facts .note { color: var(--muted); font-size: .85rem; }
.scroll {
  /* A shade at an edge where more of the table lies beyond it; it goes at the table's end. */
  overflow-x: auto; margin: .75rem 0; background:
    linear-gradient(to right, var(--surface) 40%, transparent) left / 2rem 120% no-repeat local,
    linear-gradient(to left, var(--surface) 40%, transparent) right / 2rem 120% no-repeat local,
    linear-gradient(to right, var(--range), transparent) left / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--range), transparent) right / .8rem 100% no-repeat scroll;
}
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td {
  padding: .32rem 1.3rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline;
}
th:last-child, td:last-child { padding-right: 0; }
th { color: var(--muted); font-weight: 600; font-size: .85rem; vertical-align: bottom; }
td { min-width: 2.5rem; max-width: 38rem; overflow-wrap: anywhere; }
td:not(.number) { min-width: 6.5rem; }
@media (min-width: 40.01rem) { td.word { overflow-wrap: normal; } }
th.number { white-space: normal; }
.number { text-align: right; white-space: nowrap; }
.stack th:not(:last-child), .stack td:not(:last-child) { padding-right: .9rem; }
.stack td:first-child { min-width: 9rem; }
tbody tr:last-child td { border-bottom: 0; }
small { color: var(--muted); font-size: .85rem; }
small.range { white-space: nowrap; }
.gauge { width: 6rem; height: .7rem; margin-right: .6rem; vertical-align: -.05rem; }
.gauge .track { fill: var(--sunken); }
.gauge .range { fill: var(--range); }
.gauge .point { fill: var(--accent); }
figure { margin: 1rem 0; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; }
figure img.large { min-width: 42rem; }
figcaption { color: var(--muted); font-size: .9rem; max-width: 46rem; margin-top: .4rem; }
.gallery ul {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1.25rem 1rem;
  list-style: none; max-width: none; margin: 1rem 0 0; padding: 0;
}
.gallery li { min-width: 0; }
.gallery img { width: auto; max-height: 12rem; border-radius: .25rem; }
.gallery li p { margin: .4rem 0 0; font-size: .92rem; line-height: 1.35; }
.banner {
  background: var(--surface); border: 1px solid var(--line); border-radius: .6rem;
  border-left: .5rem solid var(--accent); padding: 1rem 1.5rem; margin-top: 1rem;
}
.banner p { max-width: none; font-size: 1.08rem; }
.banner .word { font-size: 1.6rem; font-weight: 700; line-height: 1.25; color: var(--accent); }
.banner.good { border-left-color: var(--good); }
.banner.good .word { color: var(--good); }
.banner.bad { border-left-color: var(--warn); }
.banner.bad .word { color: var(--warn); }
.side {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr));
  gap: 0 1.5rem;
}
.drawing svg { display: block; width: 100%; max-width: 34rem; height: auto; }
.drawing text { fill: var(--muted); font-size: 11px; }
.drawing text.ink {
  fill: var(--ink); paint-order: stroke; stroke: var(--surface); stroke-width: 3px;
}
img.thumbnail {
  display: block; max-width: 6rem; max-height: 6rem; border-radius: .3rem;
}
tr:has(img.thumbnail) > td { vertical-align: middle; }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre {
  background: var(--sunken); border: 1px solid var(--line); border-radius: .4rem; margin: .75rem 0;
  padding: .8rem 1rem; max-height: 26rem; overflow: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .86rem/1.5 ui-monospace, "SF Mono", Consolas, "Liberation Mono",
    "DejaVu Sans Mono", monospace;
}
@media (max-width: 48rem) {
  section { padding: 1rem; } body { padding: 1rem .6rem 3rem; }
  td:not(.number) { min-width: 7.5rem; }
}
@media (max-width: 40rem) {
  /* A row of many cells becomes a list of them, each beside the name of its column. */
  .stack, .stack tbody, .stack tr { display: block; }
  .stack thead {
    position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  }
  .stack tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .stack tbody tr:last-child { border-bottom: 0; }
  .stack td, .stack td.number {
    display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: .75rem;
    align-items: baseline; min-width: 0; max-width: none; padding: .12rem 0; border: 0;
    text-align: left; white-space: normal;
  }
  .stack td:has(img.thumbnail) { align-items: start; }
  .stack td::before { content: attr(data-label); color: var(--muted); font-size: .85rem; }
  .stack td:first-child { min-width: 0; font-weight: 600; }
  .stack td:first-child small { font-weight: 400; }
  .stack small.range { white-space: normal; }
}
@media print {
  body { background: none; padding: 0; } section, tr, figure { break-inside: avoid; }
  pre { max-height: none; }
}
"""


def visible(text: str) -> str:
    """Return the text with control characters, which no page may hold, shown as U+FFFD."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def escape(text: object) -> str:
    """Return any text so that it is only text, in an element or in a quoted attribute."""
    return html.escape(visible(str(text)), quote=True)


def page(title: str, body: str) -> str:
    """Return a whole page; `title` is text, `body` is HTML that goes into its `main`."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )

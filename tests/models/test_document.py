"""Documents: what the newer blocks become in HTML and in Markdown."""

from hone.models.cells import Cell, Ranged
from hone.models.document import Banner, Document, Drawing, Folded, Section, Side, Table, Text
from hone.models.gallery import Gallery, Photo

DRAWING = Drawing("A <line>", "It rises & falls.", '<svg viewBox="0 0 1 1"></svg>')


def written(*blocks: Text | Table | Drawing | Side | Folded | Gallery) -> tuple[str, str]:
    document = Document("T", "L", [], [Section("S", blocks)], Banner("YES", "So <be> it.", "good"))
    return document.html(), document.markdown()


def test_the_banner_stands_before_the_sections() -> None:
    html, markdown = written(Text("x"))
    assert '<div class="banner good"><p class="word">YES</p><p>So &lt;be&gt; it.</p></div>' in html
    assert html.index("YES") < html.index("<section>")
    assert r"**YES.** So \<be\> it." in markdown


def test_a_drawing_goes_in_as_it_is_and_its_words_are_escaped() -> None:
    html, markdown = written(DRAWING)
    assert '<svg viewBox="0 0 1 1"></svg>' in html
    assert 'aria-label="A &lt;line&gt;"' in html
    assert "It rises &amp; falls." in html
    assert r"A \<line\>" in markdown
    assert "<svg" not in markdown


def test_drawings_side_by_side_are_all_there() -> None:
    html, markdown = written(Side([DRAWING, DRAWING]))
    assert html.count("<svg") == 2
    assert markdown.count("It rises") == 2


def test_folded_blocks_open_without_a_script() -> None:
    html, markdown = written(Folded("More & more", [Text("inside")]))
    assert "<details><summary>More &amp; more</summary>\n<p>inside</p>\n</details>" in html
    assert markdown.index(r"More \& more") < markdown.index("inside")


def test_a_figure_has_its_interval_beneath_it() -> None:
    rows = [[Ranged("93 %", "92 to <94>")], [Ranged("1", "too few", wraps=True)]]
    html, markdown = written(Table(("F",), rows, "l"))
    assert '93 %<br><small class="range">92 to &lt;94&gt;</small>' in html
    assert "1<br><small>too few</small>" in html
    assert r"93 % (92 to \<94\>)" in markdown


def test_a_gallery_has_its_words_as_text_and_they_are_escaped() -> None:
    photos = [Photo(b"\xff\xd8\xff", 176, 99, ("a <b>", "→ 猫 0.93")) for _ in range(3)]
    html, markdown = written(Gallery(photos, "Three & no more."))
    assert html.count('<img src="data:image/jpeg;base64,/9j/" width="176" height="99" alt="">') == 3
    assert html.count("<p>a &lt;b&gt;<br>→ 猫 0.93</p>") == 3
    assert "<figcaption>Three &amp; no more.</figcaption>" in html
    assert markdown.count(r"![a \<b\> → 猫 0.93](data:image/jpeg;base64,/9j/)") == 3
    assert r"Three \& no more." in markdown


def test_a_label_in_a_table_stays_whole_on_a_wide_page() -> None:
    row: list[Cell] = ["refund_request", "where is my parcel", 7, "x" * 180]
    table = Table(("Label", "Text", "Items", "Long"), [row], "llrl")
    page = Document("t", "l", [], [Section("s", [table])]).html()
    assert '<td class="word" data-label="Label"><div>refund_request</div></td>' in page
    assert '<td data-label="Text"><div>where is my parcel</div></td>' in page
    assert '<td class="number" data-label="Items">' in page
    assert '<td data-label="Long">' in page
    assert "td.word { overflow-wrap: normal; }" in page

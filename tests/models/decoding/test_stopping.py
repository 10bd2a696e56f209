"""A completion ends at its first stop string, however the text is cut into pieces."""

from hypothesis import given
from hypothesis import strategies as st

from hone.models.decoding.stopping import StopFinder

texts = st.text("ab\nX", max_size=30)
stop_lists = st.lists(st.text("ab\nX", min_size=1, max_size=5), max_size=4)


def cut(text: str, stops: list[str]) -> str:
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places, default=len(text))]


@given(st.lists(texts), stop_lists)
def test_whatever_the_pieces_the_text_ends_where_its_first_stop_begins(
    pieces: list[str], stops: list[str]
) -> None:
    finder = StopFinder(stops)
    passed = [finder.push(piece) for piece in pieces]
    whole = "".join(pieces)
    # Nothing of a stop may have been passed on before the stop was known.
    assert cut(whole, stops).startswith("".join(passed))
    assert "".join(passed) + finder.finish() == cut(whole, stops)
    assert (finder.found is not None) == (cut(whole, stops) != whole)


@given(st.lists(texts))
def test_without_stops_nothing_is_held_back(pieces: list[str]) -> None:
    finder = StopFinder([])
    assert [finder.push(piece) for piece in pieces] == pieces


def test_what_cannot_become_a_stop_is_passed_on_at_once() -> None:
    finder = StopFinder(["END"])
    assert finder.push("some E") == "some "
    assert finder.push("Nt") == "ENt"
    assert finder.push("EN") == ""
    assert finder.push("D and more") == ""
    assert finder.found == "END"
    assert finder.push("anything") == ""
    assert finder.finish() == ""


def test_of_two_stops_at_one_place_the_longer_is_meant() -> None:
    finder = StopFinder(["a", "ab"])
    assert finder.push("xab") == "x"
    assert finder.found == "ab"

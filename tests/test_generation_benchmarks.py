"""The benchmarks of generation score what they say they score."""

import sqlite3

import pytest

from benchmarks.generation import e2e, geoquery
from benchmarks.generation.geoquery import Question


@pytest.fixture
def database() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:")
    made.execute("CREATE TABLE state (state_name text, area int)")
    made.executemany("INSERT INTO state VALUES (?, ?)", [("texas", 3), ("iowa", 1), ("utah", 3)])
    return made


def test_an_answer_is_right_by_its_rows_whatever_its_words(database: sqlite3.Connection) -> None:
    wanted = ["SELECT state_name FROM state WHERE area = 3"] * 4
    said = [
        "select STATE_NAME from state where area > 2 order by state_name desc",
        "SELECT state_name FROM state",
        "SELECT nonsense FROM",
        "SELECT state_name FROM state WHERE area = 3;",
    ]
    assert geoquery.right_answers(database, said, wanted) == 2


def test_a_reference_that_does_not_run_makes_no_answer_right(database: sqlite3.Connection) -> None:
    assert geoquery.right_answers(database, ["SELECT x"], ["SELECT x"]) == 0


def test_a_training_question_is_repeated_with_other_names_in_both_its_parts() -> None:
    question = Question(
        "train", "how big is state_name0", 'S = "state_name0"', {"state_name0": "a"}
    )
    tested = Question("test", "where is state_name0", "W", {"state_name0": "z"})
    names = {"state_name": ["b", "c"]}
    rows = list(geoquery.training_rows([question, tested], names, copies=20, seed=0))
    assert rows[0] == ("how big is a ->", ' S = "a"')
    assert set(rows[1:]) == {
        ("how big is b ->", ' S = "b"'),
        ("how big is c ->", ' S = "c"'),
    }
    assert len(rows) == 20


def test_no_name_of_a_test_question_is_learned_from_it(database: sqlite3.Connection) -> None:
    for query in set(geoquery.KINDS.values()):
        table, column = query.split()[-1], query.split()[1]
        database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({column} text)")
        known = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        if column not in known:
            database.execute(f"ALTER TABLE {table} ADD COLUMN {column} text")
    questions = [
        Question("train", "t", "s", {"city_name0": "austin"}),
        Question("test", "t", "s", {"city_name0": "nowhere"}),
    ]
    names = geoquery.names_by_kind(questions, database)
    assert names["city_name"] == ["austin"]
    assert names["state_name"] == ["iowa", "texas", "utah"]


def test_names_leave_the_sentences_and_come_back() -> None:
    facts = "name[The Eagle], eatType[pub], near[Burger King]"
    names = e2e.named(facts)
    assert names == {"NAME": "The Eagle", "NEAR": "Burger King"}
    assert e2e.prompt_of(facts) == "name[NAME], eatType[pub], near[NEAR] ->"
    sentence = "The Eagle is a pub near Burger King."
    bare = e2e.without_names(sentence, names)
    assert bare == "NAME is a pub near NEAR."
    assert e2e.with_names(bare, names) == sentence


def test_bleu_takes_the_nearest_of_several_references() -> None:
    pairs = [("f", "a pub by the river in town"), ("f", "there is a pub near the river bank")]
    assert e2e.bleu({"f": pairs[1][1]}, pairs) == pytest.approx(100)
    assert e2e.bleu({"f": "nothing like that at all"}, pairs) < 20

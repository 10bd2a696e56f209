"""An experiment file is refused with every problem at once, each by its key's path."""

import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest

from hone.comparison.experiment import CONTENDERS, EmbeddedContender, PromptContender, billing_of
from hone.comparison.experiment_file import (
    InvalidExperiment,
    load_experiment,
    read_experiment,
)
from hone.comparison.items import read_items
from hone.comparison.plan import make_plan
from hone.comparison.readiness import make_ready
from hone.comparison.rows import read_shots
from hone.models.errors import InvalidExamples, InvalidInput, NotFound
from hone.models.prompting.wire import PATHS
from tests.comparison.experiments import (
    experiment_text,
    plan_of,
    prompt,
    rows,
    survey_of,
    write_data,
    write_lines,
)

ADDRESS = "https://api.example.com/v1"


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidExperiment) as caught:
        read_experiment(text.encode(), "experiment.toml")
    return caught.value.problems


def test_a_whole_experiment_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(experiment_text(tmp_path, prompt(ADDRESS), {"name": "e", "kind": "embedded"}))
    file = load_experiment(path)
    few, embedded, majority = file.experiment.contenders
    assert isinstance(few, PromptContender)
    assert (few.shots, few.api, few.temperature, billing_of(few)) == (8, "chat", 0.0, "tokens")
    assert isinstance(embedded, EmbeddedContender)
    assert majority.name == "majority"
    assert len(file.sha256) == 64
    assert file.content == path.read_bytes()


def test_all_problems_are_named_at_once_with_what_was_meant(tmp_path: Path) -> None:
    found = problems(
        experiment_text(
            tmp_path,
            prompt(ADDRESS, promt="x", temperature=3.5),
            {"name": "b", "kind": "bundel"},
            {"name": "c"},
            {"name": "d", "kind": "bundle", "model": "../etc"},
            prompt("ftp://x", "f"),
            {"kind": "bundle", "model": "m", "name": None},
            experiment={"repeat": 3},
            decision={"margin": 2.0, "alhpa": 0.1},
            limits={"concurrency": "many"},
        )
    )
    for said in (
        "experiment.repeat: unknown key; did you mean 'repeats'?",
        "decision.margin: should be less than 1 (it is 2.0)",
        "decision.alhpa: unknown key; did you mean 'alpha'?",
        "limits.concurrency: should be a valid integer (it is 'many')",
        "contender 'few': promt: unknown key; did you mean 'prompt'?",
        "contender 'b': 'kind' should be one of bundle, served, prompt",
        "contender 'c': 'kind' is missing: one of bundle, served, prompt",
        "contender 'd': model: ",
        "contender 'f': address: should be an address such as https://",
        "contender number 6: name: missing",
    ):
        assert any(one.startswith(said) for one in found), (said, found)
    assert any(one.startswith("contender 'few': temperature: ") for one in found)
    assert len(found) == len(set(found)) == 11


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decision": {"candidate": "none"}}, "decision.candidate: there is no contender 'none'"),
        ({"decision": {"candidate": "majority"}}, "decision.candidate: is the baseline itself"),
        ({"experiment": {"path": None}}, "experiment: give either 'path'"),
        ({"experiment": {"test": "a.jsonl"}}, "experiment: give either 'path'"),
        ({"experiment": {"name": "../up"}}, "experiment.name: "),
        ({"limits": {"dollars": -1.0}}, "limits.dollars: "),
        ({"costs": {"serving_usd_per_hour": -1.0}}, "costs.serving_usd_per_hour: "),
        ({"nonsense": None}, ""),
    ],
)
def test_groups_are_checked_against_each_other(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    if "nonsense" in changes:
        text = experiment_text(tmp_path, prompt(ADDRESS)) + "\n[limit]\nretries = 1\n"
        assert "limit: unknown key; did you mean 'limits'?" in problems(text)
        return
    found = problems(experiment_text(tmp_path, prompt(ADDRESS), **changes))
    assert any(one.startswith(said) for one in found), found


@pytest.mark.parametrize("kind", ["prompt", "majority", "embedded"])
def test_a_refused_name_hides_no_other_fault(tmp_path: Path, kind: str) -> None:
    """Whatever looks at the contenders calls them by their names, also by one that is refused."""
    data = write_data(tmp_path / "data")
    odd: dict[str, Any] = {"name": "Größe <b>", "kind": kind}
    if kind == "prompt":
        odd = prompt(ADDRESS, "Größe <b>", template="{txt}{examples}")
    text = experiment_text(data, prompt(ADDRESS), odd)
    with pytest.raises(InvalidExperiment) as caught:
        make_ready(survey_of(text))
    found = caught.value.problems
    assert any(one.startswith("contender 'Größe <b>': name: should have 1 to 64") for one in found)
    assert kind != "prompt" or any("unknown placeholder {txt}" in one for one in found)


def test_no_message_repeats_a_secret(tmp_path: Path) -> None:
    """A key that was written into the file does not go on into a terminal or a log."""
    written = {
        "api_key_env": "sk-secret",
        "key_header": "Authorization: secret",
    }
    found = [*problems(experiment_text(tmp_path, prompt(ADDRESS, **written)))]
    for address in ("https://me:secret@host/v1", "https://host/v1?key=secret", "me:secret@host"):
        found += problems(experiment_text(tmp_path, prompt(address)))
    assert len(found) == 5
    assert not any("secret" in one for one in found), found
    assert any("not the key" in one for one in found)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"{ADDRESS}/chat/completions", "should be where the API begins, without '/chat/compl"),
        (f"{ADDRESS}/completions/", "should be where the API begins, without '/completions'"),
        ("http://127.0.0.1:99999/v1", "is not an address"),
        (f"{ADDRESS} ", "should hold no spaces"),
    ],
)
def test_an_address_is_where_the_api_begins(tmp_path: Path, address: str, said: str) -> None:
    (found,) = problems(experiment_text(tmp_path, prompt(address)))
    assert found.startswith(f"contender 'few': address: {said}")


@pytest.mark.parametrize("route", PATHS.values())
def test_an_address_without_any_route_of_an_api(tmp_path: Path, route: str) -> None:
    (found,) = problems(experiment_text(tmp_path, prompt(f"{ADDRESS}{route}/")))
    assert f"address: should be where the API begins, without {route!r} (" in found


@pytest.mark.parametrize("address", ["http://classify", "http://decisions/", "http://completions"])
def test_a_host_may_be_called_as_a_route_is(tmp_path: Path, address: str) -> None:
    write_data(tmp_path)
    [few, *_] = plan_of(experiment_text(tmp_path, prompt(address))).asked
    assert few.address == address.rstrip("/")


def test_of_a_group_that_is_not_there_nothing_else_is_said(tmp_path: Path) -> None:
    text = experiment_text(tmp_path, prompt(ADDRESS)).replace("[experiment]", "[experimnt]")
    with pytest.raises(InvalidExperiment) as caught:
        make_ready(survey_of(text.replace(f'prices = "{tmp_path / "prices.json"}"', "")))
    assert caught.value.problems == (
        "experiment: missing",
        "experimnt: unknown key; did you mean 'experiment'?",
    )


def test_faults_are_told_in_the_files_own_terms(tmp_path: Path) -> None:
    text = experiment_text(
        tmp_path,
        prompt(ADDRESS, parameters={"model": "x", "messages": "y"}),
        {"name": "b", "kind": "bundel"},
        experiment={"labels": ["one"]},
    )
    found = problems("limits = 5\n" + text.replace("[limits]", "[limits_of]"))
    for said in (
        "limits: should be a table (it is 5)",
        "contender 'few': parameters: 'model', 'messages' cannot be given here",
        f"contender 'b': 'kind' should be one of {', '.join(CONTENDERS)}; did you mean 'bundle'?",
        "experiment.labels: should have 2 entries at least",
    ):
        assert any(one.startswith(said) for one in found), (said, found)


def test_two_contenders_of_one_name_are_refused(tmp_path: Path) -> None:
    found = problems(experiment_text(tmp_path, prompt(ADDRESS), prompt(ADDRESS)))
    assert found == ("contenders: the name 'few' is given twice",)


def test_templates_are_checked_with_the_rest(tmp_path: Path) -> None:
    found = problems(
        experiment_text(
            tmp_path,
            prompt(ADDRESS, template="{txt}", system="{labels}{examples}"),
            {"name": "s", "kind": "served", "model": "m", "address": ADDRESS, "template": "go"},
        )
    )
    assert "contender 'few': template: unknown placeholder {txt}; did you mean {text}?" in found
    missing = "the input's placeholder {text}, or {image} for pictures, is missing"
    assert f"contender 's': template: {missing}" in found


@pytest.mark.parametrize("address", ["https://user:key@host/v1", "https://host/v1?key=1", "host"])
def test_an_address_holds_no_key(tmp_path: Path, address: str) -> None:
    assert any("contender 'few': address" in one for one in problems(experiment_text(
        tmp_path, prompt(address)
    )))  # fmt: skip


def test_a_key_that_would_travel_in_the_open_is_warned_of(tmp_path: Path) -> None:
    for address, warned in (
        ("http://vllm.internal:8000/v1", True),
        ("https://vllm.internal/v1", False),
        ("http://127.0.0.1:8000/v1", False),
    ):
        text = experiment_text(tmp_path, prompt(address, api_key_env="SOME_KEY"))
        assert bool(read_experiment(text.encode(), "e").warnings) == warned
    text = experiment_text(tmp_path, prompt("http://vllm.internal:8000/v1"))
    assert read_experiment(text.encode(), "e").warnings == ()


def test_examples_are_needed_where_a_contender_learns_from_them(tmp_path: Path) -> None:
    text = experiment_text(
        tmp_path, prompt(ADDRESS), experiment={"path": None, "test": "items.jsonl"}
    )
    assert len(problems(text)) == 2


@pytest.mark.parametrize(
    "content", [b"\xff", b"a = ", b"a = [" * 5000, b"a = 1" + b"0" * 5000, b""]
)
def test_what_is_no_experiment_is_refused_in_a_sentence(content: bytes) -> None:
    with pytest.raises(InvalidExperiment, match="the experiment has"):
        read_experiment(content, "experiment.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no experiment file"):
        load_experiment(tmp_path / "none.toml")


def test_the_decision_has_a_hash_of_its_own(tmp_path: Path) -> None:
    def digest(**groups: Any) -> str:
        text = experiment_text(tmp_path, prompt(ADDRESS), **groups)
        return read_experiment(text.encode(), "e").experiment.decision_sha256()

    assert digest() == digest(limits={"retries": 9})
    assert digest() != digest(decision={"margin": 0.06})


# What the files hold


def test_a_budget_needs_every_price_unless_it_is_said_not_to(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    unknown = prompt(ADDRESS, model="unheard-of")
    text = experiment_text(data, unknown, limits={"dollars": 1.0})
    with pytest.raises(InvalidExperiment, match="'few': there is no price for unheard-of"):
        make_ready(plan_of(text))
    for allowed in (
        experiment_text(data, unknown),
        experiment_text(data, unknown, limits={"dollars": 1.0, "unknown_prices": "allow"}),
        experiment_text(data, {**unknown, "billing": "hosting"}, limits={"dollars": 1.0}),
        experiment_text(data, {**unknown, "price_model": "big"}, limits={"dollars": 1.0}),
    ):
        assert make_ready(plan_of(allowed)).forms.keys() == {"few"}


def test_items_have_ids_and_groups_and_are_called_by_their_lines_without(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    write_lines(
        data / "items.jsonl",
        [{"text": "a", "label": "refund", "id": 7, "group": "g"}, {"text": "b", "label": "x"}],
    )
    experiment = {
        "path": None,
        "test": str(data / "items.jsonl"),
        "train": str(data / "train.jsonl"),
    }
    material = plan_of(experiment_text(data, prompt(ADDRESS), experiment=experiment)).material
    assert [(i.id, i.group) for i in material.items] == [("7", "g"), ("line-2", None)]
    assert material.labels == ("card_lost", "greeting", "password", "refund", "x")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "items.jsonl", rows(3))
    plain, plain_shots = read_items(path, None), read_shots(path, "text")
    path.write_bytes(BOM_UTF8 + path.read_bytes())
    assert read_items(path, None) == plain
    assert read_shots(path, "text") == plain_shots


def test_a_table_is_no_json_lines_and_the_command_that_makes_them_is_named(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("text,label\nhello,greeting\nmy card,card\n")
    with pytest.raises(InvalidExamples) as caught:
        read_items(path, None)
    assert str(caught.value).startswith(f"{path} has no JSON lines: `hone prepare` makes them")


def test_bad_lines_are_all_named(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    bad = [
        "{",
        "[]",
        '{"text": " ", "label": "x"}',
        '{"text": "a", "label": "x", "id": []}',
        '{"text": "a", "label": "x", "id": "n"}',
        '{"text": "b", "label": "x", "id": "n"}',
    ]
    (data / "test.jsonl").write_text("\n".join(bad))
    with pytest.raises(InvalidExperiment) as caught:
        plan_of(experiment_text(data, prompt(ADDRESS)))
    said = str(caught.value)
    assert "5 unusable lines" in said
    for number in (1, 2, 3, 4):
        assert f"line {number}: " in said
    assert "line 6: the id 'n' is that of line 5" in said


def test_items_that_stand_in_the_training_data_are_found_by_their_words(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    known = rows(1)[0]
    shouted = {**known, "text": known["text"].upper() + "!!"}
    write_lines(data / "test.jsonl", [rows(1, start=500)[0], shouted])
    material = plan_of(experiment_text(data, prompt(ADDRESS))).material
    assert material.leaked == ("line-2",)


def test_most_items_draws_by_the_seed_and_keeps_the_order(tmp_path: Path) -> None:
    data = write_data(tmp_path, test=40)

    def drawn(**group: Any) -> list[str]:
        text = experiment_text(data, prompt(ADDRESS), experiment=group)
        return [item.id for item in plan_of(text).material.items]

    everything = drawn()
    some = drawn(most_items=10)
    assert len(some) == 10
    assert some == [one for one in everything if one in some] == drawn(most_items=10)
    assert drawn(most_items=10, seed=1) != some
    assert drawn(most_items=100) == everything


def test_labels_that_are_listed_must_be_all(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    text = experiment_text(data, prompt(ADDRESS), experiment={"labels": ["refund", "greeting"]})
    with pytest.raises(InvalidInput, match="not listed: card_lost, password"):
        plan_of(text)
    described = {"label_descriptions": {"refnd": "money"}}
    with pytest.raises(InvalidInput, match="descriptions are of labels that are not listed: refnd"):
        plan_of(experiment_text(data, prompt(ADDRESS), experiment=described))


def test_a_price_file_of_litellm_is_taken_as_it_is(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    prices = {"sample_spec": {"input_cost_per_token": 0}, "big": {"input_cost_per_token": 2e-6,
              "output_cost_per_token": 4e-6, "litellm_provider": "x", "mode": "chat"}}  # fmt: skip
    (data / "prices.json").write_text(json.dumps(prices))
    plan = plan_of(experiment_text(data, prompt(ADDRESS)))
    assert plan.tariff(plan.asked[0]).price is not None
    file = read_experiment(
        experiment_text(data, prompt(ADDRESS), costs={"prices": "no"}).encode(), "e"
    )
    with pytest.raises(InvalidInput, match="there is no price file"):
        make_plan(file)

"""Every problem of an experiment is named at once, whatever kinds of them there are."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hone.comparison.experiment import CONTENDERS, Experiment
from hone.comparison.experiment_file import InvalidExperiment, look_at, read_experiment
from hone.comparison.plan import survey
from hone.comparison.readiness import make_ready
from hone.models.registry import Registry
from tests.comparison.experiments import experiment_text, prompt, run, survey_of, write_data
from tests.tiny_bundle import publish_tiny

ADDRESS = "http://127.0.0.1:9/v1"  # nobody is there, and nobody is to be asked
KEY = "HONE_TEST_NO_SUCH_KEY"


def test_no_fault_hides_another(tmp_path: Path) -> None:
    """Keys, templates, names, files, prices, labels, models: ten kinds of faults in one file."""
    data, store = write_data(tmp_path / "data"), tmp_path / "store"
    publish_tiny(Registry(store))
    (data / "test.jsonl").write_text('{"text": "a"}\n')
    (data / "train.jsonl").write_text("no JSON\n")
    text = experiment_text(
        data,
        prompt(ADDRESS, "few", temperature=9.0, system="{labls}", tokenizer="no.json"),
        prompt(ADDRESS, "bare", prompt="retrieved", template="{text}", system="", base="minilmm"),
        prompt(ADDRESS, "zero", prompt="zero-shot", examples_as="turns", api="completions"),
        {"name": "typo", "kind": "bundle", "model": "m", "store": str(store), "varaint": "int8"},
        {
            "name": "lost",
            "kind": "bundle",
            "model": "suport",
            "store": str(store),
            "costs": {"x": 1},
        },
        {"name": "near", "kind": "embedded", "template": "{lable}"},
        {"name": "kindless", "model": "m"},
        {"name": "unwritten", "kind": "recorded", "path": str(tmp_path / "no.jsonl")},
        {"name": "majority", "kind": "majority"},
        decision={"candidate": "nobody", "baseline": "noone", "margin": "a little"},
        costs={"prices": str(tmp_path / "prices.json"), "months": 0.0},
        experiment={"labels": ["one", "one"]},
    )
    with pytest.raises(InvalidExperiment) as caught:
        run(text, tmp_path / "out")
    found = list(caught.value.problems)
    expected = [
        "decision.margin: should be a valid number (it is 'a little')",
        "costs.months: should be greater than 0 (it is 0.0)",
        "contender 'kindless': 'kind' is missing: one of bundle, served, prompt",
        "contenders: the name 'majority' is given twice",
        "decision.candidate: there is no contender 'nobody'",
        "decision.baseline: there is no contender 'noone'",
        f"there is no price file {tmp_path / 'prices.json'}",
        f"{data / 'test.jsonl'} has 1 unusable line:",
        f"{data / 'train.jsonl'} has 1 unusable line:",
        "experiment.labels: a label is given twice",
        "contender 'few': temperature: ",
        "contender 'few': system: unknown placeholder {labls}; did you mean {labels}?",
        "contender 'few': template: a few-shot prompt needs the placeholder {examples}",
        "contender 'few': there is no tokenizer file",
        "contender 'bare': template: a retrieved prompt needs the placeholder {examples}",
        "contender 'bare': there is no base 'minilmm'",
        "contender 'zero': a zero-shot prompt has no examples: leave 'k' out; 'examples_as' can be",
        "contender 'typo': varaint: unknown key; did you mean 'variant'?",
        "contender 'lost': costs: x: unknown key",
        f"contender 'lost': there is no model 'suport' in the store {store}; did you mean ",
        "contender 'near': template: unknown placeholder {lable}; did you mean {label}?",
        "contender 'near': template: it has neither {label} nor {description}",
        f"contender 'unwritten': there is no file {tmp_path / 'no.jsonl'}",
    ]
    for said in expected:
        assert any(one.startswith(said) for one in found), (said, found)
    assert "there is one label only: nothing can be compared" in found
    assert len(found) == len(expected) + 1, found
    contenders = [one.partition(":")[0] for one in found if one.startswith("contender '")]
    assert contenders == sorted(contenders, key=contenders.index)  # each one's stand together
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("groups", "changes", "only"),
    [
        ({"experiment": {"path": 3}}, {}, "experiment.path"),
        ({"experiment": {"pth": "x", "path": None}}, {}, "experiment.pth: unknown key"),
        ({"experiment": {"test": "a.jsonl"}}, {}, "experiment: give either 'path'"),
        ({"experiment": {"name": None}}, {}, "experiment.name: missing"),
        ({"costs": {"prices": 3}, "limits": {"dollars": 1.0}}, {}, "costs.prices"),
        ({"limits": {"dollars": "1"}}, {"model": "unpriced"}, "limits.dollars"),
        ({"decision": {"candidate": None}}, {}, "decision.candidate: missing"),
        ({}, {"template": 3, "system": "{text}"}, "contender 'few': template: "),
        ({}, {"k": "8", "prompt": "zero-shot"}, "contender 'few': k: "),
        ({}, {"tokeniser": "none.json"}, "contender 'few': tokeniser: unknown key"),
        ({}, {"name": None}, "contender number 1: name: missing"),
        ({}, {"model": None}, "contender 'few': model: missing"),
        (
            {},
            {"costs": {"most_in_us": 0.5}},
            "contender 'few': costs: most_in_us: unknown key; did ",
        ),
        ({"limits": {"dollars": 1.0}}, {"api_key_env": "a b", "modl": "x"}, ""),
    ],
)
def test_what_follows_from_a_fault_is_not_named_as_another(
    tmp_path: Path, groups: dict[str, Any], changes: dict[str, Any], only: str
) -> None:
    data = write_data(tmp_path / "data", test=60)
    text = experiment_text(data, {**prompt(ADDRESS)}, **groups)
    few = {"name": "few", **changes}
    if changes:
        text = experiment_text(data, prompt(ADDRESS, **few), **groups) if few["name"] else (
            text.replace('name = "few"\n', "", 1)
        )  # fmt: skip
    with pytest.raises(InvalidExperiment) as caught:
        make_ready(survey_of(text))
    found = caught.value.problems
    if only:
        assert len(found) == 1, found
        assert found[0].startswith(only)
    else:
        assert len(found) == 2


@pytest.mark.parametrize("swapped", [False, True])
def test_contenders_of_one_name_keep_their_faults_apart(tmp_path: Path, *, swapped: bool) -> None:
    """What is wrong with one by its keys hides nothing that is wrong with the other."""
    keys = prompt(ADDRESS, "same", k="8")
    between = prompt(ADDRESS, "same", prompt="zero-shot", k=8)
    template = prompt(ADDRESS, "same", system="{labls} {examples}", api_key_env=KEY)
    given = [template, between, keys] if swapped else [keys, between, template]
    text = experiment_text(
        write_data(tmp_path / "data", test=60),
        *given,
        decision={"candidate": "same", "baseline": "same"},
    )
    with pytest.raises(InvalidExperiment) as caught:
        make_ready(survey_of(text))
    first, third = ("(number 3)", "(number 1)") if swapped else ("(number 1)", "(number 3)")
    expected = {
        f"contender 'same' {first}: k: should be a valid integer (it is '8')",
        "contender 'same' (number 2): a zero-shot prompt has no examples: leave 'k' out",
        f"contender 'same' {third}: system: unknown placeholder {{labls}}; did you mean {{labels}}",
        f"contender 'same' {third}: the environment variable {KEY} holds no key",
        "contenders: the name 'same' is given twice",
        "decision.candidate: is the baseline itself",
    }
    found = caught.value.problems
    assert len(found) == len(expected), found
    for said in expected:
        assert any(one.startswith(said) for one in found), (said, found)


def test_the_same_fault_in_two_contenders_of_one_name_is_named_twice(tmp_path: Path) -> None:
    wrong = prompt(ADDRESS, "same", temperature=9.0)
    text = experiment_text(write_data(tmp_path / "data"), wrong, prompt(ADDRESS, "few"), wrong)
    with pytest.raises(InvalidExperiment) as caught:
        read_experiment(text.encode(), "experiment.toml")
    heads = [said.partition(": should")[0] for said in caught.value.problems]
    assert heads[:2] == [f"contender 'same' (number {n}): temperature" for n in (1, 3)]


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 20), st.floats(-1, 2), st.just([]), st.just({}),
    st.sampled_from(["", "few", "x", "{text} {nobody}", "turns", "generating", "../x"]),
    st.lists(st.sampled_from(["a", "b"]), max_size=2),
)  # fmt: skip
_KEYS = sorted({
    *(key for one in CONTENDERS.values() for key in one.model_fields), "unheard",
} - {"store", "base"})  # fmt: skip
_GROUP_KEYS = [
    (group, key)
    for group in ("experiment", "decision", "costs", "limits")
    for key in Experiment.model_fields[group].annotation.model_fields  # type: ignore[union-attr]
]


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    own=st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=3),
    other=st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=3),
    groups=st.dictionaries(st.sampled_from(_GROUP_KEYS), _VALUES, max_size=3),
    dropped=st.sampled_from(["", "[decision]", "[experiment]", "[[contenders]]", "[limits]"]),
)
def test_whatever_is_wrong_is_refused_in_sentences(
    tmp_path_factory: pytest.TempPathFactory,
    own: dict[str, Any],
    other: dict[str, Any],
    groups: dict[tuple[str, str], Any],
    dropped: str,
) -> None:
    data = tmp_path_factory.getbasetemp() / "any"
    if not data.is_dir():
        write_data(data)
    given = {
        group: {key: value for (of, key), value in groups.items() if of == group}
        for group in {of for of, _ in groups}
    }
    recorded = {"kind": "recorded", "path": str(data / "no.jsonl"), **other, "name": "old"}
    few = {**prompt(ADDRESS), **own, "name": "few"}
    text = experiment_text(data, few, recorded, **given)
    if dropped:
        text = text.replace(dropped, "[costs.nothing]" if dropped == "[limits]" else "", 1)
    file = None
    with suppress(InvalidExperiment):
        file = look_at(text.encode(), "experiment.toml")
        make_ready(survey(file), needs_keys=False)
        assert not file.problems  # else it is refused
    assert file is not None  # it is TOML
    if not file.problems:
        assert read_experiment(text.encode(), "experiment.toml") == file
    assert len(set(file.problems)) == len(file.problems)

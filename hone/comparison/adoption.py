"""From a finished comparison to a version of the model that has its threshold and its prompt.

Nobody is asked anything: the run folder is judged again, and the prompt is put together from the
experiment that it holds. What has changed since the run (the training file, the version that was
judged) is refused.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from hone.comparison.arms import question_of
from hone.comparison.experiment import BundleContender, Contender, PromptContender, billing_of
from hone.comparison.experiment_file import load_experiment
from hone.comparison.fallback import Fallback
from hone.comparison.held_folder import EXPERIMENT_FILE, QUESTION_FILE, UNFINISHED
from hone.comparison.judgement import Judgement
from hone.comparison.judging import weigh
from hone.comparison.locating import located
from hone.comparison.plan import Plan, make_plan, price_name
from hone.comparison.prompts import choose_examples, templates_of
from hone.comparison.question import RUN_FILE, Question
from hone.comparison.run_folder import read_run
from hone.comparison.standing import check_report, check_results
from hone.comparison.stores import looked_up
from hone.models.bundle import Bundle
from hone.models.catalogue import find_base
from hone.models.editions import publish_with_fallback
from hone.models.engines import FloatArray
from hone.models.errors import Conflict, InvalidInput, NotFound
from hone.models.manifest import FallbackRecord, Manifest
from hone.models.names import parse_reference
from hone.models.prompting.answerer import EMBEDDINGS, write_shots
from hone.models.prompting.arm import PromptArm, Retrieval
from hone.models.prompting.embedding import (
    BertEncoder,
    encoder_files,
    encoder_form,
    read_embeddings,
)
from hone.models.prompting.inputs import Shot, shown_as
from hone.models.prompting.tensors import write_tensors
from hone.models.registry import Registry

_EXAMPLES = "fallback.examples.json"
_ENCODER = "fallback.encoder.safetensors"
_TOKENIZER = "fallback.tokenizer.json"
_EMBEDDINGS = "fallback.embeddings.safetensors"


@dataclass(frozen=True, slots=True)
class Adoption:
    """A run whose threshold can be adopted: what was judged, and what it came to."""

    folder: Path
    plan: Plan
    judgement: Judgement
    found: Fallback
    threshold: float
    report_sha256: str
    bundle: Bundle
    variant: str
    registry: Registry
    prompt: PromptContender

    def publish(self) -> Manifest:
        """Publish the judged version once more, with the fallback."""
        contender, training = self.prompt, self.plan.material.training
        group = self.plan.experiment.experiment
        shots = list(training)
        if contender.prompt != "retrieved":
            shots = choose_examples(training, contender.shots, seed=group.seed)
        retrieval = _retrieval(contender) if contender.prompt == "retrieved" else None

        def add(staged: Path) -> None:
            if shots:
                write_shots(staged / _EXAMPLES, shots)
            if retrieval is not None:
                _copy_encoder(staged, contender, shots, self.folder)

        record = self._record(_arm(self.plan, contender, has_shots=bool(shots), found=retrieval))
        return publish_with_fallback(self.registry, self.bundle, record, add)

    def _record(self, arm: PromptArm) -> FallbackRecord:
        question, choice = self.judgement.question, self.found.choice
        cascade = self.found.cascade
        return FallbackRecord.model_validate(
            {
                "threshold": self.threshold,
                "max_error": question.max_error,
                "confidence": question.confidence,
                "items": choice.n,
                "kept": choice.kept,
                "wrong": choice.wrong,
                "share_kept": 0.0 if cascade is None else cascade.kept.value,
                "verdict": self.judgement.verdict.word,
                "set_at": datetime.now(UTC).replace(microsecond=0),
                "judgement_sha256": self.report_sha256,
                "judged_digest": self.bundle.manifest.digest,
                "variant": self.variant,
                "arm": arm,
            }
        )


def read_adoption(
    folder: Path, *, store: Path | None = None, despite_verdict: bool = False
) -> Adoption:
    """Judge a run folder again and see that its threshold can be adopted; nothing is written.

    NotFound where the folder is none or a file is not there; InvalidInput where the run has no
    threshold, the candidate is no bundle or the baseline no prompt; Conflict where the verdict is
    another one (unless `despite_verdict`), or something is not what it was when it was judged.
    """
    record = _run_record(folder)
    file = load_experiment(folder / EXPERIMENT_FILE)
    if file.sha256 != record.get("experiment_sha256"):
        raise Conflict(f"{folder / EXPERIMENT_FILE} was changed after the run")
    plan = make_plan(replace(file, experiment=located(file.experiment, folder, record)))
    if plan.material.sha256 != record.get("files"):
        raise Conflict("the items or the training examples are not those of the run any more")
    question = _question(folder, plan)
    check_results(folder, record)
    candidate = _contender(plan, question.candidate)
    prompt = _contender(plan, question.baseline)
    if not isinstance(candidate, BundleContender):
        raise InvalidInput(f"{candidate.name} is no bundle of a store: nothing can be published")
    if not isinstance(prompt, PromptContender):
        raise InvalidInput(f"{prompt.name} is no prompt that a service could ask")
    registry = Registry(Path(candidate.store) if store is None else store)
    bundle, variant = _judged(registry, record, candidate.name)
    judgement = weigh(read_run(folder, question), question)
    digest = check_report(folder, judgement)
    found = judgement.fallback
    threshold = None if found is None else found.choice.threshold
    if found is None or threshold is None:
        why = "decision.max_error was not given" if found is None else found.choice.reason
        raise InvalidInput(f"the run has no threshold: {why}")
    if judgement.verdict.word != "REPLACE WITH FALLBACK" and not despite_verdict:
        raise Conflict(
            f"the verdict is {judgement.verdict.word}; --despite-verdict sets the fallback all the "
            "same"
        )
    if prompt.prompt == "retrieved":
        if plan.material.kind == "image":
            raise InvalidInput(f"{prompt.name} retrieves pictures, which a service cannot do")
        _embeddings(prompt, plan.material.training, folder)
    return Adoption(
        folder, plan, judgement, found, threshold, digest, bundle, variant, registry, prompt
    )


def _run_record(folder: Path) -> Mapping[str, Any]:
    try:
        record = orjson.loads((folder / RUN_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if (folder / UNFINISHED).is_dir():
            raise InvalidInput(_not_whole(folder)) from None
        raise NotFound(f"{folder} is no folder of a comparison: it has no {RUN_FILE}") from None
    except orjson.JSONDecodeError:
        record = None
    if not isinstance(record, dict):
        raise InvalidInput(f"{folder / RUN_FILE} is no record of a run")
    if not record.get("complete"):
        raise InvalidInput(_not_whole(folder))
    return record


def _not_whole(folder: Path) -> str:
    return f"the run in {folder} is not whole: run it to its end first"


def _question(folder: Path, plan: Plan) -> Question:
    """Read what the judge was asked; Conflict if the experiment asked something else."""
    try:
        question = Question.model_validate_json((folder / QUESTION_FILE).read_bytes())
    except FileNotFoundError:
        raise NotFound(f"there is no {folder / QUESTION_FILE}") from None
    except ValueError:
        raise InvalidInput(f"{folder / QUESTION_FILE} cannot be read") from None
    asked = question_of(plan, {}).model_dump(exclude={"arms"})
    if question.model_dump(exclude={"arms"}) != asked:
        raise Conflict(f"{folder / QUESTION_FILE} does not ask what the experiment does")
    return question


def _contender(plan: Plan, name: str) -> Contender:
    return next(one for one in plan.experiment.contenders if one.name == name)


def _judged(registry: Registry, record: Mapping[str, Any], name: str) -> tuple[Bundle, str]:
    """Return the version that was judged, verified, and which of its variants answered."""
    said = record.get("bundles", {}).get(name)
    if not isinstance(said, dict) or "variant" not in said:
        raise InvalidInput("the run does not say which variant was judged: run it once more")
    reference = parse_reference(said["model"])
    with looked_up(registry, reference):
        bundle = registry.open(reference)
    if bundle.manifest.digest != said["digest"]:
        raise Conflict(f"{said['model']} in {registry.store} is not the version that was judged")
    return bundle, said["variant"]


def _arm(
    plan: Plan, contender: PromptContender, *, has_shots: bool, found: Retrieval | None
) -> PromptArm:
    templates = templates_of(contender, plan.material.kind)
    group = plan.experiment.experiment
    return PromptArm(
        api=contender.api,
        model=contender.model,
        inputs=plan.material.kind,
        detail=contender.detail,
        system=templates.system,
        user=templates.user,
        example=templates.example,
        examples_as=contender.examples_as,
        labels=list(plan.material.labels),
        descriptions=group.label_descriptions,
        examples=_EXAMPLES if has_shots else None,
        retrieval=found,
        temperature=contender.temperature,
        max_answer_tokens=contender.max_answer_tokens,
        max_tokens_field=contender.max_tokens_field,
        stop=contender.stop,
        logprobs=contender.logprobs,
        parameters=contender.parameters,
        reading=group.reading,
        billing=billing_of(contender),
        price_model=price_name(contender),
    )


def _retrieval(contender: PromptContender) -> Retrieval:
    base = find_base(contender.base)
    return Retrieval(
        k=contender.shots,
        base=base.id,
        form=encoder_form(base),
        encoder=_ENCODER,
        tokenizer=_TOKENIZER,
        embeddings=_EMBEDDINGS,
    )


def _copy_encoder(
    staged: Path, contender: PromptContender, shots: list[Shot], folder: Path
) -> None:
    """Put the encoder and the examples' vectors beside the model: the bundle needs no base."""
    weights, tokenizer = encoder_files(find_base(contender.base))
    shutil.copyfile(weights, staged / _ENCODER)
    shutil.copyfile(tokenizer, staged / _TOKENIZER)
    vectors = _embeddings(contender, shots, folder)
    write_tensors(staged / _EMBEDDINGS, {EMBEDDINGS: vectors})


def _embeddings(contender: PromptContender, shots: Sequence[Shot], folder: Path) -> FloatArray:
    """Return the run's vectors of the examples; Conflict if the base is not what embedded them."""
    encoder = BertEncoder.from_base(contender.base)
    vectors = read_embeddings(encoder, [shown_as(shot.input) for shot in shots], folder)
    if vectors is None:
        raise Conflict(
            f"{folder} has no embeddings of the examples by the weights that the base "
            f"{contender.base} has now: the run retrieved with others"
        )
    return vectors

"""Names that the API gives to fine-tuned models, as the hosted one forms them.

ft:<base>:<owner>:<suffix>:<id>                         modern
<base>:ft-<owner>[:<suffix>]-<YYYY-MM-DD-hh-mm-ss>      legacy
"""

import re
from datetime import UTC, datetime

from hone.service.jobs.records import Job

_JOB_NAME = re.compile(r"((?:ftjob|ft)-[a-z0-9]{24})(-ckpt)?(@.*)?", re.DOTALL)
_CHECKPOINT = re.compile(r".+:ckpt-step-[1-9][0-9]{0,8}", re.DOTALL)
_OTHERS = re.compile(r"[^a-z0-9]+")
_ID_CHARACTERS = 8
_LONGEST_OWNER = 40


def model_name(job: Job, base: str, now: float, *, taken: int = 0) -> str:
    """Return the name of a job's model; `now` is its Unix time, which only legacy names show.

    `taken` counts the names that were found taken: the next one is a second later, or has more of
    the job's id.
    """
    base = base.replace(":", "-")  # a colon stands between the parts
    owner = _plain(job.owner)[:_LONGEST_OWNER] or "personal"
    suffix = _plain(job.suffix or "")
    if job.flavour == "modern":
        shown = job.id.rpartition("-")[2][: _ID_CHARACTERS + taken]
        return f"ft:{base}:{owner}:{suffix}:{shown}"
    moment = datetime.fromtimestamp(int(now) + taken, UTC).strftime("%Y-%m-%d-%H-%M-%S")
    return f"{base}:ft-{owner}{f':{suffix}' if suffix else ''}-{moment}"


def checkpoint_name(model: str, step: int) -> str:
    """Return the name of the model as it was after a step."""
    return f"{model}:ckpt-step-{step}"


def is_checkpoint_name(name: str) -> bool:
    """Say whether a name in the API is one of a checkpoint."""
    return _CHECKPOINT.fullmatch(name) is not None


def is_job_name(name: str) -> bool:
    """Say whether a name is one in the store under which a job publishes."""
    return _JOB_NAME.fullmatch(name) is not None


def holds_checkpoints(store_model: str) -> bool:
    """Say whether a name in the store is that of a job's checkpoints."""
    found = _JOB_NAME.fullmatch(store_model)
    return found is not None and found[2] is not None


def job_of(store_model: str) -> str:
    """Return the id of the job that publishes under a name in the store."""
    found = _JOB_NAME.fullmatch(store_model)
    return store_model if found is None else found[1]


def _plain(text: str) -> str:
    return _OTHERS.sub("-", text.casefold()).strip("-")

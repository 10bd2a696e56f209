"""Names that the API gives to fine-tuned models, as the hosted one forms them.

ft:<base>:<owner>:<suffix>:<id>                         modern
<base>:ft-<owner>[:<suffix>]-<YYYY-MM-DD-hh-mm-ss>      legacy
"""

import re
from datetime import UTC, datetime

from hone.service.jobs.records import Job

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


def _plain(text: str) -> str:
    return _OTHERS.sub("-", text.casefold()).strip("-")

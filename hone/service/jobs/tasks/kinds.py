"""The tasks that jobs can be for."""

from collections.abc import Mapping

from hone.models.catalogue import Task
from hone.service.jobs.tasks.classification import TextClassification
from hone.service.jobs.tasks.contract import TaskKind
from hone.service.jobs.tasks.generation import TextGeneration
from hone.service.jobs.tasks.pictures import PictureClassification

KINDS: Mapping[Task, TaskKind] = {
    "text-classification": TextClassification(),
    "text-generation": TextGeneration(),
    "image-classification": PictureClassification(),
}
"""What a job is for, by what its base is for."""

TASK_NAMES = tuple(kind.name for kind in KINDS.values())

"""Resolving names from visitors: the only place where such a name becomes a path of this machine.

A name is parsed first: its revision is split off, its folders are resolved, and links are followed. Then it must be on
the Hub, in the package, an upload of the visitor, or in one of their runs. On a personal machine, every folder is
allowed.
"""

import os
from pathlib import Path

from app.server.studio import Studio
from app.server.visitor import Visitor
from simct import demo
from simct.config import RunConfig
from simct.config.sections import DataConfig
from simct.config.tasks import named_tasks, rename_tasks
from simct.config.teachers import numbered_teachers
from simct.errors import ConfigError, DataError, ModelError, SimCTError
from simct.evaluation.task_names import is_task_name
from simct.files import expanded
from simct.hub.repo_ids import is_folder, is_repository, is_revision, split_revision
from simct.runs.folder import RunFolder
from simct.setting import quoted

EMBEDDED_MODELS = frozenset(
    str(path) for path in (demo.TEACHER, demo.STUDENT, *(getattr(pair, side) for pair in demo.STRESS.values()
                                                         for side in ("teacher", "student")))
)  # fmt: skip
EMBEDDED_PROMPTS = frozenset(str(path) for path in (demo.PROMPTS, demo.EVAL))
NO_PROMPTS = "There are no prompts. Use the embedded ones, upload a file, or name a Hub dataset."
HUB_OR_UPLOAD = "A public studio reads prompts from the Hub or an upload only. Give an id like owner/name."


def check_revision(revision: str | None, error: type[SimCTError] = ModelError) -> None:
    """Raise `error` if it cannot be a commit, tag or branch: a revision becomes part of a path in the cache."""
    if revision and not is_revision(revision):
        raise error(f"{quoted(revision)} is not a revision. Give a commit, tag or branch.")


def check_model(studio: Studio, model: str | None) -> str:
    """A model that a visitor names, without surrounding spaces. In public it must be embedded or on the Hub. Raises
    ModelError.
    """
    model = (model or "").strip()
    if not model or "\0" in model:
        raise ModelError("Choose a model: type to search the Hub, or give the path of a local folder.")
    if model in EMBEDDED_MODELS:
        return model
    name, revision = split_revision(model)
    if studio.public:
        if not is_repository(name):
            raise ModelError("A public studio reads models from the Hub only. Give a Hub id like owner/name.")
    elif is_folder(name):
        return model
    check_revision(revision)
    return model


def check_data(studio: Studio, visitor: Visitor, data: DataConfig) -> DataConfig:
    """Check the prompts that a visitor chose, in place. In public they must be embedded, on the Hub or the visitor's
    upload.

    A file that they uploaded before they signed in becomes their account's. Raises DataError or RunError.
    """
    data.prompts = _prompts(studio, visitor, data.prompts)
    if data.held_out_prompts:
        data.held_out_prompts = _prompts(studio, visitor, data.held_out_prompts)
    check_revision(data.revision, DataError)
    return data


def _prompts(studio: Studio, visitor: Visitor, prompts: str) -> str:
    if not prompts or "\0" in prompts:
        raise DataError(NO_PROMPTS)
    if not studio.public or prompts in EMBEDDED_PROMPTS or is_repository(prompts):
        return prompts
    path = owned_file(studio, visitor, prompts)
    if path is None:
        raise DataError(HUB_OR_UPLOAD)
    return str(path)


def owned_file(studio: Studio, visitor: Visitor, name: str) -> Path | None:
    """The file or folder `name` if it is this visitor's upload or is in one of their runs; else None."""
    if not os.path.exists(name):
        return None
    path = Path(name).resolve()
    if studio.uploads.owns(path, visitor, studio.public):
        return studio.uploads.of_account(path, visitor)
    root = studio.runs_dir.resolve()
    parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
    if visitor.owner is None or len(parts) < 3 or parts[1] != "inputs":
        return None
    return path if RunFolder(root / parts[0]).status().owner == visitor.owner else None


def is_kept_here(studio: Studio, name: str) -> bool:
    """Whether `name` is an upload or an input of some run. Its owner was checked when it was named."""
    root, path = studio.runs_dir.resolve(), Path(name).resolve()
    parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
    return len(parts) > 1 and (parts[0] == studio.uploads.folder.name or parts[1] == "inputs")


def check_tasks(studio: Studio, visitor: Visitor, tasks: list[str]) -> list[str]:
    """Check tasks that a visitor names: a task name, or the visitor's own file of prompts and answers. Raises
    ConfigError.
    """
    return [task if is_task_name(task) else _task_file(studio, visitor, task) for task in tasks]


def _task_file(studio: Studio, visitor: Visitor, task: str) -> str:
    if "\0" not in task and Path(task).suffix in (".jsonl", ".json"):
        path = owned_file(studio, visitor, task) if studio.public else expanded(task)
        if path is not None and os.path.isfile(path):
            return str(path)
    raise ConfigError(
        f"evaluation.tasks names {quoted(task)}, which is neither a task nor a file of yours with prompts and answers. "
        "Give a task by its name, such as gsm8k or demo."
    )


def check_run(studio: Studio, visitor: Visitor, config: RunConfig, here: bool = False) -> RunConfig:
    """Check a run that a visitor described, in place, and resolve every name in it. Raises a one-line SimCTError.

    Visitors never choose its folder. `here`: it trains on the studio's machine, which in public sends no requests for a
    visitor and has one device for each run.
    """
    config.output = None
    for number, model in (*numbered_teachers(config), ("", config.student)):
        model.model = check_model(studio, model.model)
        # a name that still contains a revision would be parsed again, as a different name
        if studio.public and split_revision(model.model)[1]:
            raise ModelError(f"{quoted(model.model)} is not a model. Give its revision by itself.")
        check_revision(model.revision)
        # the scores of a Job are in its own repository, always under the same name
        if model.scores and studio.public and model.scores != f"inputs/scores{number}":
            found = owned_file(studio, visitor, model.scores) if "\0" not in model.scores else None
            if found is None:
                raise ModelError(f"{quoted(model.scores)} is not a folder of yours with scores. Leave it empty.")
            model.scores = str(found)
    check_data(studio, visitor, config.data)
    named = named_tasks(config)
    resolved = dict(zip(named, check_tasks(studio, visitor, named), strict=True))
    rename_tasks(config, resolved.__getitem__)
    if config.evaluation.best_by not in resolved.values() and not is_task_name(config.evaluation.best_by):
        raise ConfigError(f"evaluation.best_by is {quoted(config.evaluation.best_by)}, which is not a task of the run.")
    addresses = {"rollout.vllm_url": config.rollout.vllm_url, "notify.webhook": config.notify.webhook}
    for setting, address in addresses.items():
        if studio.public and here and address:
            raise ConfigError(f"{setting} must be empty in a public studio: it sends no requests for its visitors.")
    return config

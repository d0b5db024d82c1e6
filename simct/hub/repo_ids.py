"""Names of models and repositories: whether one is a valid id on the Hub, `id@revision`, or a local folder."""

import os
import re

from huggingface_hub.utils import HFValidationError, validate_repo_id

from simct.errors import HubError, quoted
from simct.files import expanded


def is_here(name: str) -> bool:
    """Whether `name` is a file or folder; unlike Path.exists, False for a name that is too long for one."""
    return os.path.exists(expanded(name))


def is_path(model: str) -> bool:
    """Whether `model` is written as a path, which no id is."""
    return model.startswith(("/", "./", "../", "~"))


def is_folder(model: str) -> bool:
    """Whether `model` is a folder, or looks like the path of one."""
    return is_path(model) or os.path.isdir(expanded(model))


def no_folder(model: str) -> str:
    """The message about a path where there is no folder."""
    return f"There is no folder {quoted(model)}. Check the path, or give a Hub id like owner/name."


def split_revision(model: str | None) -> tuple[str, str | None]:
    """`id@revision` as its two parts; a folder with an @ in its name is not split."""
    model = (model or "").strip()
    name, mark, revision = model.rpartition("@")
    return (name, revision) if mark and name and revision and not is_folder(model) else (model, None)


def hub_id(name: str) -> str | None:
    """`name` if it looks like a repository id on the Hub and is not a file or folder here, else None."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return None if is_here(name) else name


# the Hub's rules; as names become paths in the cache, two dots in a row are never allowed
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
REVISION = re.compile(r"[A-Za-z0-9][\w./+-]{0,250}")


def is_repository(name: str) -> bool:
    """Whether `name` can only mean a repository on the Hub: it looks like one, and no file here has that name."""
    return bool(REPOSITORY.fullmatch(name)) and ".." not in name and not os.path.exists(name)


def is_revision(revision: str) -> bool:
    """Whether `revision` could be a commit, tag or branch."""
    return bool(REVISION.fullmatch(revision)) and ".." not in revision and "//" not in revision


REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def checked_repo_id(repo_id: str | None) -> str:
    """`repo_id` trimmed. Raises HubError unless it reads as owner/name."""
    repo_id = (repo_id or "").strip()
    if not REPO_ID.fullmatch(repo_id) or len(repo_id) > 96:
        raise HubError(
            f"{quoted(repo_id)} is not a repository. Write it as owner/name, of at most 96 letters, digits, '-', '_' "
            "and '.'."
        )
    return repo_id

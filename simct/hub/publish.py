"""Pushing a run's student to the Hub, with its card; publishing again updates what is there.

All files go in one commit, so the repository holds the old student or the new one and never half of either. Publishing
has a state of its own in publish.json (publishing, published, failed) and never touches the run's status.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from simct.errors import HubError, RunError, SimCTError
from simct.hub import client
from simct.hub.card import CURVE_FILE, RUN_FILE, hub_id, model_card, public_yaml, rollouts_card
from simct.hub.client import hub_api
from simct.hub.curve import loss_curve
from simct.hub.errors_from_hub import hub_error, page_url, redact
from simct.jobs.run_folder import ACTIVE_STATES, RunFolder

# What a published model consists of; all else in model/ (optimiser states, pickles, code) stays at home.
MODEL_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "*.jinja",
)
# Where transformers notes from which folder something was loaded.
_PATH_KEYS = ("_name_or_path", "name_or_path", "tokenizer_file", "vocab_file", "merges_file")
SPACE_FOLDER = Path(__file__).parents[2] / "spaces" / "student"
SPACE_FILES = ("README.md", "app.py", "requirements.txt")


def publish_run(
    run: RunFolder,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
    rollouts: bool = False,
    space: bool = False,
) -> str:
    """Push the run's model/ and its card to `repo_id` (owner/name, or a name in the token's account); returns the URL.

    `private` makes the repository private, a new or an existing one; without it a new one is public and an existing one
    stays as it is. `rollouts` also pushes rollouts.jsonl as the dataset <repo_id>-rollouts, `space` the chat demo as
    the Space <repo_id>-demo. Raises a one-line HubError or RunError, also kept in publish.json; nothing is lost, and
    calling again takes up where it failed.
    """
    with _one_at_a_time(run):
        try:
            files = model_files(run)
            run.set_publishing(state="publishing", repo_id=repo_id, private=private, error=None, url=None, commit=None)
            done = _publish(run, files, repo_id, private, token, rollouts, space)
        except BaseException as error:
            told = _told(error, repo_id)
            _record_failure(run, repo_id, told)
            if isinstance(error, Exception):
                raise told from error
            raise
        run.set_publishing(state="published", error=None, **done)
        return done["url"]


def publish_dataset(folder: Path, repo_id: str, private: bool = False, token: str | None = None) -> str:
    """Push the dataset that a warm-up made (its data/ folder) to `repo_id`; returns the URL. Raises HubError."""
    files = {name: folder / name for name in ("train.jsonl", "README.md", "warmup.json")}
    if not all(path.is_file() for path in files.values()):
        raise RunError(f"{str(folder)!r} is not the data of a warm-up. Finish the warm-up first.")
    try:
        api = hub_api(token)
        if "/" not in repo_id:
            repo_id = f"{api.whoami()['name']}/{repo_id}"
        validate_repo_id(repo_id)
        _prepare_repo(api, repo_id, "dataset", private, marker="warmup.json")
        _push(api, repo_id, "dataset", dict(files), [], "Publish a teacher's answers")
    except Exception as error:
        raise _told(error, repo_id) from error
    return page_url(repo_id, "dataset")


def publishing_state(run: RunFolder) -> dict:
    """publish.json, with a push whose process has died told as failed."""
    record = run.publishing()
    if record.get("state") == "publishing" and not _locked(run):
        told = "The process that was publishing ended. Publish again: what is already on the Hub is kept."
        record = run.set_publishing(state="failed", error=told)
    return record


def model_files(run: RunFolder) -> dict[str, Path]:
    """The files of the run's model to publish, by name. Raises RunError if the run has no whole model yet."""
    state = run.status().get("state")
    if state in ACTIVE_STATES:
        raise RunError(f"Run {run.id} is {state}. Wait until it has finished, or stop it, then publish.")
    folder = run.model_dir
    found = {path.name: path for path in sorted(folder.glob("*")) if path.is_file() and _is_model_file(path.name)}
    weights = [name for name in found if name.endswith(".safetensors")]
    if "config.json" not in found or not weights:
        raise RunError(f"Run {run.id} has no trained model in model/ (config.json and *.safetensors) to publish.")
    for index in (name for name in found if name.endswith(".safetensors.index.json")):
        listed = json.loads(found[index].read_text(encoding="utf-8")).get("weight_map", {})
        missing = sorted(set(listed.values()) - set(weights))
        if missing:
            raise RunError(f"The model of run {run.id} lacks {missing[0]}, which {index} names. Save the model again.")
    return found


def _is_model_file(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in MODEL_FILES)


def _publish(
    run: RunFolder, files: dict[str, Path], repo_id: str, private: bool, token: str | None, rollouts: bool, space: bool
) -> dict:
    api = hub_api(token)
    if "/" not in repo_id:
        repo_id = f"{api.whoami()['name']}/{repo_id}"
    validate_repo_id(repo_id)
    held = _prepare_repo(api, repo_id, "model", private, marker=RUN_FILE)
    config = run.config()
    content: dict[str, bytes | Path] = {name: _public_json(path) for name, path in files.items()}
    content["README.md"] = model_card(run, repo_id, _student_licence(api, config.student.model)).encode()
    content[RUN_FILE] = public_yaml(config).encode()
    curve = loss_curve(run.metrics())
    if curve:
        content[CURVE_FILE] = curve
    stale = [name for name in held if (_is_model_file(name) or name == CURVE_FILE) and name not in content]
    commit = _push(api, repo_id, "model", content, stale, f"Publish the student of run {run.id}")
    done = {"repo_id": repo_id, "url": page_url(repo_id), "commit": commit}
    run.set_publishing(**done)  # kept even if what follows fails
    if rollouts:
        done["rollouts_url"] = _publish_rollouts(api, run, repo_id, private)
    if space:
        done["space_url"] = _publish_space(api, repo_id, private)
    return done


def _prepare_repo(api: HfApi, repo_id: str, kind: str, private: bool, marker: str) -> list[str]:
    """Create the repository, or check that the one there is ours to update; returns the files it holds.

    Ours is one that is empty but for what the Hub puts there, or holds `marker`, which every push of ours writes.
    """
    try:
        info = api.repo_info(repo_id, repo_type=kind, timeout=client.SEARCH_SECONDS)
    except RepositoryNotFoundError:
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, **sdk)
        return []
    held = [sibling.rfilename for sibling in info.siblings or []]
    if marker not in held and set(held) - {".gitattributes", "README.md"}:
        raise HubError(
            f"{repo_id} exists on the Hub and was not made by SimCT Studio. Choose another name; nothing was changed."
        )
    if private and not info.private:
        api.update_repo_settings(repo_id, repo_type=kind, private=True)
    return held


def _push(
    api: HfApi, repo_id: str, kind: str, content: dict[str, bytes | Path], stale: list[str], message: str
) -> str | None:
    """One commit with all of `content` and without `stale`; returns its sha. Unchanged files are not sent again."""
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in content.items()
    ]
    operations += [CommitOperationDelete(path_in_repo=name) for name in stale]
    return api.create_commit(repo_id, operations, repo_type=kind, commit_message=message).oid


def _publish_rollouts(api: HfApi, run: RunFolder, model_id: str, private: bool) -> str:
    path = run.path / "rollouts.jsonl"
    if not path.exists():
        raise RunError(f"Run {run.id} kept no rollouts. Publish without them; the model itself is published.")
    repo_id = f"{model_id}-rollouts"
    _prepare_repo(api, repo_id, "dataset", private, marker="rollouts.jsonl")
    text = redact(path.read_text(encoding="utf-8", errors="replace"))
    content: dict[str, bytes | Path] = {
        "rollouts.jsonl": text.encode(),
        "README.md": rollouts_card(run, model_id).encode(),
    }
    _push(api, repo_id, "dataset", content, [], f"Publish the rollouts of run {run.id}")
    return page_url(repo_id, "dataset")


def _publish_space(api: HfApi, model_id: str, private: bool) -> str:
    """Push the chat demo. It reads which model to load from settings.json, so app.py is the same file for everyone."""
    if not all((SPACE_FOLDER / name).is_file() for name in SPACE_FILES):
        raise HubError("The demo Space's files (spaces/student) are not installed here. Publish from a clone instead.")
    repo_id = f"{model_id}-demo"
    _prepare_repo(api, repo_id, "space", private, marker="settings.json")
    content: dict[str, bytes | Path] = {name: SPACE_FOLDER / name for name in SPACE_FILES}
    card = (SPACE_FOLDER / "README.md").read_text(encoding="utf-8")
    content["README.md"] = card.replace("MODEL_ID", model_id).encode()
    content["settings.json"] = json.dumps({"model": model_id}).encode()
    _push(api, repo_id, "space", content, [], f"Chat demo of {model_id}")
    return page_url(repo_id, "space")


def _public_json(path: Path) -> bytes | Path:
    """The file itself, or, for JSON that says where on this machine it was loaded from, its content without that."""
    if path.suffix != ".json" or path.name.endswith(".index.json") or path.name in ("tokenizer.json", "vocab.json"):
        return path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path.name} in model/ is not valid JSON. Save the model again.") from error
    if not isinstance(record, dict):
        return path
    kept = {key: value for key, value in record.items() if key not in _PATH_KEYS or hub_id(str(value))}
    if kept == record:
        return path
    return (json.dumps(kept, indent=2, ensure_ascii=False) + "\n").encode()


def _student_licence(api: HfApi, student: str) -> str | None:
    """The licence of the student's own repository; None where it is local or cannot be read."""
    if not hub_id(student):
        return "apache-2.0" if _is_demo(student) else None
    try:
        card = api.model_info(student, timeout=client.SEARCH_SECONDS).card_data
    except Exception:  # the card then says that no licence is known
        return None
    licence = card.get("license") if card else None
    return licence if isinstance(licence, str) else None


def _is_demo(student: str) -> bool:
    return Path(student).expanduser().resolve().is_relative_to(Path(__file__).parents[1] / "demo")


def _told(error: BaseException, repo_id: str) -> SimCTError:
    if isinstance(error, Exception):
        return hub_error(error, repo_id, writing=True)
    return HubError("Publishing was interrupted. Publish again: what is already on the Hub is kept.")


def _record_failure(run: RunFolder, repo_id: str, told: SimCTError) -> None:
    with suppress(OSError):  # a full disk: the error is still raised to the caller
        run.set_publishing(state="failed", repo_id=repo_id, error=str(told))


@contextmanager
def _one_at_a_time(run: RunFolder) -> Iterator[None]:
    """Hold the run's publishing lock, which the system releases even when the process is killed."""
    with _lock_file(run) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HubError(f"Run {run.id} is being published already. Wait until that has ended.") from None
        yield


def _locked(run: RunFolder) -> bool:
    with _lock_file(run) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _lock_file(run: RunFolder):
    try:
        return open(run.path / ".publish.lock", "w")
    except OSError as error:
        raise RunError(f"Cannot write in the run folder of {run.id}: {error.strerror}.") from error

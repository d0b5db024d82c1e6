"""Pushing a run's student to the Hub, with its card; publishing again updates what is there.

All files go into one commit, so the repository has either the old student or the new one, never parts of both.
Publishing has its own state in publish.json (publishing, published, failed) and never touches the run's status; in the
meantime `stage` says what is being done, and `sent` of `total` how many bytes are uploaded.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetInfo, HfApi, ModelInfo, SpaceInfo
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from simct.config import RunConfig
from simct.config.publish import WEIGHTS
from simct.errors import HubError, RunError, SimCTError, quoted
from simct.evaluation.records import evaluations_of
from simct.files import acquire_lock, expanded, is_locked
from simct.hub import client
from simct.hub.client import hub_api
from simct.hub.errors import hub_error, page_url
from simct.hub.redact import redact
from simct.hub.repo_ids import hub_id
from simct.jobs.local.process import is_alive
from simct.methods import METHODS
from simct.publishing.card import CURVE_FILE, RUN_FILE, model_card, public_yaml, rollouts_card, shown_name
from simct.publishing.card_edit import card_of, check_card, edited_card, save_card
from simct.publishing.content import adapter_files, is_published_file, model_files, public_json
from simct.publishing.curve import loss_curve
from simct.publishing.upload_progress import watching
from simct.runs.folder import PUBLISHING_LOCK, RunFolder
from simct.runs.status import PublishingStatus

# Smaller files travel in the commit itself.
SENT_WITH_COMMIT = 1_000_000
_NO_PROGRESS = {"stage": None, "sent": None, "total": None}
_ENDED = {**_NO_PROGRESS, "pid": None, "pid_started": None}
SPACE_FOLDER = Path(__file__).parents[2] / "spaces" / "student"
SPACE_FILES = ("README.md", "app.py", "requirements.txt")


@dataclass(frozen=True)
class Wanted:
    """What is pushed: `what` is one of WEIGHTS, the others say whether it is private and what goes with it."""

    private: bool = False
    what: str = "merged"
    rollouts: bool = False
    space: bool = False


def check_files(run: RunFolder, what: str, token: str | bool | None = None) -> None:
    """Raise a one-line RunError if the weights that `what` names are not there or cannot be published."""
    if what not in WEIGHTS:
        raise RunError(f"what is {quoted(what)}; it must be one of {', '.join(WEIGHTS)}.")
    model_files(run)
    if what != "merged":
        adapter_files(run, token)


def publish_run(
    run: RunFolder,
    repo_id: str,
    private: bool = False,
    token: str | None = None,
    rollouts: bool = False,
    space: bool = False,
    card: str | None = None,
    what: str = "merged",
) -> str:
    """Push the run's student and its card to `repo_id` (owner/name, or a name in the token's account); returns the URL.

    `private` makes the repository private, a new or an existing one; without it a new one is public and an existing one
    stays as it is. `what` is one of WEIGHTS: with `both` the adapter goes to <repo_id>-adapter. `rollouts` also pushes
    rollouts.jsonl as the dataset <repo_id>-rollouts, `space` the chat demo as the Space <repo_id>-demo. `card` replaces
    the generated card, now and later. Raises a one-line HubError or RunError, which is also kept in publish.json;
    nothing is lost, and calling again continues where it failed.
    """
    with _one_at_a_time(run):
        try:
            wanted = Wanted(private, what, rollouts, space)
            check_files(run, what, token)
            begin(run, repo_id, private)
            if card is not None:
                check_card(card, student_license(run.config(), token))
                save_card(run, card, repo_id)
            done = _publish(run, repo_id, wanted, token)
        except BaseException as error:
            reason = _one_line(error, repo_id)
            fail(run, repo_id, str(reason))
            if isinstance(error, Exception):
                raise reason from error
            raise
        run.set_publishing(
            state="published", error=None, what=what, model_step=run.status().model_step, **done, **_ENDED
        )
        return str(done["url"])


def begin(run: RunFolder, repo_id: str, private: bool, **more: Any) -> None:
    """Record that publishing begins. The links stay if the run was published to the same repository before."""
    same = run.publishing().repo_id == repo_id
    links = {} if same else dict.fromkeys(("url", "commit", "adapter_url", "rollouts_url", "space_url"))
    fields = {**links, **_NO_PROGRESS, "stage": "Asking the Hub", **more}
    run.set_publishing(state="publishing", repo_id=repo_id, private=private, error=None, **fields)


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
        raise _one_line(error, repo_id) from error
    return page_url(repo_id, "dataset")


def publishing_state(run: RunFolder) -> PublishingStatus:
    """The record of publishing, after marking as failed a push whose process has died."""
    status = run.publishing()
    if status.active and not being_published(run):
        status = run.publishing()
        if status.active:
            error = "The process that was publishing ended. Publish again: what is already on the Hub is kept."
            status = run.set_publishing(state="failed", error=error, **_ENDED)
    return status


def being_published(run: RunFolder) -> bool:
    """Whether a process publishes the run: it holds the lock, or has just been started and will acquire it."""
    status = run.publishing()
    return _locked(run) or is_alive(status.pid, status.pid_started)


def _publish(run: RunFolder, repo_id: str, wanted: Wanted, token: str | None) -> dict[str, str | None]:
    api = hub_api(token)
    if "/" not in repo_id:
        repo_id = f"{api.whoami()['name']}/{repo_id}"
    validate_repo_id(repo_id)
    alone, private = wanted.what == "adapter", wanted.private
    if alone and wanted.space:
        raise HubError("The chat demo needs the merged model. Publish both, or leave the demo out.")
    files = adapter_files(run, token) if alone else model_files(run)
    commit = _publish_student(api, run, repo_id, private, files, lambda: _checked_card(api, run, repo_id, token, alone))
    done: dict[str, str | None] = {"repo_id": repo_id, "url": page_url(repo_id), "commit": commit}
    run.set_publishing(**done)  # kept even if a later step fails
    if wanted.what == "both":
        done["adapter_url"] = _publish_adapter(api, run, repo_id, private, token)
        run.set_publishing(adapter_url=done["adapter_url"])
    if wanted.rollouts:
        done["rollouts_url"] = _publish_rollouts(api, run, repo_id, private)
        run.set_publishing(rollouts_url=done["rollouts_url"])
    if wanted.space:
        run.set_publishing(stage="Creating the chat demo")
        done["space_url"] = _publish_space(api, run, repo_id, private)
    return done


def _publish_student(
    api: HfApi, run: RunFolder, repo_id: str, private: bool, files: dict[str, Path], card: Callable[[], str]
) -> str | None:
    """Push the student's `files`, its card and the settings of its run; returns the commit."""
    remote = _prepare_repo(api, repo_id, "model", private, marker=RUN_FILE)
    content: dict[str, bytes | Path] = {name: public_json(path) for name, path in files.items()}
    content["README.md"] = card().encode()
    content[RUN_FILE] = public_yaml(run.config()).encode()
    curve = loss_curve(run.metrics(), evaluations_of(run))
    if curve:
        content[CURVE_FILE] = curve
    stale = [name for name in remote if (is_published_file(name) or name == CURVE_FILE) and name not in content]
    return _push(api, repo_id, "model", content, stale, f"Publish the student of run {run.id}", run)


def _publish_adapter(api: HfApi, run: RunFolder, model_id: str, private: bool, token: str | None) -> str:
    """Push the adapter in addition to the merged model, always with a generated card: an edited one is about the
    model.
    """
    repo_id = f"{model_id}-adapter"

    def card() -> str:
        return model_card(run, repo_id, student_license(run.config(), token), adapter=True)

    _publish_student(api, run, repo_id, private, adapter_files(run, token), card)
    return page_url(repo_id)


def _checked_card(api: HfApi, run: RunFolder, repo_id: str, token: str | None, adapter: bool) -> str:
    """The card to push. One that a person edited is checked first, including its base model."""
    license = student_license(run.config(), token)
    text = card_of(run, repo_id, license, adapter)
    if edited_card(run) is None:
        return text
    data = check_card(text, license)
    if adapter and data.get("base_model_relation") != "adapter":
        raise HubError(
            "The edited card describes the merged model. Set `base_model_relation: adapter` and `library_name: peft` "
            "in it, or reset the card."
        )
    base = data.get("base_model")
    for name in [base] if isinstance(base, str) else base or []:
        if not api.repo_exists(name):
            raise HubError(f"The card names {name} as base_model, and there is no such model on the Hub. Correct it.")
    return text


# the Hub's information about the types of repository that are published here
RepoInfo = ModelInfo | DatasetInfo | SpaceInfo


def _prepare_repo(api: HfApi, repo_id: str, kind: str, private: bool, marker: str) -> list[str]:
    """Create the repository, or check that the existing one is ours to update; returns the files it holds.

    It is ours if it is empty except for what the Hub puts there, or holds `marker`, which every push of ours writes.
    """
    try:
        info = api.repo_info(repo_id, repo_type=kind, timeout=client.SEARCH_SECONDS)
    except RepositoryNotFoundError:
        sdk = "gradio" if kind == "space" else None
        api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk)
        return []
    remote = [sibling.rfilename for sibling in cast(RepoInfo, info).siblings or []]
    if foreign(remote, marker):
        raise HubError(
            f"{repo_id} exists on the Hub and was not made by SimCT Studio. Choose another name; nothing was changed."
        )
    if private and not info.private:
        api.update_repo_settings(repo_id, repo_type=kind, private=True)
    return remote


def foreign(remote: list[str], marker: str) -> bool:
    """Whether a repository with these files holds something that was not pushed from here."""
    return marker not in remote and bool(set(remote) - {".gitattributes", "README.md"})


def _push(
    api: HfApi,
    repo_id: str,
    kind: str,
    content: dict[str, bytes | Path],
    stale: list[str],
    message: str,
    run: RunFolder | None = None,
) -> str | None:
    """One commit with all of `content` and without `stale`; returns its sha. Unchanged files are not uploaded again.

    Large files are uploaded before the commit, one after another, with progress in the publishing record of `run`.
    """
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in content.items()]
    sizes = {each.path_in_repo: each.upload_info.size for each in additions}
    sent, total = 0, sum(sizes.values())
    for addition in sorted(additions, key=lambda each: sizes[each.path_in_repo]):
        name, size = addition.path_in_repo, sizes[addition.path_in_repo]
        if size < SENT_WITH_COMMIT:
            continue
        if run is not None:
            run.set_publishing(stage=f"Sending {name}", sent=sent, total=total)

        def on_progress(now: int, before: int = sent, size: int = size) -> None:
            if run is not None:
                run.set_publishing(sent=before + min(now, size))

        with watching(on_progress):
            api.preupload_lfs_files(repo_id, [addition], repo_type=kind, free_memory=False)
        sent += size
    if run is not None:
        run.set_publishing(stage="Writing the commit", sent=sent, total=total)
    operations: list[CommitOperationAdd | CommitOperationDelete] = [*additions]
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
    _push(api, repo_id, "dataset", content, [], f"Publish the rollouts of run {run.id}", run)
    return page_url(repo_id, "dataset")


def _publish_space(api: HfApi, run: RunFolder, model_id: str, private: bool) -> str:
    """Push the chat demo. It reads its settings from settings.json, so app.py is the same file for everyone."""
    if not all((SPACE_FOLDER / name).is_file() for name in SPACE_FILES):
        raise HubError("The demo Space's files (spaces/student) are not installed here. Publish from a clone instead.")
    repo_id = f"{model_id}-demo"
    _prepare_repo(api, repo_id, "space", private, marker="settings.json")
    content: dict[str, bytes | Path] = {name: SPACE_FOLDER / name for name in SPACE_FILES}
    card = (SPACE_FOLDER / "README.md").read_text(encoding="utf-8")
    content["README.md"] = card.replace("MODEL_ID", model_id).encode()
    config = run.config()
    shown = {
        "model": model_id,
        "student": shown_name(config.student.model),
        "teacher": " + ".join(shown_name(model.model) for model in config.teacher_models),
        "method": "a warm start on the teacher's answers" if config.kind == "warmup" else METHODS[config.method].title,
    }
    content["settings.json"] = json.dumps(shown, indent=1).encode()
    _push(api, repo_id, "space", content, [], f"Chat demo of {model_id}")
    return page_url(repo_id, "space")


def student_license(config: RunConfig, token: str | bool | None) -> str | None:
    """The license of the student's own repository; None where it is local, states none or cannot be read."""
    student = config.student.model
    if not hub_id(student):
        return "apache-2.0" if _is_demo(student) else None
    try:
        info = hub_api(token).model_info(student, revision=config.student.revision, timeout=client.SEARCH_SECONDS)
        license = info.card_data.get("license") if info.card_data else None
    except Exception:  # the card then says that no license is known
        return None
    return license if isinstance(license, str) else None


def _is_demo(student: str) -> bool:
    return expanded(student).resolve().is_relative_to(Path(__file__).parents[1] / "demo")


def _one_line(error: BaseException, repo_id: str) -> SimCTError:
    if isinstance(error, Exception):
        return hub_error(error, repo_id, writing=True)
    return HubError("Publishing was interrupted. Publish again: what is already on the Hub is kept.")


def fail(run: RunFolder, repo_id: str, error: str) -> None:
    """Record that publishing failed, and why."""
    with suppress(OSError):  # a full disk: the caller reports the error as well
        run.set_publishing(state="failed", repo_id=repo_id, error=error, **_ENDED)


@contextmanager
def _one_at_a_time(run: RunFolder) -> Iterator[None]:
    """Hold the run's publishing lock, which the system releases even when the process is killed."""
    with _lock_errors(run):
        handle = acquire_lock(run.path / PUBLISHING_LOCK)
    if handle is None:
        raise HubError(f"Run {run.id} is already being published. Wait until that has ended.")
    try:
        yield
    finally:
        os.close(handle)


def _locked(run: RunFolder) -> bool:
    with _lock_errors(run):
        return is_locked(run.path / PUBLISHING_LOCK)


@contextmanager
def _lock_errors(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot write in the run folder of {run.id}: {error.strerror}.") from error

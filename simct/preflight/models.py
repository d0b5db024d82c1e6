"""Whether both models can be read: access, file types, config.json, complete weights, and licenses."""

import os
import warnings

import torch
from huggingface_hub import repocard
from huggingface_hub.errors import OfflineModeIsEnabled
from transformers import AutoModelForCausalLM

from simct.config import local_path
from simct.config.teachers import named_teachers
from simct.errors import HubError, ModelError, SimCTError, brief
from simct.files import expanded
from simct.hub.licenses import NOT_ADVICE, license_concerns
from simct.hub.model_files import Adapter, check_model_files
from simct.hub.retry import passing
from simct.hub.search import check_access
from simct.models.loading import encoder_line, encodes
from simct.preflight.planned import STUDENT, NotRead, PlannedRun
from simct.preflight.records import WARNING, Check, from_error, ok, problem, warning
from simct.preflight.weights import missing_weights


def check_models(planned: PlannedRun) -> list[Check]:
    """Check all models: access, files, config, architecture and, from their headers, whether the weights are
    complete.
    """
    found = [check for side in planned.sides for check in _guarded(planned, side)]
    student = planned.config.student
    for side, teacher in named_teachers(planned.config):
        if teacher.model and (teacher.model, teacher.revision) == (student.model, student.revision):
            line = f"{planned.title(side)} and student are the same model, so there is little to learn."
            found.append(warning(line, "Choose a larger or better teacher.", planned.setting(side, "model")))
    return found


def _guarded(planned: PlannedRun, side: str) -> list[Check]:
    """Run a check of one side, so that its error does not hide the other side."""
    try:
        return _check_model(planned, side)
    except NotRead:
        return []
    except SimCTError as error:
        return [from_error(error, planned.setting(side, "model"))]


def _check_model(planned: PlannedRun, side: str) -> list[Check]:
    model, found = planned.model(side), []
    if model.scores:
        planned.stored_context(side)
        return [ok(f"{planned.title(side)} {model.model}: stored scores.")]
    if model.server:
        return check_teacher_server(planned, side)
    try:
        planned.hit(side)
        adapter = check_model_files(model.model, model.revision, planned.token)
        if adapter is not None and local_path(adapter.base) is None:
            check_access(adapter.base, planned.token)
    except HubError as error:
        # cached files still load
        if not _unreachable(error):
            raise
        found.append(from_error(error, state=WARNING))
        adapter = None
    config = planned.shape_config(side)
    name = f"{planned.title(side)} {model.model}"
    if side == "student" and getattr(config, "quantization_config", None) and not planned.config.lora.rank:
        line = f"{name}: its weights are quantized, and quantized weights cannot be trained."
        found.append(warning(line, "Choose the model it was made from, or set lora.rank.", "student.model"))
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, ImportError) as error:
        kind = getattr(config, "model_type", "?")
        reason = brief(error, 160).rstrip(".")
        line = f"{name} is of type {kind!r}, which does not load as a language model: {reason}."
        return [*found, problem(line, "Choose a causal language model.", planned.setting(side, "model"))]
    if encodes(empty):
        raise ModelError(encoder_line(model.model, empty))
    missing = missing_weights(empty, *_source(model.model, model.revision, adapter), planned.token)
    if missing:
        return [
            *found,
            problem(missing, "Download it again, or choose a complete one.", planned.setting(side, "model")),
        ]
    size = _billions(sum(parameter.numel() for parameter in empty.parameters()))
    kind = f"an adapter of {adapter.base}" if adapter else getattr(config, "model_type", "unknown")
    return [*found, ok(f"{name}: {kind}, {size} parameters, safetensors.")]


def check_teacher_server(planned: PlannedRun, side: str = "teacher") -> list[Check]:
    """A teacher's server: its model, its tokenizer, and how many log-probabilities it lists."""
    teacher = planned.model(side)
    try:
        found = planned.server(side)
    except SimCTError as error:
        return [from_error(error, planned.setting(side, "server"))]
    if found is None:
        return []
    if found.same_tokenizer is False:
        line = f"The server's tokens are not those of {teacher.model}."
        remedy = f"Name the model that the server has as {side}.model."
        return [problem(line, remedy, planned.setting(side, "model"))]
    return [ok(found.line())]


def _source(model: str, revision: str | None, adapter: Adapter | None) -> tuple[str, str | None]:
    return (adapter.base, adapter.base_revision) if adapter else (model, revision)


def _unreachable(error: HubError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OfflineModeIsEnabled) or (cause is not None and passing(cause))


def _billions(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.1f} billion"
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"


def check_licenses(planned: PlannedRun) -> list[Check]:
    """What the licenses of the models mean for publishing the student. A folder without a card says nothing."""
    licenses = {side: _License(_license(planned, side)) for side in planned.sides}
    concerns: dict[str, None] = {}
    for side in planned.teachers:
        roles = (("teacher", side), (STUDENT, STUDENT))
        # people know the license of their own folders
        silent = tuple(f"The {role}'s license is not stated" for role, each in roles if not planned.on_hub(each))
        name = f"{planned.title(side)}: " if planned.config.teachers else ""
        for line in license_concerns(licenses[side], licenses[STUDENT]):
            if not line.startswith(silent):
                concerns[f"{name}{line}"] = None
    if concerns:
        advice = f"Read both licenses before you publish the student. {NOT_ADVICE}"
        return [Check(WARNING, " ".join(concerns), advice, planned.setting(planned.teachers[0], "model"))]
    names = {side: title[0].lower() + title[1:] for side in planned.sides for title in [planned.title(side)]}
    stated = [f"{names[side]} {each.license}" for side, each in licenses.items() if each.license]
    return [ok(f"Licenses: {', '.join(stated)}.")] if stated else []


class _License:
    def __init__(self, name: str | None) -> None:
        self.license = name


def _license(planned: PlannedRun, side: str) -> str | None:
    hit = planned.hit(side)
    if hit is not None:
        return hit.license
    card = expanded(planned.model(side).model) / "README.md"
    try:
        stated = (repocard.metadata_load(card) or {}).get("license") if os.path.isfile(card) else None
    except Exception:  # a card that cannot be read states no license
        return None
    return stated if isinstance(stated, str) else None

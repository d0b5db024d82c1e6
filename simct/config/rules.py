"""Rules between several settings. Each raises ConfigError with the setting and its value."""

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from simct.config.sections import ModelConfig
from simct.config.teachers import method_of, named_teachers, teachers_of
from simct.errors import ConfigError, quoted
from simct.methods import METHODS, check_listed

if TYPE_CHECKING:
    from simct.config import RunConfig


ROWS = re.compile(r"(\d{1,12})(?:\s*-\s*(\d{1,12}))?")


def require(ok: bool, name: str, value: Any, allowed: str, fix: int | float | None = None) -> None:
    """Raise ConfigError unless `ok`. `fix` is a value that would be allowed, if one is known."""
    if not ok:
        error = ConfigError(f"{name} is {quoted(value)}; it must be {allowed}.")
        error.fix = fix
        raise error


def check_sizes(config: "RunConfig") -> None:
    rollout, training = config.rollout, config.training
    require(
        training.max_length > rollout.max_new_tokens,
        "training.max_length",
        training.max_length,
        f"greater than rollout.max_new_tokens ({rollout.max_new_tokens})",
        # a power of two that also leaves room for the prompt
        1 << (2 * rollout.max_new_tokens - 1).bit_length(),
    )
    require(
        training.batch_size % rollout.samples_per_prompt == 0,
        "training.batch_size",
        training.batch_size,
        f"a multiple of rollout.samples_per_prompt ({rollout.samples_per_prompt})",
        -(-training.batch_size // rollout.samples_per_prompt) * rollout.samples_per_prompt,
    )
    require(
        rollout.on_policy_fraction + rollout.dataset_fraction <= 1 + 1e-9,
        "rollout.dataset_fraction",
        rollout.dataset_fraction,
        f"at most what rollout.on_policy_fraction ({rollout.on_policy_fraction:g}) leaves of 1",
        round(1 - rollout.on_policy_fraction, 6),
    )
    require(
        not training.sft_weight or rollout.dataset_fraction > 0,
        "training.sft_weight",
        training.sft_weight,
        "0 unless rollout.dataset_fraction is set, because it applies to the data's completions",
        0,
    )
    own = sorted({method_of(config, each)[0] for each in teachers_of(config)})
    name = next((name for name in own if METHODS[name].on_policy), None)
    require(
        name is None or rollout.on_policy_fraction == 1 or config.kind != "distill",
        "rollout.on_policy_fraction",
        rollout.on_policy_fraction,
        f"1 with the method {name}, which learns only from what the student writes",
        1,
    )


def check_data(config: "RunConfig") -> None:
    data = config.data
    wrong = next((each for each in data.exclude_rows if not is_row_range(each)), None)
    require(wrong is None, "data.exclude_rows", wrong, "row numbers from 1 on and ranges, such as 7, 20-29")
    require(
        data.min_tokens is None or data.max_tokens is None or data.min_tokens <= data.max_tokens,
        "data.min_tokens",
        data.min_tokens,
        f"at most data.max_tokens ({data.max_tokens})",
        data.max_tokens,
    )


def is_row_range(text: str) -> bool:
    """Whether a text is a row number, counted from 1, or a range such as 20-29."""
    found = ROWS.fullmatch(text.strip())
    return found is not None and 1 <= int(found[1]) <= int(found[2] or found[1])


def check_models(config: "RunConfig") -> None:
    student = config.student
    for where, model in (*named_teachers(config), ("student", student)):
        require(bool(model.model), f"{where}.model", model.model, "a Hub id or a local folder")
    require(
        student.quantization is None or config.lora.rank is not None,
        "student.quantization",
        student.quantization,
        "empty unless lora.rank is given: quantized weights cannot be trained themselves",
    )
    require(
        student.system is None,
        "student.system",
        student.system,
        "empty, because only the teacher has its own system text; data.system is for both models",
    )
    require(not student.offload, "student.offload", True, "false, because the student is trained on its device")
    require(
        student.device != "auto", "student.device", "auto", "a device, because only the teacher is spread over GPUs"
    )
    require(student.server is None, "student.server", student.server, "empty, because the student is trained here")
    require(not student.sharded, "student.sharded", True, "false; launch with training.parallel fsdp2 instead")
    require(student.scores is None, "student.scores", student.scores, "empty, because the student is trained")
    for where, teacher in named_teachers(config):
        _check_place(config, teacher, where)


def _check_place(config: "RunConfig", teacher: ModelConfig, where: str) -> None:
    """Check where a teacher's weights are, because some settings exclude each other."""
    writes = bool(config.rollout.teacher_fraction)
    require(
        not teacher.offload
        or (not (teacher.quantization or teacher.device or teacher.sharded or writes) and config.kind == "distill"),
        f"{where}.offload",
        True,
        "false for a teacher that is quantized, sharded, on its own device, or writes answers",
    )
    require(
        not teacher.sharded or (not writes and teacher.quantization is None),
        f"{where}.sharded",
        True,
        "false for a quantized teacher, or for one that writes itself (rollout.on_policy_fraction and "
        "rollout.dataset_fraction together below 1)",
    )


def check_server(config: "RunConfig") -> None:
    """Check the rules for teachers whose weights are not here."""
    for (where, teacher), resolved in zip(named_teachers(config), teachers_of(config), strict=True):
        _check_scores(config, teacher, where)
        if teacher.elsewhere:
            _check_elsewhere(config, teacher, where, *method_of(config, resolved))


def _check_scores(config: "RunConfig", teacher: ModelConfig, where: str) -> None:
    require(
        not (teacher.scores and teacher.server),
        f"{where}.scores",
        teacher.scores,
        f"empty with {where}.server, or the other way around",
    )
    require(
        not teacher.scores or (config.rollout.dataset_fraction == 1 and config.kind == "distill"),
        f"{where}.scores",
        teacher.scores,
        "empty unless rollout.on_policy_fraction is 0 and rollout.dataset_fraction is 1, because only the data's "
        "completions have scores",
    )


def _check_elsewhere(
    config: "RunConfig", teacher: ModelConfig, where: str, method: str, options: dict[str, Any]
) -> None:
    source = f"{where}.scores" if teacher.scores else f"{where}.server"
    require(
        teacher.server is None or is_server_address(teacher.server),
        f"{where}.server",
        teacher.server,
        "an address such as https://example.com or http://127.0.0.1:8000, without a name, password or query",
    )
    for name in ("quantization", "device", "sharded", "offload"):
        value = getattr(teacher, name)
        require(not value, f"{where}.{name}", value, f"empty with {source}, because no weights are loaded here")
    check_listed(method)
    only = {"temperature": 1.0, "scoring": "log_probs"} if config.kind == "distill" else {}
    for name, allowed in only.items():
        value = options.get(name, allowed)
        require(value == allowed, f"method_options.{name}", value, f"{allowed} with {source}")


def check_webhook(config: "RunConfig") -> None:
    address = config.notify.webhook
    require(
        address is None or is_server_address(address.partition("?")[0]),
        "notify.webhook",
        address,
        "an address such as https://hooks.example.com/abc",
    )


def is_server_address(text: str) -> bool:
    """Whether `text` is a plain http or https address without a secret in it."""
    try:
        address = urlsplit(text)
        port_is_right = address.port is None or address.port > 0
    except ValueError:
        return False
    plain = not (address.username or address.password or address.query or address.fragment)
    return address.scheme in ("http", "https") and bool(address.hostname) and plain and port_is_right


def check_engine(config: "RunConfig") -> None:
    rollout, url = config.rollout, config.rollout.vllm_url
    require(
        url is None or (rollout.engine == "vllm" and url.startswith(("http://", "https://"))),
        "rollout.vllm_url",
        url,
        "empty, or the http address of a server when rollout.engine is vllm",
    )
    require(
        rollout.engine == "vllm" or not rollout.ahead,
        "rollout.ahead",
        True,
        "false unless rollout.engine is vllm, because otherwise the weights that are trained also write",
    )
    require(
        rollout.engine != "vllm" or config.student.quantization is None,
        "student.quantization",
        config.student.quantization,
        "empty with rollout.engine vllm, which needs plain weights",
    )


def check_evaluation(config: "RunConfig") -> None:
    evaluation = config.evaluation
    require(
        evaluation.best_by in ("distance", "loss", *evaluation.tracked_tasks),
        "evaluation.best_by",
        evaluation.best_by,
        "distance, loss, or one of evaluation.tracked_tasks",
    )
    require(
        evaluation.patience is None or evaluation.every != 0,
        "evaluation.patience",
        evaluation.patience,
        "empty if evaluation.every is 0",
    )

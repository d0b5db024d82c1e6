"""Rules between settings, which a single value cannot break. Each raises ConfigError with the setting and its value."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from simct.errors import ConfigError, quoted
from simct.methods import check_listed

if TYPE_CHECKING:
    from simct.config import RunConfig


def require(ok: bool, name: str, value: Any, allowed: str, fix: int | float | None = None) -> None:
    """Raise ConfigError unless `ok`. `fix` is a value that would do, where one is known."""
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
        # the power of two that leaves as much room for the prompt
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
        "0 unless rollout.dataset_fraction is given, because it is about the data's completions",
        0,
    )


def check_models(config: "RunConfig") -> None:
    teacher, student = config.teacher, config.student
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
        "empty: only the teacher has a system text of its own; data.system is for both models",
    )
    require(not student.offload, "student.offload", True, "false: the student is trained on its device")
    require(student.device != "auto", "student.device", "auto", "a device: only the teacher is spread over GPUs")
    require(
        not teacher.offload
        or (
            not (teacher.quantization or teacher.device or teacher.sharded or config.rollout.teacher_fraction)
            and config.kind == "distill"
        ),
        "teacher.offload",
        True,
        "false for a teacher that is quantized, sharded, on a device of its own, or writes itself",
    )
    require(student.server is None, "student.server", student.server, "empty: the student is trained here")
    require(not student.sharded, "student.sharded", True, "false: launch with training.parallel fsdp2 instead")
    require(
        not teacher.sharded or (not config.rollout.teacher_fraction and teacher.quantization is None),
        "teacher.sharded",
        True,
        "false for a quantized teacher, or for one that writes itself (rollout.on_policy_fraction and "
        "rollout.dataset_fraction together below 1)",
    )


def check_server(config: "RunConfig") -> None:
    teacher, rollout = config.teacher, config.rollout
    require(config.student.scores is None, "student.scores", config.student.scores, "empty: the student is trained")
    require(
        not (teacher.scores and teacher.server),
        "teacher.scores",
        teacher.scores,
        "empty with teacher.server, or the other way round",
    )
    require(
        not teacher.scores or (rollout.dataset_fraction == 1 and config.kind == "distill"),
        "teacher.scores",
        teacher.scores,
        "empty unless rollout.on_policy_fraction is 0 and rollout.dataset_fraction is 1: only the data's completions "
        "have scores",
    )
    if teacher.server is None and teacher.scores is None:
        return
    where = "teacher.scores" if teacher.scores else "teacher.server"
    require(
        teacher.server is None or is_server_address(teacher.server),
        "teacher.server",
        teacher.server,
        "an address such as https://example.com or http://127.0.0.1:8000, without a name, password or query",
    )
    for name in ("quantization", "device", "sharded", "offload"):
        value = getattr(teacher, name)
        require(not value, f"teacher.{name}", value, f"empty with {where}, because no weights are loaded here")
    check_listed(config.method)
    options = {"temperature": 1.0, "scoring": "log_probs"} if config.kind == "distill" else {}
    for name, only in options.items():
        value = config.method_options.get(name, only)
        require(value == only, f"method_options.{name}", value, f"{only} with {where}")


def check_webhook(config: "RunConfig") -> None:
    address = config.notify.webhook
    require(
        address is None or is_server_address(address.partition("?")[0]),
        "notify.webhook",
        address,
        "an address such as https://hooks.example.com/abc",
    )


def is_server_address(text: str) -> bool:
    """Whether `text` is a plain http or https address, with no secret in it."""
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
        "false unless rollout.engine is vllm: elsewhere the weights that are trained also write",
    )
    require(
        rollout.engine != "vllm" or config.student.quantization is None,
        "student.quantization",
        config.student.quantization,
        "empty with rollout.engine vllm, which is given plain weights",
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
        "empty where evaluation.every is 0",
    )

"""The estimate of a run before it starts: memory on each kind of machine, time, and cost.

Time is computed from the speed of the machine. A decoding step reads all weights and the cache once, and starts a
layer's kernels one by one, which takes most of the time for small models. A training pass is bound by multiplications:
2 for each weight and token forward, twice that backward, and the forward part once more if activations are recomputed.
Speeds are the makers' peak figures times a usual share. Expect the right order of magnitude, not an exact time. Memory,
which decides whether a run fits, is counted much more closely (memory.py).
"""

import math
from collections.abc import Sequence

from transformers import PretrainedConfig

from simct.config import RunConfig
from simct.config.evaluation import LONGEST_ANSWER, USUAL_EVALUATIONS
from simct.config.precision import precision_text
from simct.config.sections import ModelConfig
from simct.data.held_out import held_out_count
from simct.errors import ConfigError
from simct.estimate.machines import BANDWIDTH_SHARE, COMPUTE_SHARE, GIB, MACHINES, Machine, find_machine
from simct.estimate.memory import SIZES, Shape, estimate_memory, run_shapes, shape_configs
from simct.estimate.records import Estimate, MachineEstimate, MemoryEstimate, ServedUse, StudentSize, TeacherSize
from simct.models.precision import resolved

# seconds for a layer of one decoding step, however small: on a CPU (measured) and on GPUs
LAYER_SECONDS = {"cpu": 0.0015, "cuda": 0.0008}
# bytes per second from CPU memory to a GPU; an offloaded teacher transfers its weights for each token that it writes
TRANSFER = 20e9
# seconds for processes, imports and loading before the first step; scores before and after training are not counted
STARTING_SECONDS = 15


def step_seconds(
    run: RunConfig, teachers: Sequence[Shape], student: Shape, machine: Machine, prompt_tokens: int, devices: int = 1
) -> dict[str, float]:
    """Seconds of one optimizer step, as {"generating", "training"}, if all completions have full length.

    Each of several teachers grades every completion or, if a column chooses the teacher, an equal share of them.
    """
    new_tokens, batch = run.rollout.max_new_tokens, max(1, run.training.batch_size // devices)
    flops = machine.teraflops * 1e12 * COMPUTE_SHARE
    tokens = batch * min(prompt_tokens + new_tokens, run.training.max_length)
    passes = 2 * student.parameters + 2 * student.parameters + 2 * student.trainable
    if run.training.gradient_checkpointing:
        passes += 2 * student.parameters
    # a teacher on a server works at the same time, and its speed is not known
    here = zip(run.teacher_models, teachers, strict=True)
    graded = 2 * sum(shape.parameters for model, shape in here if not model.elsewhere) * _graded_share(run)
    # under mixed precision it writes with weights in bfloat16
    written = "bfloat16" if run.training.mixed_precision == "bf16" else run.student.dtype
    return {
        "generating": generating_seconds(student, written, machine, batch, prompt_tokens, new_tokens),
        "training": tokens * (passes + graded) / flops,
    }


def _graded_share(run: RunConfig) -> float:
    """The share of all completions that one teacher grades."""
    return 1 / len(run.teachers) if run.data.teacher_column else 1.0


def generating_seconds(
    model: Shape, dtype: str, machine: Machine, batch: int, prompt_tokens: int, new_tokens: int
) -> float:
    """Seconds in which a model writes `batch` completions at once, all of full length."""
    flops, bandwidth = machine.teraflops * 1e12 * COMPUTE_SHARE, machine.bandwidth * 1e9 * BANDWIDTH_SHARE
    cache = batch * model.key_value_bytes * (prompt_tokens + new_tokens / 2)
    decode = max((model.parameters * SIZES[dtype] + cache) / bandwidth, 2 * model.parameters * batch / flops)
    launching = model.layers * LAYER_SECONDS["cpu" if machine.name == "cpu" else "cuda"]
    return 2 * model.parameters * batch * prompt_tokens / flops + new_tokens * (decode + launching)


def evaluation_seconds(
    run: RunConfig,
    teachers: Sequence[Shape],
    student: Shape,
    machine: Machine,
    prompt_tokens: int,
    steps: int,
    training_seconds: float,
    devices: int = 1,
) -> float:
    """Seconds of all evaluations during a run: with full-length answers, within their share of the time, without tasks.

    The first and the last are always made, and the teacher answers once.
    """
    evaluation, prompts = run.evaluation, math.ceil(run.data.held_out / devices)
    if evaluation.every == 0 or not prompts:
        return 0.0
    new_tokens = min(run.rollout.max_new_tokens, LONGEST_ANSWER)
    flops = machine.teraflops * 1e12 * COMPUTE_SHARE
    tokens = prompts * (prompt_tokens + new_tokens)
    measured = [(model, shape) for model, shape in zip(run.teacher_models, teachers, strict=True) if not model.scores]
    if not measured:
        return 0.0
    share = _graded_share(run)
    readers = share * sum(2 * student.parameters + (0 if m.server else shape.parameters) for m, shape in measured)
    writing = generating_seconds(student, run.student.dtype, machine, prompts, prompt_tokens, new_tokens)
    # the student reads its own answers and the teacher's, the teacher reads the student's
    one = writing + tokens * 2 * readers / flops
    count = evaluation_count(run, steps)
    allowed = evaluation.time_share
    along = min(count * one, max(2 * one, training_seconds * allowed / (1 - allowed)))
    asked = math.ceil(prompts * share)
    return along + sum(_answering(run, *each, machine, asked, prompt_tokens) for each in measured)


def _answering(
    run: RunConfig, model: ModelConfig, shape: Shape, machine: Machine, prompts: int, prompt_tokens: int
) -> float:
    """Seconds in which a teacher answers the held-out prompts once; unknown for a server."""
    if model.server:
        return 0.0
    new_tokens = min(run.rollout.max_new_tokens, LONGEST_ANSWER)
    answering = generating_seconds(shape, model.dtype, machine, prompts, prompt_tokens, new_tokens)
    if model.offload and machine.name != "cpu":
        batches = math.ceil(prompts / run.evaluation.batch_size)
        answering += batches * new_tokens * shape.parameters * SIZES[model.dtype] / TRANSFER
    return answering


def evaluation_count(run: RunConfig, steps: int) -> int:
    """The number of evaluations in a run of `steps`, including the first and the last, if time allows all of them."""
    every = run.evaluation.every
    if every == 0 or not run.data.held_out:
        return 0
    return 2 + (steps - 1) // (every or max(1, math.ceil(steps / USUAL_EVALUATIONS)))


def served_use(run: RunConfig, steps: int | None, prompt_tokens: int) -> ServedUse | None:
    """The run's requests to its teachers' servers, one per text; None if no teacher is on a server.

    Counted as ServedTeacher.usage counts: the tokens of each text that is read, and of each that is written with its
    prompt.
    """
    served = [model for model in run.teacher_models if model.server]
    if not served:
        return None
    if steps is None or run.kind == "warmup":
        return ServedUse(None, None, None)
    used = [_use_of_one(run, steps, prompt_tokens) for _ in served]
    prices = [model.price_per_million_tokens for model in served]
    known = [tokens * price / 1e6 for (_, tokens), price in zip(used, prices, strict=True) if price is not None]
    requests, tokens = (sum(each) for each in zip(*used, strict=True))
    return ServedUse(requests, tokens, sum(known) if len(known) == len(used) else None)


def _use_of_one(run: RunConfig, steps: int, prompt_tokens: int) -> tuple[int, int]:
    """(requests, tokens) of one teacher on a server."""
    rollout, share = run.rollout, _graded_share(run)
    length = min(prompt_tokens + rollout.max_new_tokens, run.training.max_length)
    # of several teachers, one writes each completion
    written = round(run.training.batch_size * rollout.teacher_fraction / max(1, len(run.teachers)))
    requests = steps * (math.ceil(run.training.batch_size * share) + written)
    tokens = requests * length
    count = evaluation_count(run, steps)
    if count:
        # the student's answers of each evaluation, and the teacher's answers, which are written once and read once
        texts = math.ceil(run.data.held_out * share) * (count + 2)
        requests += texts
        tokens += texts * (prompt_tokens + min(rollout.max_new_tokens, LONGEST_ANSWER))
    return requests, tokens


def estimate_run(
    run: RunConfig,
    hardware: str | None = None,
    devices: int = 1,
    prompt_tokens: int = 256,
    n_prompts: int | None = None,
    prices: dict[str, float] | None = None,
    token: str | bool | None = None,
    configs: Sequence[PretrainedConfig] | None = None,
) -> Estimate:
    """Memory, time and cost of `run` on `hardware`, or on every machine known.

    `n_prompts` is needed for runs given in epochs whose data is not on this machine; `prices` are US dollars per hour
    by machine; `configs` are the teachers' and then the student's, if they are already loaded. Raises ConfigError,
    ModelError or HubError (one line).
    """
    if devices < 1:
        raise ConfigError(f"--devices is {devices}; it must be 1 or more.")
    machines = [find_machine(hardware)] if hardware else list(MACHINES)
    configs = configs or shape_configs(run, token)
    steps = steps_of(run, n_prompts)
    memory: dict[tuple[str, str], MemoryEstimate] = {}
    rows, described = [], run
    for machine in machines:
        run = resolved(described, configs, machine.kind, machine.bfloat16)
        teachers, student = run_shapes(run, configs)
        kind = machine.kind, precision_text(run)
        needed = memory.get(kind) or estimate_memory(run, prompt_tokens, machine.kind, devices, token, configs)
        memory[kind] = needed
        seconds = step_seconds(run, teachers, student, machine, prompt_tokens, devices)
        training = (steps or 0) * sum(seconds.values())
        evaluating = evaluation_seconds(run, teachers, student, machine, prompt_tokens, steps or 0, training, devices)
        hours = None if steps is None else (STARTING_SECONDS + training + evaluating) / 3600
        price = (prices or {}).get(machine.name, machine.price)
        row = MachineEstimate(
            machine.name,
            devices,
            machine.memory * GIB,
            fits=needed.peak <= machine.memory * GIB * 0.97,
            seconds_per_step=seconds,
            evaluating=evaluating,
            precision=precision_text(run),
            hours=hours,
            price=price,
            cost=None if hours is None or price is None else hours * price * devices,
        )
        rows.append(row)
    # the memory is for the last machine, which uses the same formats as most
    return Estimate(
        teacher=TeacherSize(" + ".join(each.name for each in teachers), sum(each.parameters for each in teachers)),
        teachers=[TeacherSize(each.name, each.parameters) for each in teachers] if run.teachers else None,
        student=StudentSize(student.name, student.parameters, student.trainable),
        steps=steps,
        prompt_tokens=prompt_tokens,
        peak=needed.peak,
        parts=needed.parts,
        phases=needed.phases,
        hardware=rows,
        served=served_use(run, steps, prompt_tokens),
    )


def total_steps(run: RunConfig, n_prompts: int) -> int:
    """Optimizer steps of a run: as configured, or as many as its epochs over `n_prompts` prompts take."""
    if run.training.epochs is None:
        return run.training.steps
    rollouts = run.training.epochs * n_prompts * run.rollout.samples_per_prompt
    return max(1, math.ceil(rollouts / run.training.batch_size))


def steps_of(run: RunConfig, n_prompts: int | None) -> int | None:
    """As total_steps, for `n_prompts` before some are held out; None if the steps depend on unknown data."""
    if run.training.epochs is not None and n_prompts is None:
        return None
    known = n_prompts or 0
    return total_steps(run, known - held_out_count(run.data, known))

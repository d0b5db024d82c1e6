"""What a run will take before it starts: memory on each kind of machine, time, and cost.

Time is arithmetic over the speed of the machine. A decoding step reads all weights and the cache once, and starts a
layer's kernels one by one, which is what takes the time in eager decoding of small models; a training pass is bound by
multiplications: 2 for each weight and token forward, twice that backward, as much again as forward when activations are
recomputed. Speeds are peak figures of the makers times a usual share. Expect the right order, not the minute; memory
is the part that decides whether a run fits, and is counted much more closely (memory.py).
"""

import math

from transformers import PretrainedConfig

from simct.config import RunConfig
from simct.config.evaluation import LONGEST_ANSWER, USUAL_EVALUATIONS
from simct.data.held_out import held_out_count
from simct.errors import ConfigError
from simct.estimate.machines import BANDWIDTH_SHARE, COMPUTE_SHARE, GIB, MACHINES, Machine, find_machine
from simct.estimate.memory import SIZES, MemoryEstimate, Shape, estimate_memory, load_shape_config, shape_of
from simct.estimate.records import Estimate, MachineEstimate, ServedUse, StudentSize, TeacherSize

# a layer of one decoding step, however small: on a CPU (measured) and on GPUs
LAYER_SECONDS = {"cpu": 0.0015, "cuda": 0.0008}
# bytes a second from the CPU's memory to a GPU, which an offloaded teacher takes for each token that it writes
TRANSFER = 20e9
# processes, imports and loading before the first step; the scores before and after are not counted
STARTING_SECONDS = 15


def step_seconds(
    run: RunConfig, teacher: Shape, student: Shape, machine: Machine, prompt_tokens: int, devices: int = 1
) -> dict[str, float]:
    """Seconds of one optimizer step: {"generating", "training"}, were all completions of full length."""
    new_tokens, batch = run.rollout.max_new_tokens, max(1, run.training.batch_size // devices)
    flops = machine.teraflops * 1e12 * COMPUTE_SHARE
    tokens = batch * min(prompt_tokens + new_tokens, run.training.max_length)
    passes = 2 * student.parameters + 2 * student.parameters + 2 * student.trainable
    if run.training.gradient_checkpointing:
        passes += 2 * student.parameters
    return {
        "generating": generating_seconds(student, run.student.dtype, machine, batch, prompt_tokens, new_tokens),
        # a teacher on a server works at the same time, and how fast is not known
        "training": tokens * (passes + (0 if run.teacher.elsewhere else 2 * teacher.parameters)) / flops,
    }


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
    teacher: Shape,
    student: Shape,
    machine: Machine,
    prompt_tokens: int,
    steps: int,
    training_seconds: float,
    devices: int = 1,
) -> float:
    """Seconds of all evaluations along a run: of full-length answers, within their share of the time; without tasks.

    The first and the last are always made, and the teacher answers once.
    """
    evaluation, prompts = run.evaluation, math.ceil(run.data.held_out / devices)
    if evaluation.every == 0 or not prompts:
        return 0.0
    new_tokens = min(run.rollout.max_new_tokens, LONGEST_ANSWER)
    flops = machine.teraflops * 1e12 * COMPUTE_SHARE
    tokens = prompts * (prompt_tokens + new_tokens)
    reader = 0 if run.teacher.server else teacher.parameters
    writing = generating_seconds(student, run.student.dtype, machine, prompts, prompt_tokens, new_tokens)
    # the student reads its own answers and the teacher's, the teacher reads the student's
    one = writing + tokens * 2 * (2 * student.parameters + reader) / flops
    count = evaluation_count(run, steps)
    share = evaluation.time_share
    along = min(count * one, max(2 * one, training_seconds * share / (1 - share)))
    if run.teacher.server:
        return along
    answering = generating_seconds(teacher, run.teacher.dtype, machine, prompts, prompt_tokens, new_tokens)
    if run.teacher.offload and machine.name != "cpu":
        batches = math.ceil(prompts / evaluation.batch_size)
        answering += batches * new_tokens * teacher.parameters * SIZES[run.teacher.dtype] / TRANSFER
    return along + answering


def evaluation_count(run: RunConfig, steps: int) -> int:
    """Evaluations along a run of `steps`, the first and the last among them, were all of them affordable."""
    every = run.evaluation.every
    if every == 0 or not run.data.held_out:
        return 0
    return 2 + (steps - 1) // (every or max(1, math.ceil(steps / USUAL_EVALUATIONS)))


def served_use(run: RunConfig, steps: int | None, prompt_tokens: int) -> ServedUse | None:
    """What the run asks of the teacher's server, a text a request; None for a teacher that is not on one.

    Counted as ServedTeacher.usage counts: the tokens of each text that is read, and of each that is written with its
    prompt.
    """
    teacher, rollout = run.teacher, run.rollout
    if not teacher.server:
        return None
    if steps is None or run.kind == "warmup":
        return ServedUse(None, None, None)
    length = min(prompt_tokens + rollout.max_new_tokens, run.training.max_length)
    written = round(run.training.batch_size * rollout.teacher_fraction)
    requests = steps * (run.training.batch_size + written)
    tokens = requests * length
    count = evaluation_count(run, steps)
    if count:
        # what the student writes each time, and what the teacher writes once and reads once
        texts = run.data.held_out * (count + 2)
        requests += texts
        tokens += texts * (prompt_tokens + min(rollout.max_new_tokens, LONGEST_ANSWER))
    price = teacher.price_per_million_tokens
    return ServedUse(requests, tokens, None if price is None else tokens * price / 1e6)


def estimate_run(
    run: RunConfig,
    hardware: str | None = None,
    devices: int = 1,
    prompt_tokens: int = 256,
    n_prompts: int | None = None,
    prices: dict[str, float] | None = None,
    token: str | bool | None = None,
    configs: tuple[PretrainedConfig, PretrainedConfig] | None = None,
) -> Estimate:
    """Memory, time and cost of `run` on `hardware`, or on every machine known.

    `n_prompts` is needed for runs given in epochs whose data is not on this machine; `prices` are US dollars an hour by
    machine; `configs` the teacher's and the student's, where they are loaded already. Raises ConfigError, ModelError or
    HubError (one line).
    """
    if devices < 1:
        raise ConfigError(f"--devices is {devices}; it must be 1 or more.")
    machines = [find_machine(hardware)] if hardware else list(MACHINES)
    configs = configs or (load_shape_config(run.teacher, token), load_shape_config(run.student, token))
    teacher, student = shape_of(configs[0], run.teacher), shape_of(configs[1], run.student, run)
    steps = steps_of(run, n_prompts)
    memory: dict[str, MemoryEstimate] = {}
    rows = []
    for machine in machines:
        kind = "cpu" if machine.name == "cpu" else "cuda"
        if kind not in memory:
            memory[kind] = estimate_memory(run, prompt_tokens, kind, devices, token, configs)
        seconds = step_seconds(run, teacher, student, machine, prompt_tokens, devices)
        training = (steps or 0) * sum(seconds.values())
        evaluating = evaluation_seconds(
            run, teacher, student, machine, prompt_tokens, steps or 0, training, devices
        )  # fmt: skip
        hours = None if steps is None else (STARTING_SECONDS + training + evaluating) / 3600
        price = (prices or {}).get(machine.name, machine.price)
        rows.append(
            MachineEstimate(
                name=machine.name,
                devices=devices,
                memory=machine.memory * GIB,
                fits=memory[kind].peak <= machine.memory * GIB * 0.97,
                seconds_per_step=seconds,
                evaluating=evaluating,
                hours=hours,
                price=price,
                cost=None if hours is None or price is None else hours * price * devices,
            )
        )
    needed = next(iter(memory.values()))
    return Estimate(
        teacher=TeacherSize(teacher.name, teacher.parameters),
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
    """The same of `n_prompts` before some are held out; None where the steps depend on data that is not known."""
    if run.training.epochs is not None and n_prompts is None:
        return None
    known = n_prompts or 0
    return total_steps(run, known - held_out_count(run.data, known))

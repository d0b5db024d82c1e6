"""Run folders of tests."""

import math
import time
from pathlib import Path
from typing import Any

from simct import demo
from simct.config import RunConfig
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses


def runs_in(runs_dir: str | Path) -> list[RunFolder]:
    """Every run under `runs_dir`, newest first."""
    return [run for run, _ in list_statuses(runs_dir)]


def made_up_run(runs_dir: str | Path, steps: int = 60, method: str = "simct", **status: Any) -> RunFolder:
    """A run of the embedded pair that never ran, with plausible metrics, evaluations, scores and a log."""
    config = RunConfig()
    config.teacher.model, config.student.model = str(demo.TEACHER), str(demo.STUDENT)
    config.data.prompts, config.method = str(demo.PROMPTS), method
    config.training.steps = steps
    run = RunFolder.create(runs_dir, config)
    for step in range(1, steps + 1):
        run.append("metrics.jsonl", step_record(step, steps))
        run.append("rollouts.jsonl", {"step": step, "prompt": "Say it plainly.", "completion": "Done.", "ended": True})
    for step in (0, steps // 2, steps):
        run.append("evaluations.jsonl", evaluation_record(step, steps))
    run.append("teacher.jsonl", {"prompt": "Say it plainly.", "reference": "42", "greedy": {"text": "the answer"}})
    run.save_evaluation({"before": {"demo": {"score": 0.25, "n": 8}}, "after": {"demo": {"score": 0.75, "n": 8}}})
    run.log_path.write_text("".join(f"step {step}/{steps}  loss {1 / step:.4f}\n" for step in range(1, steps + 1)))
    fields = {"state": "finished", "step": steps, "message": "Finished", "started_at": time.time() - 120}
    run.set_status(**fields | {"distance": {"before": 0.9, "now": 0.4, "step": steps, "best": 0.4, "best_step": steps}})
    if status:
        run.set_status(**status)
    return run


def step_record(step: int, steps: int = 60) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    falling, wave = math.exp(-2 * step / steps), math.sin(step * 1.7)
    return {
        "step": step, "loss": 0.3 + 1.4 * falling + 0.08 * wave, "kl_shared": 0.2 + falling, "rows": 200,
        "kl_recovered": 0.4 + 1.5 * falling + 0.1 * wave, "coverage_strict": 0.9, "coverage_recovered": 0.07,
        "eos_rate": 0.9 - 0.1 * falling, "canonical_rate": 0.95, "response_length": 24 + 3 * wave,
        "grad_norm": 1 + falling, "repetition_rate": 0.0, "excluded": {}, "tokens": 380, "seconds": 0.5,
        "learning_rate": 1e-4, "memory": 2 << 30,
    }  # fmt: skip


def evaluation_record(step: int, steps: int = 60) -> dict[str, Any]:
    """A line of evaluations.jsonl."""
    mean = 0.4 + 0.5 * math.exp(-3 * step / steps)
    bits = {str(index): mean + 0.05 * (index % 5 - 2) for index in range(30)}
    distance = {"bits": bits, "bytes": 900, "excluded": {}}
    return {
        "step": step,
        "distance": {"student_to_teacher": distance, "teacher_to_student": distance},
        "tasks": {"demo": {"score": 0.75 - 0.5 * math.exp(-3 * step / steps), "n": 10}},
        "answers": [{"text": f"the answer {step}", "ended": True, "tokens": 5}],
        "seconds": 1.5, "prompts": 30, "every": steps // 2,
    }  # fmt: skip

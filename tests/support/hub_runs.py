"""Run folders as the trainer leaves them, made by hand for the tests of cards and publishing."""

import json
import struct
from pathlib import Path

from simct.config import config_from_dict
from simct.runs.folder import RunFolder


def small_weights(value: int = 0) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([value]) * 16


def finished_run(folder: Path, *, value: int = 0, **settings) -> RunFolder:
    """A finished run whose model/ holds small files that look like a model; `settings` override the configuration."""
    config = config_from_dict(
        {
            "teacher": {"model": "acme/teacher", "revision": "0123456789abcdef0123456789abcdef01234567"},
            "student": {"model": "acme/student"},
            "data": {"prompts": "acme/prompts"},
            "training": {"steps": 3},
            "output": str(folder),
            **settings,
        }
    )
    run = RunFolder.create(folder.parent, config)
    run.model_dir.mkdir()
    local = {"model_type": "llama", "_name_or_path": str(folder / "checkpoints"), "architectures": ["LlamaForCausalLM"]}
    (run.model_dir / "config.json").write_text(json.dumps(local))
    (run.model_dir / "generation_config.json").write_text('{"eos_token_id": 2}')
    (run.model_dir / "tokenizer_config.json").write_text(
        json.dumps({"name_or_path": str(folder), "chat_template": "x"})
    )
    (run.model_dir / "model.safetensors").write_bytes(small_weights(value))
    (run.model_dir / "optimizer.pt").write_bytes(b"pickle")
    (run.model_dir / "modeling_evil.py").write_text("print('no')")
    for step in (1, 2, 3):
        run.append("metrics.jsonl", {"step": step, "loss": 1 / step, "excluded": {"invalid UTF-8": 1}})
    run.append("rollouts.jsonl", {"step": 1, "prompt": "2 + 2", "completion": "5", "ended": True})
    sample = {"prompt": "2 + 2 =", "answer": "4"}
    run.save_evaluation(
        {
            "before": {"demo": {"score": 0.4, "n": 200, "samples": [{**sample, "completion": "5", "correct": False}]}},
            "after": {"demo": {"score": 0.75, "n": 200, "samples": [{**sample, "completion": "4", "correct": True}]}},
            "teacher": {"demo": {"score": 0.985, "n": 200, "samples": []}},
        }
    )
    run.save_inspection(
        {
            "shared_tokens": 1234,
            "jaccard": 0.25,
            "student_strict_coverage": 0.9,
            "student_recovered_coverage": 0.1,
            "top_disagreements": [
                {"text": " don't|stop", "bytes": "", "student_tokens": [], "teacher_tokens": [], "count": 7}
            ],
        }
    )
    run.set_status(state="finished", step=3)
    return run

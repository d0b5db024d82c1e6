"""Run by test_zero_gpu.py as the process of a Space with ZeroGPU: measures the embedded pair and prints JSON.

The package `spaces` is the real one, but for its part that makes PyTorch believe in a GPU and starts it: that needs a
build of PyTorch for CUDA, and a GPU.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch

from app.server.studio import Studio
from simct import demo

_really_available = torch.cuda.is_available
sys.modules["spaces.zero.torch"] = SimpleNamespace(
    patch=lambda: setattr(torch.cuda, "is_available", lambda: True),
    unpatch=lambda: setattr(torch.cuda, "is_available", _really_available),
    is_in_bad_fork=lambda: False,
    enter_mode=lambda: None,
    init=lambda nvidia_uuid: None,
    pack=lambda: 0,
    size=lambda: 0,
    move=lambda callback=None: None,
)

PAIR = str(demo.TEACHER), str(demo.STUDENT)


def main(answers: int, cancel: bool) -> None:
    from app.data import choice
    from app.inspect import text_source
    from app.inspect.reliability import Measurement, measure_reliability
    from app.server import weights, work

    studio = Studio(Path(tempfile.mkdtemp()), public=True)
    source = text_source.TextSource(text_source.CHOSEN, number=answers)
    wanted = Measurement(*PAIR, choice.START, source, 24)
    doing = []
    for now in work.follow(lambda task: measure_reliability(studio, wanted, False, task), studio.models.turn):
        if now.doing not in doing:
            doing.append(now.doing)
        if cancel and now.done:
            now.stop()
    kept = studio.models.pair_of(*PAIR, False) is not None
    *_, loaded = work.follow(lambda task: weights.load(studio, *PAIR, False, task), studio.models.turn)
    got = {
        "pid": os.getpid(),
        "believes_in_a_gpu": torch.cuda.is_available(),
        "models_kept": kept,
        "loaded_on": str(next(loaded.result.student.parameters()).device),
        "doing": doing,
        "report": now.result and now.result.to_dict(),
        "error": now.error,
    }
    print(json.dumps(got))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] == ["cancel"])

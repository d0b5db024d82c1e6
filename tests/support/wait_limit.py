"""Joins a run as the training program does, and prints how many seconds this process waits for the others."""

import sys
from pathlib import Path

import torch
from torch.distributed.distributed_c10d import _get_default_group

from simct.runs.folder import RunFolder
from simct.train import setup

if __name__ == "__main__":
    process = setup(RunFolder(Path(sys.argv[1]).parent))
    limit = _get_default_group()._get_backend(torch.device("cpu")).options._timeout
    print(f"{process.accelerator.num_processes} processes wait {limit.total_seconds():.0f} s", flush=True)
    process.accelerator.end_training()

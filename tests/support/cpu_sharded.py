"""`python -m tests.support.cpu_sharded run.yaml [--resume]`: train with FSDP2 on CPU processes, for tests.

Accelerate offers FSDP to GPUs only; once CPU processes are allowed to shard, it does on gloo what it does on NCCL.
"""

import sys

from accelerate import state
from accelerate.utils import DistributedType

from simct.train import main


def shard_on_cpu() -> None:
    prepare = state.AcceleratorState.__init__

    def prepared(self, *arguments, fsdp_plugin=None, **options):
        first = not self.initialized
        prepare(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
        if first and fsdp_plugin is not None:
            self.distributed_type = DistributedType.FSDP
            state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    state.AcceleratorState.__init__ = prepared


if __name__ == "__main__":
    shard_on_cpu()
    sys.exit(main(sys.argv[1:]))

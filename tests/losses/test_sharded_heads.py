"""An lm_head sharded over two processes gives the averaged gradient of both, as FSDP2 expects."""

import torch
import torch.multiprocessing as multiprocessing

from simct.losses import compute_from_hidden
from simct.losses.head import Head, whole
from tests.support.loss_cases import sequence, tiny_pair

TEXTS = ["the or abcd", "held id 123 world"]


def step(rank: int, weight: torch.Tensor) -> torch.Tensor:
    pair = tiny_pair()
    teacher_ids, student_ids = sequence(pair, TEXTS[rank])
    generator = torch.Generator().manual_seed(rank)
    hidden = torch.randn(len(student_ids), 4, generator=generator)
    teacher = Head(torch.randn(40, 4, generator=generator))
    teacher_hidden = torch.randn(len(teacher_ids), 4, generator=generator)
    head = Head(whole(weight))
    result = compute_from_hidden("simct", pair, hidden, head, teacher_hidden, teacher, student_ids, teacher_ids)
    result.loss.backward()
    return result.loss.detach()


def work(rank: int, address: str, folder: str) -> None:
    import torch.distributed as distributed
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    weight = distribute_tensor(start(), mesh, [Shard(0)]).requires_grad_()
    loss = step(rank, weight)
    gradient = weight.grad.full_tensor()
    torch.save({"loss": loss, "gradient": gradient, "local": weight.grad.to_local().shape}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def start() -> torch.Tensor:
    return torch.randn(38, 4, generator=torch.Generator().manual_seed(9))


def test_sharded_head(tmp_path):
    multiprocessing.spawn(work, (f"file://{tmp_path}/rendezvous", str(tmp_path)), nprocs=2)
    weights = [start().requires_grad_() for _ in TEXTS]
    losses = [step(rank, weight) for rank, weight in enumerate(weights)]
    expected = (weights[0].grad + weights[1].grad) / 2
    assert losses[0] != losses[1]
    for rank in range(2):
        saved = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        torch.testing.assert_close(saved["loss"], losses[rank])
        torch.testing.assert_close(saved["gradient"], expected)
        assert tuple(saved["local"]) == (19, 4)

"""uld and gold against TRL's ULDLoss (trl 1.16.0) with its corrected "bayesian" merge strategy."""

from types import SimpleNamespace

import pytest
import torch

from simct.losses import compute
from tests.support.loss_cases import case, tiny_pair

gold_trainer = pytest.importorskip(
    "trl.experimental.gold.gold_trainer", reason="TRL is not installed: pip install --no-deps trl==1.16.0"
)

BETAS = {"forward_kl": 0.0, "reverse_kl": 1.0, "js": 0.3}


def byte_offsets(side, ids):
    ends, at = [], 0
    for token in ids:
        size = 0 if token in side.end_ids else len(side.bytes_of[token])
        ends.append([at, at + size])
        at += size
    return ends


def by_trl(pair, sequences, student, teacher, **settings):
    """TRL's loss of one sequence, given one prompt token before the completion on both sides."""
    config = SimpleNamespace(
        uld_crossentropy_weight=0.0, uld_distillation_weight=1.0, uld_student_temperature=1.0,
        uld_teacher_temperature=1.0, uld_skip_student_eos=False, uld_skip_teacher_eos=False,
        uld_token_merge_strategy="bayesian", use_extended_uld=True, uld_use_hybrid_loss=False,
        uld_hybrid_matched_weight=None, uld_hybrid_unmatched_weight=None, beta=0.5,
    )  # fmt: skip
    vars(config).update(settings)
    loss = gold_trainer.ULDLoss(config, pair.student.tokenizer, pair.teacher.tokenizer)
    (teacher_ids, student_ids) = sequences[0]

    def padded(logits):  # row j predicts id j: the prompt's row comes first, the last row predicts nothing
        return torch.cat([logits, torch.zeros_like(logits[:1])])[None]

    return loss(
        padded(student), padded(teacher), torch.tensor([[-100, *student_ids]]), torch.tensor([[-100, *teacher_ids]]),
        torch.tensor([[0, *student_ids]]), torch.tensor([[0, *teacher_ids]]),
        torch.tensor([[[0, 0], *byte_offsets(pair.student, student_ids)]]),
        torch.tensor([[[0, 0], *byte_offsets(pair.teacher, teacher_ids)]]),
    )  # fmt: skip


def both(method, settings, name, divergence="reverse_kl", **options):
    pair = tiny_pair()
    sequences, student, teacher = case(pair, name)
    theirs = by_trl(pair, sequences, student, teacher, **settings)
    theirs.backward()
    expected, student.grad = student.grad, None
    ours = compute(method, pair, student, teacher, [sequences[0][1]], [sequences[0][0]], divergence, **options)
    ours.loss.backward()
    torch.testing.assert_close(ours.loss.float(), theirs.float())
    torch.testing.assert_close(student.grad, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["one_to_one", "one_to_many", "many_to_one", "many_to_many", "truncated"])
def test_uld(name):
    both("uld", {}, name, aligned=True)
    both("uld", {"use_extended_uld": False}, name)


@pytest.mark.parametrize("name", ["one_to_one", "one_to_many", "many_to_one", "many_to_many", "truncated"])
@pytest.mark.parametrize("divergence", BETAS)
@pytest.mark.parametrize("weights", [None, (1.0, 0.25)])
def test_gold(name, divergence, weights):
    trl, ours = {}, {}
    if weights:
        trl = {"uld_hybrid_matched_weight": weights[0], "uld_hybrid_unmatched_weight": weights[1]}
        ours = {"matched_weight": weights[0], "unmatched_weight": weights[1]}
    settings = {"uld_use_hybrid_loss": True, "beta": BETAS[divergence], **trl}
    both("gold", settings, name, divergence, beta=0.3, **ours)

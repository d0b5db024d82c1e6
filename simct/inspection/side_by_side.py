"""Single answers to look at: written id by id, and how likely the teacher finds each unit.

Shapes: V vocabulary, H hidden size, T the teacher's tokens of an answer.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from simct.config.sections import RolloutConfig
from simct.errors import AlignmentError
from simct.losses.head import Head
from simct.models.loading import hidden_rows, pad_id_of
from simct.models.sampling import Sampling, uniforms
from simct.tokenization.pair import TokenizerPair


def write_answer(
    model: PreTrainedModel,
    prompt_ids: list[int],
    end_ids: tuple[int, ...],
    n_candidates: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    rollout: RolloutConfig | None = None,
    seed: int = 0,
) -> Iterator[int]:
    """The answer's ids as they come, the end of turn last if the model ends it; greedy at temperature 0.

    `rollout` gives all of the sampling but the temperature; None is the whole distribution. `n_candidates` is the
    number of ids the tokenizer knows. The caller can stop at any time.
    """
    rollout = rollout or RolloutConfig(top_p=1.0)
    drawn_1M = uniforms(seed, 0, [0], max_new_tokens) if temperature > 0 else None
    sampling = Sampling(
        n_candidates, drawn_1M, temperature, rollout.top_p, rollout.top_k, rollout.min_p, rollout.repetition_penalty
    )
    ids, cache, seen_1V = torch.tensor([prompt_ids], device=model.device), None, None
    for position in range(max_new_tokens):
        with torch.inference_mode():
            output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, logits_1V = output.past_key_values, output.logits[:, -1].float()
            if rollout.repetition_penalty != 1:
                seen_1V = torch.zeros_like(logits_1V, dtype=torch.bool) if seen_1V is None else seen_1V
                seen_1V[0, ids[0]] = True
            chosen = int(sampling.pick(logits_1V, [0], [position], seen_1V))
        yield chosen
        if chosen in end_ids:
            return
        ids = torch.tensor([[chosen]], device=model.device)


def agreement(
    pair: TokenizerPair, teacher_model: PreTrainedModel, teacher_prompt_ids: list[int], student_ids: list[int]
) -> list[dict[str, Any]]:
    """The teacher's probability of a student's answer, unit by unit: {"bytes", "student", "teacher", "probability"}.

    "student" and "teacher" count tokens; "probability" is the geometric mean over the teacher's tokens of the unit,
    given its own prompt and the answer so far. The end of turn is a unit without bytes. Raises AlignmentError if the
    teacher cannot spell the answer; an empty answer has no units.
    """
    spelled = pair.teacher_ids_for(student_ids)
    if spelled.excluded:
        raise AlignmentError(f"The teacher cannot read this answer: {spelled.excluded}.")
    if not spelled.ids:
        return []
    known = student_ids[: spelled.n_student]
    with torch.inference_mode():
        pad = pad_id_of(pair.teacher.tokenizer, pair.teacher.end_ids)
        hidden_TH, _ = hidden_rows(teacher_model, [teacher_prompt_ids], [spelled.ids], pad)
        logits_TV = Head.of(teacher_model).logits(hidden_TH).float()
        ids_T = torch.tensor(spelled.ids, device=logits_TV.device)
        chosen_T = logits_TV.log_softmax(-1).gather(1, ids_T[:, None])[:, 0].tolist()
    units = []
    for unit in pair.align(spelled.ids, known):
        pieces = [pair.student.bytes_of[token_id] or b"" for token_id in known[unit.student_start : unit.student_end]]
        scores = chosen_T[unit.teacher_start : unit.teacher_end]
        units.append(
            {
                "bytes": b"".join(pieces),
                "student": unit.student_end - unit.student_start,
                "teacher": unit.teacher_end - unit.teacher_start,
                "probability": math.exp(sum(scores) / len(scores)),
            }
        )
    return units

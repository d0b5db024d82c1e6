"""Slow, obvious float64 versions of the methods, written from their formulas and sharing no code with simct.losses.

Each takes one or more sequences as (teacher_ids, student_ids) with the rows of both sides' logits flattened in order,
and returns the list of row losses as differentiable scalars. Nothing here is vectorised on purpose.
"""

import math

import torch


def spelled_units(pair, teacher_ids, student_ids):
    """Minimal units by walking both sequences: (teacher positions, student positions) with equal bytes."""

    def text(side, token):
        return b"" if token in side.end_ids else side.bytes_of[token]

    units, t, s = [], 0, 0
    while t < len(teacher_ids) or s < len(student_ids):
        if teacher_ids[t] in pair.teacher.end_ids and student_ids[s] in pair.student.end_ids:
            units.append(([t], [s]))
            t, s = t + 1, s + 1
            continue
        ts, ss = [t], [s]
        left, right = text(pair.teacher, teacher_ids[t]), text(pair.student, student_ids[s])
        t, s = t + 1, s + 1
        while left != right:
            if len(left) < len(right):
                left += text(pair.teacher, teacher_ids[t])
                ts.append(t)
                t += 1
            else:
                right += text(pair.student, student_ids[s])
                ss.append(s)
                s += 1
        units.append((ts, ss))
    return units


def batch_units(pair, sequences):
    """Units of several sequences with positions counted over the flattened rows, and the flattened ids."""
    units, teacher_flat, student_flat = [], [], []
    for teacher_ids, student_ids in sequences:
        for ts, ss in spelled_units(pair, teacher_ids, student_ids):
            units.append(([len(teacher_flat) + t for t in ts], [len(student_flat) + s for s in ss]))
        teacher_flat += teacher_ids
        student_flat += student_ids
    return units, teacher_flat, student_flat


def kl(p_scores, q_scores):
    """KL between softmaxes of two lists of scores."""
    p, q = torch.log_softmax(torch.stack(p_scores), 0), torch.log_softmax(torch.stack(q_scores), 0)
    return sum(p[i].exp() * (p[i] - q[i]) for i in range(len(p)))


def diverge(student_scores, teacher_scores, name, beta=0.5):
    if name == "reverse_kl":
        return kl(student_scores, teacher_scores)
    if name == "forward_kl":
        return kl(teacher_scores, student_scores)
    s, t = torch.softmax(torch.stack(student_scores), 0), torch.softmax(torch.stack(teacher_scores), 0)
    m = beta * t + (1 - beta) * s
    return sum(
        beta * t[i] * (t[i].log() - m[i].log()) + (1 - beta) * s[i] * (s[i].log() - m[i].log()) for i in range(len(m))
    )


def shared_pairs(pair):
    return list(zip(pair.shared_teacher_ids.tolist(), pair.shared_student_ids.tolist(), strict=True))


def simct(pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, scoring="log_probs", prefix_free=False):
    units, teacher_ids, student_ids = batch_units(pair, sequences)
    score_s = student_logits if scoring == "raw_logits" else torch.log_softmax(student_logits, -1)
    score_t = teacher_logits if scoring == "raw_logits" else torch.log_softmax(teacher_logits, -1)
    losses = []
    for ts, ss in units:
        multi = len(ts) > 1 or len(ss) > 1
        student, teacher = [], []
        for t_id, s_id in shared_pairs(pair):
            if prefix_free and multi and (t_id == teacher_ids[ts[0]] or s_id == student_ids[ss[0]]):
                continue
            student.append(score_s[ss[0], s_id])
            teacher.append(score_t[ts[0], t_id])
        if multi:
            student.append(sum(score_s[j, student_ids[j]] for j in ss) / len(ss))
            teacher.append(sum(score_t[j, teacher_ids[j]] for j in ts) / len(ts))
        losses.append(diverge(student, teacher, divergence, beta))
    return losses


def strict(pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, top_k=math.inf):
    units, _, _ = batch_units(pair, sequences)
    losses = []
    for ts, ss in units:
        if len(ts) > 1 or len(ss) > 1:
            continue
        candidates = sorted(shared_pairs(pair), key=lambda ids: -student_logits[ss[0], ids[1]].item())
        candidates = candidates[: min(top_k, len(candidates))]
        losses.append(
            diverge(
                [student_logits[ss[0], s_id] for _, s_id in candidates],
                [teacher_logits[ts[0], t_id] for t_id, _ in candidates],
                divergence,
                beta,
            )
        )
    return losses

"""Slow, obvious float64 versions of the methods, written from their formulas and sharing no code with simct.losses.

Each takes one or more sequences as (teacher_ids, student_ids) with the rows of both sides' logits flattened in order,
and returns the list of row losses as differentiable scalars. Nothing here is vectorized on purpose.
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


def simct(
    pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, scoring="log_probs", prefix_free=False
):
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


def _boundaries(side, ids):
    """[(byte offset, position)] of every token of a sequence, and the whole text."""
    offset, places, text = 0, [], b""
    for position, token in enumerate(ids):
        places.append((offset, position))
        data = b"" if token in side.end_ids else side.bytes_of[token]
        offset, text = offset + len(data), text + data
    return places, text


END = "end of turn"


def _strings(side, p, start=b""):
    """{string: probability} of the tokens of a side that start with `start`; end of turn and the rest by name."""
    masses = {}
    for token in range(len(p)):
        data = side.bytes_of[token] if token < len(side.bytes_of) else None
        if token in side.end_ids:
            key = END
        else:
            key = None if data is None else data
        if start and (not isinstance(key, bytes) or not key.startswith(start)):
            continue
        if isinstance(key, bytes):
            key = key[len(start) :]
        masses[key] = masses.get(key, 0.0) + p[token]
    return masses


def _normalized(masses):
    total = sum(masses.values())
    return {key: value / total for key, value in masses.items()}


def teacher_strings(pair, ids, p, offset, bridge):
    """({string: mass} of the teacher at a byte offset of one sequence, mass of what it was read from)."""
    places, _ = _boundaries(pair.teacher, ids)
    at = max(position for start, position in places if start <= offset)
    start = places[at][0]
    if start < offset:
        prefix = pair.teacher.bytes_of[ids[at]][: offset - start]
        masses = _strings(pair.teacher, p[at], prefix)
        return _normalized(masses), sum(masses.values())
    masses = _strings(pair.teacher, p[at])
    if bridge and at > 0:
        spelled = pair.teacher.bytes_of[ids[at - 1]]
        beyond = _strings(pair.teacher, p[at - 1], spelled)
        ended = beyond.pop(b"")
        masses = {key: value * ended for key, value in masses.items()}
        for key, value in beyond.items():
            masses[key] = masses.get(key, 0.0) + value
        masses = _normalized(masses)
    return masses, 1.0


def first_classes(student, teacher, real, heavy, join):
    """{teacher string: the student string that it goes to, or None}."""
    phi = {}
    for r in teacher:
        phi[r] = None
        if r == END:
            phi[r] = END if END in student else None
        elif r:
            prefixes = [key for key in real if r.startswith(key)]
            longer = [key for key in heavy if key.startswith(r) and key != r]
            if prefixes:
                phi[r] = max(prefixes, key=len)
            elif longer and join:
                phi[r] = longer[0]
    return phi


def classes(student, teacher, significant, join):
    """(student mass, teacher mass) of every class, "other" last, from two {string: mass}."""
    real = sorted(key for key in student if isinstance(key, bytes) and key)
    heavy = [key for key in real if student[key] > significant]
    phi = first_classes(student, teacher, real, heavy, join)
    groups = [{value} for value in set(phi.values()) if value is not None]

    def group_of(key):
        return next((group for group in groups if key in group), None)

    for r, mass in teacher.items():
        if not join or not isinstance(r, bytes) or not r or mass <= significant or phi[r] is None:
            continue
        for key in heavy:
            if key.startswith(r) and key != r:
                left, right = group_of(phi[r]), group_of(key)
                if right is None:
                    left.add(key)
                elif left is not right:
                    left |= right
                    groups.remove(right)
    result = []
    for group in groups:
        result.append(
            (
                sum(student[key] for key in student if key in group),
                sum((mass for r, mass in teacher.items() if phi[r] in group), 0.0),
            )
        )
    inside = set().union(*groups) if groups else set()
    rest_s = sum((mass for key, mass in student.items() if key not in inside), 0.0)
    rest_t = sum((mass for r, mass in teacher.items() if phi[r] is None), 0.0)
    return [*result, (rest_s, rest_t)]


def class_divergence(pairs, divergence, beta):
    total = 0.0
    for s, t in pairs:
        s = torch.as_tensor(s, dtype=torch.float64)
        t = torch.as_tensor(t, dtype=torch.float64)
        m = beta * t + (1 - beta) * s
        if divergence == "forward_kl" and t > 0:
            total = total + t * (t / s.clamp_min(1e-30)).log()
        if divergence == "reverse_kl" and s > 0:
            total = total + s * (s / t.clamp_min(1e-8)).log()
        if divergence == "js":
            total = total + (beta * t * (t.clamp_min(1e-8) / m).log() if m > 0 else 0.0)
            total = total + ((1 - beta) * s * (s.clamp_min(1e-30) / m).log() if s > 0 else 0.0)
    return total


def marginal(
    pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, bridge=True, significant=1e-3, min_mass=1e-4,
    join=True, inside=True,
):  # fmt: skip
    losses, s_row, t_row = [], 0, 0
    for teacher_ids, student_ids in sequences:
        p_s = torch.softmax(student_logits[s_row : s_row + len(student_ids)], -1)
        p_t = torch.softmax(teacher_logits[t_row : t_row + len(teacher_ids)], -1)
        s_row, t_row = s_row + len(student_ids), t_row + len(teacher_ids)
        places, _ = _boundaries(pair.student, student_ids)
        offsets = {offset for offset, _ in places}
        if inside:
            offsets |= {offset for offset, _ in _boundaries(pair.teacher, teacher_ids)[0]}
        for offset in sorted(offsets):
            target, mass = teacher_strings(pair, teacher_ids, p_t, offset, bridge)
            at = max(position for start, position in places if start <= offset)
            begun = b""
            if places[at][0] < offset:
                begun = pair.student.bytes_of[student_ids[at]][: offset - places[at][0]]
            student = _normalized(_strings(pair.student, p_s[at], begun))
            if mass > min_mass:
                losses.append(class_divergence(classes(student, target, significant, join), divergence, beta))
    return losses


def bpm(pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, bridge=False, min_mass=1e-4):
    return marginal(
        pair, sequences, student_logits, teacher_logits, divergence, beta, bridge, 1.0, min_mass, False, False
    )


def sorted_l1(student, teacher):
    student, teacher = (
        sorted(student, key=lambda x: x.item(), reverse=True),
        sorted(teacher, key=lambda x: x.item(), reverse=True),
    )
    length = max(len(student), len(teacher))
    zero = torch.zeros((), dtype=torch.float64)
    student, teacher = student + [zero] * (length - len(student)), teacher + [zero] * (length - len(teacher))
    return sum((s - t).abs() for s, t in zip(student, teacher, strict=True))


def merged(p, positions, ids):
    row = p[positions[-1]]
    for position in positions[:-1]:
        row = row * p[position, ids[position]]
    return list(row)


def uld(pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, aligned=False):
    p_s, p_t = torch.softmax(student_logits, -1), torch.softmax(teacher_logits, -1)
    if aligned:
        units, teacher_ids, student_ids = batch_units(pair, sequences)
        return [sorted_l1(merged(p_s, ss, student_ids), merged(p_t, ts, teacher_ids)) for ts, ss in units]
    losses, s, t = [], 0, 0
    for teacher_ids, student_ids in sequences:
        for j in range(min(len(teacher_ids), len(student_ids))):
            losses.append(sorted_l1(list(p_s[s + j]), list(p_t[t + j])))
        s, t = s + len(student_ids), t + len(teacher_ids)
    return losses


def gold(
    pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, matched_weight=None, unmatched_weight=None
):
    p_s, p_t = torch.softmax(student_logits, -1), torch.softmax(teacher_logits, -1)
    units, teacher_ids, student_ids = batch_units(pair, sequences)
    shared = shared_pairs(pair)
    if matched_weight is None:
        matched_weight = len(shared) / p_t.shape[1]
        unmatched_weight = 1 - matched_weight
    losses = []
    for ts, ss in units:
        s_row, t_row = merged(p_s, ss, student_ids), merged(p_t, ts, teacher_ids)
        total = 0.0
        for t_id, s_id in shared:
            s, t = s_row[s_id].clamp_min(1e-8), t_row[t_id].clamp_min(1e-8)
            m = beta * t + (1 - beta) * s
            total = (
                total
                + {
                    "reverse_kl": s * (s / t).log(),
                    "forward_kl": t * (t / s).log(),
                    "js": beta * t * (t / m).log() + (1 - beta) * s * (s / m).log(),
                }[divergence]
            )
        rest_s = [value for token, value in enumerate(s_row) if token not in {s_id for _, s_id in shared}]
        rest_t = [value for token, value in enumerate(t_row) if token not in {t_id for t_id, _ in shared}]
        losses.append(matched_weight * total + unmatched_weight * sorted_l1(rest_s, rest_t))
    return losses


def alm(pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, chunk_temperature=100.0):
    log_s, log_t = torch.log_softmax(student_logits, -1), torch.log_softmax(teacher_logits, -1)
    units, teacher_ids, student_ids = batch_units(pair, sequences)
    losses = []
    for ts, ss in units:
        s = (sum(log_s[j, student_ids[j]] for j in ss) / chunk_temperature).exp()
        t = (sum(log_t[j, teacher_ids[j]] for j in ts) / chunk_temperature).exp()
        # two outcomes as scores: their log-probabilities already sum to one
        losses.append(diverge([s.log(), (1 - s).log()], [t.log(), (1 - t).log()], divergence, beta))
    return losses


def prefix_groups(pair):
    """Connected components of "one begins with the other" among the teacher's tokens that are no student token.

    Found by joining sets until nothing changes; returns lists of byte strings.
    """
    student = {data for data in pair.student.bytes_of if data is not None}
    alone = {
        data
        for token, data in enumerate(pair.teacher.bytes_of)
        if data is not None and token not in pair.teacher.end_ids and data not in student
    }
    groups = [{data} for data in sorted(alone)]
    changed = True
    while changed:
        changed = False
        for left in range(len(groups)):
            for right in range(left + 1, len(groups)):
                if any(a.startswith(b) or b.startswith(a) for a in groups[left] for b in groups[right]):
                    groups[left] |= groups.pop(right)
                    changed = True
                    break
            if changed:
                break
    return [sorted(group) for group in groups]


def escd(
    pair, sequences, student_logits, teacher_logits, divergence="forward_kl", beta=0.5, root=True, child=True,
    bridge=False,
):  # fmt: skip
    """Row losses at the starts of units: root and child of one row added up."""
    losses, s_row, t_row = [], 0, 0
    groups = prefix_groups(pair)
    for teacher_ids, student_ids in sequences:
        p_s = torch.softmax(student_logits[s_row : s_row + len(student_ids)], -1)
        p_t = torch.softmax(teacher_logits[t_row : t_row + len(teacher_ids)], -1)
        s_row, t_row = s_row + len(student_ids), t_row + len(teacher_ids)
        for _, ss in spelled_units(pair, teacher_ids, student_ids):
            offset = {position: start for start, position in _boundaries(pair.student, student_ids)[0]}[ss[0]]
            target, _ = teacher_strings(pair, teacher_ids, p_t, offset, bridge)
            total = student_logits.sum() * 0.0
            if root:
                student = _strings(pair.student, p_s[ss[0]])
                total = total + class_divergence(classes(student, target, 1.0, False), divergence, beta)
            written = (
                pair.student.bytes_of[student_ids[ss[0]]] if student_ids[ss[0]] not in pair.student.end_ids else b""
            )
            if child and written and ss[0] + 1 < len(student_ids):
                following = _strings(pair.student, p_s[ss[0] + 1])
                for group in groups:
                    shortest = min(group, key=len)
                    if not shortest.startswith(written) or shortest == written:
                        continue
                    rest = shortest[len(written) :]
                    given = [p for text, p in following.items() if isinstance(text, bytes) and text.startswith(rest)]
                    if given:
                        mass = sum(target.get(text, 0.0) for text in group)
                        total = total - mass * torch.as_tensor(sum(given)).log()
            losses.append(total)
    return losses


def dpca(pair, sequences, student_logits, teacher_logits, divergence, beta=0.5, max_advantage=10.0):
    """For each student token: minus its advantage in value, minus its advantage times d log p_S in gradient."""
    log_s, log_t = torch.log_softmax(student_logits, -1), torch.log_softmax(teacher_logits, -1)
    units, teacher_ids, student_ids = batch_units(pair, sequences)
    losses = []
    for ts, ss in units:
        whole_s = sum(float(log_s[j, student_ids[j]].detach()) for j in ss)
        whole_t = sum(float(log_t[j, teacher_ids[j]]) for j in ts)
        for j in ss:
            own = log_s[j, student_ids[j]]
            advantage = (whole_t / whole_s) * float(own.detach()) - float(own.detach())
            advantage = max(-max_advantage, min(max_advantage, advantage))
            losses.append(-advantage * (1 + own - own.detach()))
    return losses

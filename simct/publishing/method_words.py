"""What each method does, in the words of the model card."""

DIVERGENCES = {
    "reverse_kl": "reverse KL, KL(student ‖ teacher)",
    "forward_kl": "forward KL, KL(teacher ‖ student)",
    "js": "generalized Jensen–Shannon",
}
METHOD_NAMES = {
    "simct": "SimCT",
    "strict": "strict shared-token matching",
    "marginal": "byte-level marginal matching",
    "bpm": "byte-prefix marginalization",
    "uld": "Universal Logit Distillation",
    "gold": "GOLD",
    "alm": "approximate likelihood matching",
}
DISTILLED = """\
$student, distilled on-policy from $teacher with $method_name, by SimCT Studio
([arXiv 2605.07711](https://arxiv.org/abs/2605.07711)). The student writes answers of its own, the teacher scores the
very same text, and the student learns from the teacher's probabilities, although the two models cut text into different
tokens."""
WARMED_UP = """\
$student, warmed up on answers of $teacher by SimCT Studio: the teacher answered the prompts, and the student learned to
repeat its answers. It is a start for on-policy distillation."""
WARM_UP = """\
**Warm start**: supervised fine-tuning on the teacher's own answers. The loss is the student's cross-entropy on the
tokens of the answer."""
METHODS = {
    "simct": """\
**SimCT** (arXiv 2605.07711, Eq. 6–9). Both tokenizations of a text are cut at their common byte boundaries. Where both
models have one and the same token, their next-token probabilities over the shared vocabulary are compared; where they
spell a stretch with different tokens, that stretch itself joins the candidates, scored by the mean log-probability of
each model's own tokens. So supervision that exact token matching discards is recovered.""",
    "strict": """\
**Strict shared-token matching**: the two models are compared only where both use one and the same token, over the
vocabulary they share. Stretches that they spell with different tokens are left out.""",
    "marginal": """\
**Byte-level marginal matching**: the models are compared on text rather than on tokens. Each teacher token's bytes are
given to the longest student token that begins them, and the two distributions over these classes are matched.""",
    "bpm": """\
**Byte-prefix marginalization**: each teacher token's probability goes to the longest student token whose bytes begin
the teacher's, and the student learns that distribution.""",
    "uld": """\
**Universal Logit Distillation**: both models' probabilities are sorted, and the sorted lists are compared by their L1
distance; which token has which probability plays no part.""",
    "gold": """\
**GOLD**: tokens between common boundaries are merged into spans, whose probabilities are compared directly where the
vocabularies agree and by sorted lists elsewhere.""",
    "alm": """\
**Approximate likelihood matching**: the two models' likelihoods of each stretch of text between common boundaries are
compared as yes-or-no probabilities.""",
}

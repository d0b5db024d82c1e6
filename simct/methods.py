"""The methods: what each compares, its divergence, what it needs from the two models, and its options.

Everything else that names a method or an option (run.yaml, `--help`, the form, the memory estimate, the model card, the
documentation) reads this table. `simct/losses/` has a file for each method; docs/method.md explains them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from simct.errors import ConfigError, quoted
from simct.setting import Section, problem, setting, settings_of

DIVERGENCES: Mapping[str, str] = MappingProxyType(
    {
        "reverse_kl": "reverse KL, KL(student ‖ teacher)",
        "forward_kl": "forward KL, KL(teacher ‖ student)",
        "js": "generalized Jensen–Shannon",
    }
)


class LossOptions(Section):
    """The options of every method."""

    beta: float = setting(
        "Beta", 0.5, "The teacher's weight in the mixture of the divergence js. Nothing else uses it.", gt=0, lt=1
    )
    temperature: float = setting(
        "Temperature",
        1.0,
        "Divides both models' logits before they are compared. Usual: 1; above 1, unlikely tokens count for more.",
        gt=0,
        le=1000,
    )
    diagnostics: bool = setting(
        "Diagnostics",
        True,
        "Measure what each step says about the pair. Turn it off to save a few percent of the time.",
    )
    chunk_rows: int | None = setting(
        "Rows at a time",
        None,
        "How many rows of logits exist at once. Lower it when memory is short.",
        empty="as many as fit a fixed amount of memory",
        ge=1,
        le=10_000_000,
    )


class SimctOptions(LossOptions):
    scoring: str = setting(
        "Scoring of units",
        "log_probs",
        "How a unit of several tokens is scored: by the mean of its tokens' log-probabilities, as published, or of "
        "their raw logits, as in the authors' released code. Use raw_logits for comparisons with that code only.",
        choices=("log_probs", "raw_logits"),
    )
    mass_mask: bool | Annotated[float, Field(ge=0, lt=1)] = setting(
        "Mass mask",
        False,
        "Leave out units where the teacher gives the candidates less probability than this; true means 0.5. "
        "Use it if `simct inspect --weights` finds many such units.",
    )
    prefix_free: bool = setting(
        "Prefix-free candidates",
        False,
        "At a unit of several tokens, leave out the shared token that is its own first piece. Use it if the teacher's "
        "near-zero probability for first pieces does harm.",
    )
    unit_mask_ratio: float = setting(
        "Units left out",
        0.0,
        "An ablation of the paper: the share of units of several tokens that is left out at random.",
        ge=0,
        le=1,
    )
    random_span_ratio: float = setting(
        "Units joined",
        0.0,
        "An ablation of the paper: the share of 1:1 units that is joined with the next unit at random.",
        ge=0,
        le=1,
    )
    option_seed: int = setting(
        "Seed of the ablations", 0, "Decides which units the two ablations choose.", ge=0, le=2**32 - 1
    )


class StrictOptions(LossOptions):
    top_k: int | None = setting(
        "Student's top k",
        None,
        "Compare only the student's own k most likely shared tokens. Usual: 16, the strongest published baseline.",
        empty="all shared tokens",
        ge=2,
        le=10_000_000,
    )


# options of several methods: title, default and help
SMALLEST_MASS = (
    "Smallest mass",
    1e-4,
    "Leave out places inside a teacher token where the bytes so far have less teacher probability than this.",
)
BRIDGE_OFF = (
    "Bridge",
    False,
    "Undo the teacher's knowledge of where its last token ended, as marginal does. Off as published.",
)


class MarginalOptions(LossOptions):
    bridge: bool = setting(
        "Bridge", True, "Undo the teacher's knowledge of where its last token ended. Turn it off for ablations only."
    )
    significant: float = setting(
        "Significant mass",
        1e-3,
        "Probability above which a string joins a class. Usual: 1e-3; higher makes smaller classes.",
        ge=0,
        lt=1,
    )
    min_mass: float = setting(*SMALLEST_MASS, ge=0, lt=1)


class BpmOptions(LossOptions):
    bridge: bool = setting(*BRIDGE_OFF)
    min_mass: float = setting(*SMALLEST_MASS, ge=0, lt=1)


class EscdOptions(LossOptions):
    root: bool = setting(
        "Root",
        True,
        "Compare the student's tokens with the teacher's mass on each. Turn it off for ablations only.",
    )
    child: bool = setting(
        "Child",
        True,
        "Train the student to continue its own token toward teacher tokens that it lacks. "
        "Turn it off for ablations only.",
    )
    bridge: bool = setting(*BRIDGE_OFF)

    @model_validator(mode="after")
    def _some_term(self) -> "EscdOptions":
        if not (self.root or self.child):
            raise ConfigError("root and child are both false; escd needs at least one of its two terms.")
        return self


class UldOptions(LossOptions):
    aligned: bool = setting(
        "Compare units",
        False,
        "Compare aligned units. As published, position j of one side meets position j of the other, even if "
        "they read different text.",
    )


class GoldOptions(LossOptions):
    matched_weight: float | None = setting(
        "Weight of shared tokens",
        None,
        "The weight of the divergence on shared tokens. Give both weights or neither.",
        empty="the share of the teacher's vocabulary that is shared",
        ge=0,
        le=1000,
    )
    unmatched_weight: float | None = setting(
        "Weight of the rest",
        None,
        "The weight of the sorted distance on all other tokens. Give both weights or neither.",
        empty="the rest of the teacher's vocabulary",
        ge=0,
        le=1000,
    )

    @model_validator(mode="after")
    def _both_weights(self) -> "GoldOptions":
        if (self.matched_weight is None) != (self.unmatched_weight is None):
            raise ConfigError("gold needs both matched_weight and unmatched_weight, or neither.")
        return self


class AlmOptions(LossOptions):
    chunk_temperature: float = setting(
        "Temperature of chunks",
        100.0,
        "The root that is taken of a unit's likelihood before it is compared. Usual: 100, as in the paper.",
        gt=0,
        le=1e6,
    )


class DpcaOptions(LossOptions):
    max_advantage: float = setting(
        "Largest advantage",
        10.0,
        "Nats by which one token may be rewarded or punished at most. Usual: 10; lower it if the loss jumps.",
        gt=0,
        le=1e6,
    )


@dataclass(frozen=True)
class Method:
    """One way to compare two models on the same text.

    line: what it compares, as a phrase. paragraph: the same for the model card, in Markdown. source: where it is from.
    divergence: its own, None if it uses none. whole_rows: it reads whole rows of logits of both models, not only the
    columns of shared tokens. options: their names, types, defaults and limits. listed: what it does with a teacher that
    lists only its most likely tokens, as a phrase; empty if it cannot use one. on_policy: it learns only from text that
    the student itself wrote.
    """

    name: str
    title: str
    line: str
    paragraph: str
    source: str
    divergence: str | None
    whole_rows: bool
    options: type[LossOptions]
    listed: str = ""
    on_policy: bool = False

    @property
    def own_options(self) -> tuple[str, ...]:
        """Names of the options that only this method takes."""
        return tuple(name for name in settings_of(self.options) if name not in settings_of(LossOptions))


LISTED_CANDIDATES = "compares only the shared tokens that the teacher lists"
WRITTEN_ONLY = "reads only the tokens that were written, which are always listed"
LISTED_EXACTLY = "puts everything that the teacher does not list in the class of everything else"

_TABLE = (
    Method(
        name="simct",
        title="SimCT",
        line="shared tokens, and each multi-token unit by its mean log-probability per token",
        paragraph="""\
**SimCT** (arXiv 2605.07711, Eq. 6–9). Both tokenizations of a text are cut at their common byte boundaries. Where both
models have the same single token, their next-token probabilities over the shared vocabulary are compared; where they
spell a stretch with different tokens, that stretch itself joins the candidates, scored by the mean log-probability of
each model's own tokens. This recovers supervision that exact token matching discards.""",
        source="arXiv 2605.07711, Eq. 6–9",
        divergence="reverse_kl",
        whole_rows=False,
        options=SimctOptions,
        listed=LISTED_CANDIDATES,
    ),
    Method(
        name="strict",
        title="Strict",
        line="shared tokens at 1:1 units only; `top_k` keeps the student's most likely ones",
        paragraph="""\
**Strict shared-token matching**: the two models are compared only where both use the same single token, over the
vocabulary they share. Stretches that they spell with different tokens are left out.""",
        source="arXiv 2605.07711, arXiv 2610.08448",
        divergence="reverse_kl",
        whole_rows=False,
        options=StrictOptions,
        listed=LISTED_CANDIDATES,
    ),
    Method(
        name="marginal",
        title="Marginal",
        line="both models' masses on the same strings, at every boundary of either tokenizer",
        paragraph="""\
**Byte-level marginal matching**: the models are compared on text rather than on tokens. Each teacher token's bytes are
given to the longest student token that begins them, and the two distributions over these classes are matched.""",
        source="SimCT Studio",
        divergence="reverse_kl",
        whole_rows=True,
        options=MarginalOptions,
        listed=LISTED_EXACTLY,
    ),
    Method(
        name="bpm",
        title="BPM",
        line="the teacher's mass moved to the longest student token that begins each of its strings",
        paragraph="""\
**Byte-prefix marginalization**: each teacher token's probability goes to the longest student token whose bytes begin
the teacher's, and the student learns that distribution.""",
        source="arXiv 2607.22334",
        divergence="forward_kl",
        whole_rows=True,
        options=BpmOptions,
        listed=LISTED_EXACTLY,
    ),
    Method(
        name="escd",
        title="ESCD",
        line="the teacher's mass on the student's tokens, and what may follow the token that the student wrote",
        paragraph="""\
**ESCD** (arXiv 2609.34738). Where both models are at a token boundary, the student is compared with the teacher's mass
moved to its own tokens; and where the token that it wrote begins a teacher token that it lacks, it learns to continue
toward that token.""",
        source="arXiv 2609.34738",
        divergence="forward_kl",
        whole_rows=True,
        options=EscdOptions,
        listed=LISTED_EXACTLY,
    ),
    Method(
        name="uld",
        title="ULD",
        line="sorted probabilities, no matter which tokens they belong to",
        paragraph="""\
**Universal Logit Distillation**: both models' probabilities are sorted, and the sorted lists are compared by their L1
distance; which token has which probability plays no part.""",
        source="arXiv 2402.12030",
        divergence=None,
        whole_rows=True,
        options=UldOptions,
    ),
    Method(
        name="gold",
        title="GOLD",
        line="merged units: shared tokens directly, the rest by sorted probabilities",
        paragraph="""\
**GOLD**: tokens between common boundaries are merged into spans, whose probabilities are compared directly where the
vocabularies agree and by sorted lists elsewhere.""",
        source="TRL",
        divergence="reverse_kl",
        whole_rows=True,
        options=GoldOptions,
    ),
    Method(
        name="alm",
        title="ALM",
        line="likelihoods of whole units, against anything else",
        paragraph="""\
**Approximate likelihood matching**: the two models' likelihoods of each stretch of text between common boundaries are
compared as yes-or-no probabilities.""",
        source="arXiv 2503.20083",
        divergence="forward_kl",
        whole_rows=True,
        options=AlmOptions,
        listed=WRITTEN_ONLY,
    ),
    Method(
        name="dpca",
        title="DPCA",
        line="likelihoods of the units that the student sampled, as a reward for its tokens",
        paragraph="""\
**DPCA** (arXiv 2606.09456). How much more likely the teacher finds a stretch of the student's own text than the student
itself is the reward of the student's tokens there, divided by how surprising each was: a policy gradient, which no
alternative to the written text enters.""",
        source="arXiv 2606.09456",
        divergence=None,
        whole_rows=True,
        options=DpcaOptions,
        listed=WRITTEN_ONLY,
        on_policy=True,
    ),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _TABLE})


def check_listed(method: str) -> None:
    """Raise ConfigError for a method that needs all of the teacher's probabilities."""
    if not METHODS[method].listed:
        able = ", ".join(name for name, row in METHODS.items() if row.listed)
        raise ConfigError(
            f"method is {method!r}, which needs all of the teacher's probabilities, but a server lists only the most "
            f"likely ones. Choose one of: {able}."
        )


def checked_options(method: str, given: Mapping[str, Any], place: str = "") -> LossOptions:
    """All options of `method`, those not `given` at their defaults. `place` names where they are in run.yaml, for the
    error.

    Raises ConfigError for an unknown method or option, and for a value that is not allowed.
    """
    if method not in METHODS:
        raise ConfigError(f"Unknown method {quoted(method)}. Choose one of: {', '.join(METHODS)}.")
    row = METHODS[method]
    known = (*row.own_options, *settings_of(LossOptions))
    for option in given:
        if option not in known:
            where = f"{place}: " if place else ""
            raise ConfigError(
                f"{where}Unknown option {quoted(option)} of method {method!r}. Its options: {', '.join(known)}."
            )
    try:
        return row.options.model_validate(dict(given))
    except ValidationError as error:
        raise problem(error, row.options, f"{place}." if place else "") from error

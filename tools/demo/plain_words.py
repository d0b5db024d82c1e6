"""The task of the default pair: say an official-sounding sentence in plain words.

A sentence has a few hard words ("utilise", "documentation") among ordinary ones; the answer is the same sentence with
every hard word replaced by its plain one ("use", "papers") and nothing else changed, so an answer is checked by
comparing text. Hard words are rare words, and rare words are what tokenizers split, each in its own places; plain words
are whole in both.
"""

import random
from dataclasses import dataclass

# Hard word -> plain word, by the slot of the sentence that it fills.
VERBS = {
    "utilise": "use", "purchase": "buy", "commence": "start", "terminate": "end", "demonstrate": "show",
    "necessitate": "need", "procure": "get", "retain": "keep", "ascertain": "find", "verify": "check",
    "modify": "change", "rectify": "fix", "dispatch": "send", "construct": "build", "discontinue": "stop",
    "enumerate": "count", "conceal": "hide", "elevate": "lift", "transport": "carry", "fabricate": "make",
    "investigate": "study", "relocate": "move", "distribute": "share", "abandon": "leave", "accumulate": "gather",
    "substitute": "swap",
}  # fmt: skip
NOUNS = {
    "automobile": "car", "residence": "house", "apparatus": "machine", "beverage": "drink", "apparel": "clothes",
    "documentation": "papers", "correspondence": "letters", "aperture": "hole", "garment": "shirt", "vessel": "ship",
    "currency": "money", "thoroughfare": "road", "footwear": "shoes", "manuscript": "book", "photograph": "picture",
    "receptacle": "box", "implement": "tool", "component": "part", "nourishment": "food", "dwelling": "home",
}  # fmt: skip
ADJECTIVES = {
    "additional": "extra", "initial": "first", "subsequent": "next", "erroneous": "wrong", "principal": "main",
    "gigantic": "big", "minuscule": "small", "inexpensive": "cheap", "rapid": "fast", "transparent": "clear",
    "vacant": "empty", "antiquated": "old", "contemporary": "new", "luminous": "bright", "circular": "round",
    "defective": "broken", "immaculate": "clean", "elongated": "long",
}  # fmt: skip
PEOPLE = {
    "physician": "doctor", "proprietor": "owner", "instructor": "teacher", "infant": "baby", "companion": "friend",
    "individual": "person", "adolescent": "teenager", "constable": "officer", "labourer": "worker",
}  # fmt: skip
ADVERBS = {
    "immediately": "now", "subsequently": "later", "frequently": "often", "presently": "soon",
    "occasionally": "sometimes", "perpetually": "always", "expeditiously": "quickly", "collectively": "together",
}  # fmt: skip
GLOSSARY = VERBS | NOUNS | ADJECTIVES | PEOPLE | ADVERBS

# Ordinary words that stay as they are.
OTHER_VERBS = ["open", "close", "paint", "clean", "sell", "bring", "wash", "draw"]
OTHER_NOUNS = ["table", "window", "garden", "engine", "map", "lamp", "door", "list", "key", "bag", "chair", "phone"]
OTHER_ADJECTIVES = ["red", "blue", "green", "white", "black", "heavy", "light", "soft"]
OTHER_PEOPLE = ["nurse", "driver", "farmer", "cook", "boy", "girl", "king", "woman", "man"]
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank"]
MODALS = ["must", "will", "can", "should", "may"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
PLACES = ["at school", "at work", "in town", "by the river", "near the station", "in the yard"]
# Rare words that the plain answer keeps, and that both tokenizers split, each in its own places.
RARE_PLACES = ["Leicestershire", "Nottinghamshire", "Huddersfield", "Middlesbrough", "Gloucestershire"]
INSTRUCTIONS = ["Say it plainly:", "In plain words:", "Make this simple:"]

SLOTS = (
    (PEOPLE, OTHER_PEOPLE),
    (VERBS, OTHER_VERBS),
    (ADJECTIVES, OTHER_ADJECTIVES),
    (NOUNS, OTHER_NOUNS),
    (ADVERBS, None),
)


@dataclass(frozen=True)
class Exercise:
    """A sentence with its hard words and its instruction."""

    instruction: str
    words: tuple[str, ...]

    @property
    def key(self) -> str:
        return " ".join(self.words)

    @property
    def prompt(self) -> str:
        return f"{self.instruction} {' '.join(self.words)}."

    @property
    def answer(self) -> str:
        return " ".join(GLOSSARY.get(word, word) for word in self.words) + "."

    def draft(self, missed: dict[str, float], rng: random.Random) -> str:
        """The answer of a hasty editor, who overlooks hard word w with probability missed[w]."""
        edited = (word if rng.random() < missed.get(word, 0.0) else GLOSSARY.get(word, word) for word in self.words)
        return " ".join(edited) + "."


def make_exercise(rng: random.Random) -> Exercise:
    """A random sentence with one to three hard words (about 1.7 on average)."""
    hard_slots = set(rng.sample(range(len(SLOTS)), k=rng.choice((1, 1, 2, 2, 3))))
    person, verb, adjective, noun, adverb = (
        rng.choice(list(hard) if i in hard_slots else other or [""]) for i, (hard, other) in enumerate(SLOTS)
    )
    subject = [rng.choice(NAMES)] if 0 not in hard_slots and rng.random() < 0.3 else ["The", person]
    when = rng.choice(
        (
            ["on", rng.choice(DAYS)],
            ["for", str(rng.randint(2, 99)), "days"],
            ["at", str(rng.randint(1, 12)), rng.choice(("am", "pm"))],
            rng.choice(PLACES).split() if rng.random() < 0.7 else ["in", rng.choice(RARE_PLACES)],
        )
    )
    words = [*subject, rng.choice(MODALS), verb, "the", adjective, noun, *([adverb] if adverb else []), *when]
    return Exercise(rng.choice(INSTRUCTIONS), tuple(words))


def missed_rates(seed: int, low: float = 0.08, high: float = 0.65) -> dict[str, float]:
    """How often the hasty editor overlooks each hard word: a third of the words mostly, the others rarely."""
    words = sorted(GLOSSARY)
    random.Random(seed).shuffle(words)
    return {word: high if i % 3 == 0 else low for i, word in enumerate(words)}

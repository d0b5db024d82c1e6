"""The answer that a text states: its last statement, without reasoning.

A statement is what follows "####", "the answer is", "Answer:" or "<answer>", or what is in \\boxed{}. Of several
the last one counts, whatever comes after it.
"""

import re
from dataclasses import dataclass

from simct.evaluation.answers.markup import without_emphasis

# characters of a statement, and statements in a text; longer texts are not answers
LONGEST = 2000
MOST_STATEMENTS = 16

# <think> and similar marks, [THINK] (Mistral), ◁think▷ (Kimi); harmony and Gemma have channels
_NAMES = "(?:seed:)?(?:think|thinking|thought|reasoning|reflection)"
_OPEN = rf"(?:<{_NAMES}>|◁think▷|(?-i:\[THINK\])|<\|(?:think|begin_of_thought)\|>)"
_CLOSE = rf"(?:</{_NAMES}>|◁/think▷|(?-i:\[/THINK\])|<\|(?:/think|end_of_thought)\|>)"
_REASONING = re.compile(f"{_OPEN}.*?(?:{_CLOSE}|\\Z)", re.DOTALL | re.IGNORECASE)
_OPENED = re.compile(rf"{_OPEN}\s*\Z", re.IGNORECASE)
_CLOSED = re.compile(_CLOSE, re.IGNORECASE)
_CHANNEL = re.compile(r"<\|channel\|?>\s*(\w+)(?:[^<]|<\|constrain\|>)*(?:<\|message\|>)?")
_CHANNEL_END = re.compile(r"<\|(?:end|call|return|start)\|>|<channel\|>")
# harmony without its control tokens
_SPOKEN_CHANNELS = re.compile(r"\A\s*analysis.*assistant\s*final", re.DOTALL)
_SPOKEN_ANALYSIS = re.compile(r"\A\s*analysis(?=[A-Z<\"'(\[])")
_CONTROL = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<eos>|<end_of_turn>|<start_of_turn>")
_MARKS = re.compile(f"{_OPEN}|{_CLOSE}|<\\|channel\\|?>", re.IGNORECASE)

_SUBJECT = r"(?:\b(?:final|correct|right|best)\s+(?:answer|choice|option|result|value|solution)|\banswer)s?\b"
_TOPIC = r"(?:\s+(?:to|for|of)\b[^.:=\n]{1,80}?)?"
_VERB = r"(?:\s+(?:is|are|was|(?:would|should|must|will|has\s+to)\s+be|equals)\b|\s*[\"']?\s*(?:[:：=]|->|→))"
_SAID = re.compile(rf"{_SUBJECT}{_TOPIC}{_VERB}(?!\s*(?:not|n't|neither)\b)\s*:?", re.IGNORECASE)
# a heading of its own line
_HEADED = re.compile(r"^[ \t#]*(?:the\s+)?(?:final\s+)?answer[ \t]*[:：]?[ \t]*$", re.IGNORECASE | re.MULTILINE)
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\f?box(?:ed)?\s*(?=\{|\w)")
_HASHES = re.compile(r"^[ \t]*####[ \t]*(.+?)[ \t]*$|(?<=\S)[ \t]*####[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_HASHED_VALUE = re.compile(r"[(\[]?[$€£¥₹\\+−-]*(?:\d|[A-J]\W*$)")
_SENTENCE_END = re.compile(
    r"(?<!\bapprox)(?<!\bi\.e)(?<!\be\.g)(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\bRs)(?<!\bNo)[.!?](?=[\s\"'*)]|$)"
)
_CLOSING = re.compile(
    r"\b(?:let me know|feel free|hope (?:this|that|it)|if you(?: ha[vs]e|'d| would| need| want)|would you like|happy to"
    r"|(?:other|more|further|any) questions|glad to|good luck)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """A stated answer. `text` is all of it if `exact` (a box, a tag, ####), else the rest of its line."""

    text: str
    exact: bool

    @property
    def sentence(self) -> str:
        """The statement up to the end of its sentence."""
        return self.text if self.exact else first_sentence(self.text)


def without_reasoning(text: str) -> str:
    """The text without think blocks, analysis channels and control tokens; an unclosed block is removed entirely."""
    if "<|channel" in text:
        text = _final_channel(text)
    text = _REASONING.sub(" ", text)
    # a think block that the prompt opened
    text = _CLOSED.split(text)[-1]
    text = _SPOKEN_CHANNELS.sub("", text)
    if _SPOKEN_ANALYSIS.match(text):
        return ""
    return _CONTROL.sub("", text).strip()


def opened_reasoning(prompt: str) -> str:
    """The mark with which a prompt ends that opens a think block for the answer; empty if it ends otherwise."""
    found = _OPENED.search(prompt)
    return found[0] if found else ""


def has_reasoning(text: str) -> bool:
    """Whether the text opens or closes a think block or a channel."""
    return bool(_MARKS.search(text))


def _final_channel(text: str) -> str:
    """The content of the channels other than analysis and thought, and the text outside all channels."""
    kept, at = [], 0
    for channel in _CHANNEL.finditer(text):
        if channel.start() < at:
            continue
        kept.append(text[at : channel.start()])
        end = _CHANNEL_END.search(text, channel.end())
        at = end.end() if end else len(text)
        if channel[1].lower() in ("final", "response"):
            kept.append(text[channel.end() : end.start() if end else len(text)])
        if end and end[0] == "<|start|>":
            at = end.start()
    return re.sub(r"<\|start\|>\w*", "", "\n".join([*kept, text[at:]]))


def statements(text: str) -> list[Statement]:
    """The last stated answers (a few, if there are many), in their order in the text."""
    text = without_emphasis(text)
    found = [
        *_BOXED.finditer(text),
        *_TAGGED.finditer(text),
        *_HASHES.finditer(text),
        *_SAID.finditer(text),
        *_HEADED.finditer(text),
    ]
    found = sorted(found, key=re.Match.start)[-MOST_STATEMENTS:]
    return [statement for statement in (_stated(text, match) for match in found) if statement and statement.text]


def _stated(text: str, match: re.Match) -> Statement | None:
    """The statement that one of the patterns found; None if it is not one."""
    if match.re is _BOXED:
        return Statement(_box(text, match.end()), True)
    if match.re is _TAGGED:
        return Statement(match[1].strip()[:LONGEST], True)
    if match.re is _HASHES:
        value = match[1] or match[2]
        heading = text[match.end() :].strip() and not _HASHED_VALUE.match(value)
        return None if heading else Statement(value[:LONGEST], True)
    # after a heading or a colon, the answer may be on the next line
    rest = text[match.end() : match.end() + LONGEST].lstrip(" \t\r\n")
    line = rest.split("\n", 1)[0].strip()
    if line.endswith(":") and "\n" in rest:
        line = rest.split("\n", 1)[1].strip().split("\n", 1)[0].strip()
    return Statement(line, False) if line.strip(" .*\"'$\\[]()") else None


def conclusion(text: str) -> str:
    """The conclusion of a worked answer: its last stated answer, else all of it, without reasoning."""
    text = without_reasoning(text)
    stated = statements(text)
    return stated[-1].sentence.strip() if stated else text


def _box(text: str, start: int) -> str:
    """The content of a box whose brace (or only word) is at `start`; the rest of the text if it is never closed."""
    if text[start] != "{":
        word = re.compile(r"-?[\w.,]*\w").match(text, start)
        return word[0] if word else ""
    depth, last = 0, min(len(text), start + LONGEST)
    for position in range(start, last):
        escaped = position > 0 and text[position - 1] == "\\"
        depth += 0 if escaped else {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + 1 : position].strip()
    return text[start + 1 : last].strip()


def first_sentence(line: str) -> str:
    end = _SENTENCE_END.search(line)
    return line[: end.start()] if end else line


def sentences(text: str) -> list[str]:
    """The sentences of a text, except for closing phrases ("let me know if …")."""
    found, at = [], 0
    for end in re.finditer(rf"{_SENTENCE_END.pattern}|\n+", text):
        found.append(text[at : end.end()])
        at = end.end()
    found.append(text[at:])
    # a sentence that also states a conclusion is not just a closing phrase
    while len(found) > 1 and (not found[-1].strip() or _CLOSING.search(found[-1])):
        found.pop()
    return found

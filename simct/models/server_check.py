"""A check of a teacher's server before a run depends on it: its model, tokenizer, limit and speed."""

import time
from dataclasses import dataclass
from typing import Any

from simct.config.sections import ModelConfig
from simct.models.served import ServedTeacher, ServerClient, served_models
from simct.models.server_address import key_for
from simct.tokenization.token_bytes import TokenBytes

PROBE = "The quick brown fox jumps over 12 lazy dogs; its price was $3.50, said café owner Zoë (twice).\n\n    return x"
# texts that are scored at once to measure the speed
PROBES = 4
# seconds without any answer, while a person waits: for the names of the models, and for scores
NAMES_PATIENCE, PATIENCE = 5.0, 15.0


@dataclass(frozen=True)
class ServerReport:
    """The result of checking a server. same_tokenizer is None if the server does not say how it reads the ids."""

    model: str
    context_length: int | None
    listed: int
    same_tokenizer: bool | None
    seconds: float
    tokens_per_second: float

    def line(self) -> str:
        """The report as one sentence, without the tokenizer."""
        context = f", up to {self.context_length:,} tokens" if self.context_length else ""
        return (
            f"The server has {self.model}{context}, lists {self.listed} tokens at each position, answers in "
            f"{self.seconds:.2f} s and scores {self.tokens_per_second:,.0f} tokens per second."
        )


def names_on_server(
    url: str, token: str | bool | None = None, key: str | None = None, public: bool | None = None
) -> list[str]:
    """The names of the models that a server has. Raises ConfigError or RunError for one that cannot be asked."""
    client = ServerClient(url, key_for(url, token, key), NAMES_PATIENCE, public)
    try:
        return list(served_models(client))
    finally:
        client.close()


def look_at_server(
    config: ModelConfig,
    tokens: TokenBytes,
    token: str | bool | None = None,
    key: str | None = None,
    public: bool | None = None,
) -> ServerReport:
    """Ask the server that `config` names, with `key` or the one that key_for finds; `public`: only if it is a public
    one (None: on a Space). Raises ConfigError or RunError for one that cannot be used.
    """
    # an address where nobody answers is known sooner by this
    names_on_server(config.server or "", token, key, public)
    teacher = ServedTeacher(config, tokens, token, PATIENCE, key, public)
    try:
        ids = tokens.encode(PROBE.encode())
        started = time.perf_counter()
        listed = teacher.score(ids[:2])
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        teacher.start([ids[:1]] * PROBES, [ids[1:] + ids[place:] for place in range(PROBES)])()
        listed = teacher.score(ids)
        speed = (PROBES * 2 + 1) * len(ids) / (time.perf_counter() - started)
    finally:
        teacher.close()
    return ServerReport(
        teacher.name, teacher.context_length, teacher.listed, _same_tokenizer(tokens, ids, listed), seconds, speed
    )


def _same_tokenizer(tokens: TokenBytes, ids: list[int], listed: list[Any]) -> bool | None:
    """Whether the server's tokens for `ids` are those of `tokens`, except for white space at their ends."""
    same = []
    for token, entries in zip(ids[1:], listed[1:], strict=True):
        text = entries[str(token)].get("decoded_token") if isinstance(entries.get(str(token)), dict) else None
        ours = str(tokens.tokenizer.decode([token]))
        # servers show a part of a character in different ways
        if isinstance(text, str) and "\ufffd" not in text + ours:
            same.append(text.strip() == ours.strip())
    return all(same) if same else None

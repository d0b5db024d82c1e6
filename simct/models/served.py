"""A teacher on a server: log-probabilities of texts from an OpenAI-compatible completions endpoint, as in vLLM.

Token ids are sent, never text, and each response is checked to be for exactly those ids. The server lists the most
likely tokens at each position and the written one; only the sum of all others is known. Requests that fail temporarily
(429, 5xx, a lost connection, no answer) are repeated after growing waits, and a final failure is an error: a row is
never left out. Shapes: R rows, K listed tokens.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import torch

from simct.config.sections import ModelConfig, RolloutConfig
from simct.errors import ConfigError, RunError, SimCTError, brief
from simct.hub.redact import SET_KEY, redact
from simct.hub.retry import passing_status, patiently
from simct.losses.divergence import LOG_ZERO
from simct.losses.teacher_rows import ROUNDING, ListedRows
from simct.models.rollout import Rollout
from simct.models.server_address import key_for, target_of
from simct.models.vllm import sampling_body, until_end
from simct.tokenization.token_bytes import TokenBytes

REQUESTS_AT_ONCE = 16
# reading a long text takes only seconds, but a busy server may queue it
ANSWER_SECONDS = 600.0
CONNECT_SECONDS = 10.0
# Seconds without any answer, tries and waits together, after which a run gives up: more than one try that hangs.
PATIENCE = 900.0
LEAST_SECONDS = 1.0
LARGEST_ID = 2**31
# vLLM lists a token that the model excludes with this log-probability, because JSON has no infinity
EXCLUDED = -9999.0
Spans = list[list[tuple[int, int]]]


class ServerClient:
    """Requests to one server, with a key that is sent nowhere else: redirects are refused.

    `public`: only public servers are allowed (None: on a Space). Raises ConfigError for an address that is not allowed.
    """

    def __init__(
        self, url: str, key: str | None = None, patience: float = PATIENCE, public: bool | None = None
    ) -> None:
        self.url, self.key, self.patience = url, key, patience
        self.target, self.retries = target_of(url, public), 0
        self._answered = 0.0
        headers = self.target.headers | ({"Authorization": f"Bearer {key}"} if key else {})
        limits = httpx2.Limits(max_connections=REQUESTS_AT_ONCE)
        self.http = httpx2.Client(headers=headers, limits=limits, follow_redirects=False)

    def request(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON answer. Raises RunError or ConfigError, in one line without the key, once the server has not
        answered any request for `patience` seconds since this one was sent.
        """

        tries, started = 0, time.monotonic()

        def left() -> float:
            return self.patience - (time.monotonic() - max(started, self._answered))

        def send() -> httpx2.Response:
            nonlocal tries
            tries += 1
            self.retries += tries > 1
            method, seconds = "GET" if body is None else "POST", min(ANSWER_SECONDS, max(left(), LEAST_SECONDS))
            response = self.http.request(
                method,
                self.target.url + path,
                json=body,
                extensions=self.target.extensions,
                timeout=httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
            )
            if passing_status(response.status_code):
                response.raise_for_status()
            self._answered = time.monotonic()
            return response

        try:
            response = patiently(send, left_of=left)
        except httpx2.HTTPStatusError as error:
            raise self._refusal(error.response) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            reason, waited = self._plain(brief(error) or type(error).__name__), time.monotonic() - started
            raise RunError(
                f"The teacher's server at {self.url} does not answer ({reason}; waited {waited:.0f} s). Start it, or "
                "correct teacher.server."
            ) from error
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            answer = response.json()
        except (ValueError, RecursionError):  # not JSON, or nested too deeply
            answer = None
        if not isinstance(answer, dict):
            raise RunError(
                f"The teacher's server at {self.url} answered {path} with something other than JSON. Give the address "
                "of a server with vLLM's completions API."
            )
        return answer

    def _refusal(self, response: httpx2.Response) -> SimCTError:
        status, said = response.status_code, self._plain(_message(response))
        if status in (401, 403):
            given = "did not accept the key" if self.key else "wants a key"
            return ConfigError(f"The teacher's server at {self.url} {given} ({status}: {said}). {SET_KEY}")
        if 300 <= status < 400:
            where = self._plain(brief(response.headers.get("Location", "elsewhere")))
            return ConfigError(f"The teacher's server at {self.url} redirects to {where}. Give the final address.")
        if status == 404:
            return ConfigError(
                f"There is no completions endpoint at {self.url} (404: {said}). teacher.server is the address before "
                "/v1/completions, as vLLM serves it."
            )
        return RunError(f"The teacher's server at {self.url} answered {status}: {said}")

    def _plain(self, text: str) -> str:
        text = redact(text)
        return text.replace(self.key, "…") if self.key else text

    def close(self) -> None:
        self.http.close()


def _message(response: httpx2.Response) -> str:
    """A server's error message as one line."""
    try:
        said: Any = response.json()
    except (ValueError, RecursionError):
        said = response.text
    for name in ("error", "message", "detail"):
        said = said.get(name, said) if isinstance(said, dict) else said
    return brief(str(said)) or response.reason_phrase


def served_models(client: ServerClient) -> dict[str, dict[str, Any]]:
    """What the server reports about each model that it serves, by name. Raises RunError or ConfigError as `request`
    does.
    """
    models = client.request("/v1/models").get("data")
    found = models if isinstance(models, list) else []
    return {str(each.get("id")): each for each in found if isinstance(each, dict)}


class ServedTeacher:
    """The teacher of a run on its server, asked with `key` or the one that key_for finds.

    Raises ConfigError or RunError as soon as something about it is wrong.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokens: TokenBytes,
        token: str | bool | None = None,
        patience: float = PATIENCE,
        key: str | None = None,
        public: bool | None = None,
    ) -> None:
        url = config.server or ""
        self.tokens, self.listed = tokens, config.top_logprobs
        self.price = config.price_per_million_tokens
        # ids beyond the tokenizer spell nothing and are part of the rest
        self.vocabulary = max(len(tokens.bytes_of), max(tokens.end_ids) + 1)
        self.client = ServerClient(url, key_for(url, token, key), patience, public)
        self.pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="teacher")
        self._lock = threading.Lock()
        self._read, self._waited = 0, 0.0
        self.name, self.context_length = self._served_model(config.model)
        # one token costs nothing and checks the key, the model and the limit
        self.score([tokens.end_ids[0], tokens.end_ids[0]])

    def _served_model(self, wanted: str) -> tuple[str, int | None]:
        """The name under which the teacher is served, and the most tokens that it reads."""
        served = served_models(self.client)
        name = wanted if wanted in served else next(iter(served), "") if len(served) == 1 else ""
        if not name:
            names = ", ".join(served) or "none"
            raise ConfigError(
                f"The server at {self.client.url} does not serve the teacher {wanted!r}; it serves: {names}."
            )
        length = served[name].get("max_model_len")
        # one position is for the token that a completion must have
        return name, length - 1 if isinstance(length, int) else None

    def start(
        self, prompts: list[list[int]], completions: list[list[int]], spans: Spans | None = None
    ) -> Callable[[], ListedRows]:
        """Send the texts now; calling the result returns the rows. That call raises what `score` raises."""
        wanted = spans or [[(0, len(completion))] for completion in completions]
        sent: list[Future] = [
            self.pool.submit(self._rows, prompt, completion, places)
            for prompt, completion, places in zip(prompts, completions, wanted, strict=True)
        ]

        def wait() -> ListedRows:
            started = time.perf_counter()
            try:
                parts = [each.result() for each in sent]
            finally:
                for each in sent:
                    each.cancel()
                self._waited += time.perf_counter() - started
            return _joined([rows for part in parts for rows in part], self.vocabulary)

        return wait

    def write(self, prompts: Sequence[list[int]], settings: RolloutConfig, seeds: Sequence[int]) -> list[Rollout]:
        """One completion for each of `prompts`, sampled with `settings`, each with its own seed."""

        def complete(prompt: list[int], seed: int) -> Rollout:
            body = {
                "model": self.name,
                "prompt": prompt,
                **sampling_body(settings, self.tokens.end_ids),
                "seed": seed,
                "return_token_ids": True,
            }
            choice = _choice(self.client.request("/v1/completions", body))
            ids: Any = choice.get("token_ids")
            if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
                raise RunError(
                    f"The teacher's server at {self.client.url} returns no token ids. vLLM does from 0.10.2 on."
                )
            self._count(len(prompt) + len(ids))
            return until_end(prompt, ids, self.tokens.end_ids)

        return list(self.pool.map(complete, prompts, seeds))

    def usage(self) -> dict[str, float]:
        """Usage since the last call: tokens read and written, seconds waited, repeated requests, cost."""
        with self._lock:
            read, self._read = self._read, 0
        waited, self._waited = self._waited, 0.0
        retries, self.client.retries = self.client.retries, 0
        used = {"teacher_tokens": read, "teacher_waited": round(waited, 4), "teacher_retries": retries}
        return used | ({} if self.price is None else {"teacher_cost": read * self.price / 1e6})

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        self.client.close()

    def _count(self, tokens: int) -> None:
        with self._lock:
            self._read += tokens

    def _rows(
        self, prompt: list[int], completion: list[int], places: list[tuple[int, int]]
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        ids = prompt + completion
        listed = self.score(ids)
        first = len(prompt)
        return [
            self._part(ids[first + start : first + end], listed[first + start : first + end]) for start, end in places
        ]

    def score(self, ids: list[int]) -> list[Any]:
        """The listed log-probabilities at each position of `ids`; None at the first."""
        body = {
            "model": self.name,
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": self.listed,
            "return_token_ids": True,
        }
        try:
            choice = _choice(self.client.request("/v1/completions", body))
        except RunError as error:
            if "logprobs" in str(error):
                said = str(error).partition(" answered ")[2]
                raise ConfigError(
                    f"teacher.top_logprobs is {self.listed}, more than the server allows ({said}). Lower it, or start "
                    f"vLLM with --max-logprobs {self.listed}."
                ) from error
            raise
        listed = choice.get("prompt_logprobs")
        if listed is None:
            raise ConfigError(
                f"The server at {self.client.url} returns no prompt_logprobs. Serve the teacher with vLLM, or by an "
                "Inference Endpoint that runs vLLM."
            )
        echoed = choice.get("prompt_token_ids")
        if not isinstance(listed, list) or len(listed) != len(ids) or (echoed is not None and echoed != ids):
            raise RunError(
                f"The teacher's server at {self.client.url} answered about token ids other than those it was sent."
            )
        self._count(len(ids))
        return listed

    def _part(self, ids: list[int], listed: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Listed ids and log-probabilities [R, K] and the log of the rest [R] of some positions."""
        rows = [self._entries(token, entries) for token, entries in zip(ids, listed, strict=True)]
        width = max(map(len, rows), default=0)
        ids_RK = np.full((len(rows), width), self.vocabulary, np.int64)
        log_p_RK = np.full((len(rows), width), LOG_ZERO, np.float32)
        log_rest_R = np.full(len(rows), LOG_ZERO, np.float32)
        for row, found in enumerate(rows):
            ids_K, log_p_K = np.fromiter(found, np.int64, len(found)), np.fromiter(found.values(), float, len(found))
            log_p_K[log_p_K <= EXCLUDED] = LOG_ZERO
            unlisted = 1.0 - np.exp(log_p_K).sum()
            if len(found) < self.listed and unlisted > 1e3 * ROUNDING:
                raise RunError(
                    f"The teacher's server at {self.client.url} lists {len(found)} log-probabilities, and "
                    f"teacher.top_logprobs is {self.listed}. Lower it to {len(found)}."
                )
            known = ids_K < self.vocabulary
            ids_RK[row, : known.sum()], log_p_RK[row, : known.sum()] = ids_K[known], log_p_K[known]
            rest = (unlisted if unlisted > ROUNDING else 0.0) + np.exp(log_p_K[~known]).sum()
            log_rest_R[row] = np.log(rest) if rest > 0.0 else LOG_ZERO
        return ids_RK, log_p_RK, log_rest_R

    def _entries(self, token: int, entries: Any) -> dict[int, float]:
        """Log-probabilities by id, the written `token` first. Raises RunError if they cannot be probabilities."""
        try:
            found = {int(each): float(entry["logprob"]) for each, entry in entries.items()}
            own = found.pop(token)
            values = {token: own, **found}
            total = float(np.exp(np.array(list(values.values()))).sum())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"The teacher's server at {self.client.url} gave no log-probability of token {token} that it was sent. "
                "Check that it serves this model."
            ) from error
        if not 0 <= min(values) <= max(values) < LARGEST_ID:
            raise RunError(
                f"The teacher's server at {self.client.url} lists token ids that no vocabulary has. Check that it "
                "serves this model."
            )
        if not total <= 1.0 + 1e-2:
            raise RunError(
                f"The teacher's server at {self.client.url} gave probabilities that add up to {total:.3f}: they are "
                "not those of one distribution. Start vLLM with --logprobs-mode raw_logprobs."
            )
        return values


def _joined(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], vocabulary: int) -> ListedRows:
    width = max(ids_RK.shape[1] for ids_RK, _, _ in parts)

    def wide(values_RK: np.ndarray, unused: float) -> np.ndarray:
        return np.pad(values_RK, ((0, 0), (0, width - values_RK.shape[1])), constant_values=unused)

    return ListedRows(
        torch.from_numpy(np.concatenate([wide(ids_RK, vocabulary) for ids_RK, _, _ in parts])),
        torch.from_numpy(np.concatenate([wide(log_p_RK, LOG_ZERO) for _, log_p_RK, _ in parts])),
        torch.from_numpy(np.concatenate([log_rest_R for _, _, log_rest_R in parts])),
        vocabulary,
    )


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise RunError("The teacher's server gave an answer without a completion.")
    return choices[0]

"""Writing completions with vLLM, in this process (colocated) or on a separate server.

Before every step the student's weights are saved as safetensors and vLLM reloads them, so that rollouts come from the
weights that are trained. A draw is seeded by (seed, step, sample index) alone, but vLLM's sums depend on what it
batches together: unlike with transformers, a resumed run is the same in distribution and not bit for bit.

With `rollout.ahead` a step's completions are written while the previous step is trained (`start`, then `write`). Their
weights are then one step old, which on-policy distillation tolerates, because every token is still graded in its place.

A server must share a disk with the trainer and be started by
`VLLM_SERVER_DEV_MODE=1 vllm serve STUDENT --generation-config vllm`; this mode allows the calls that reload weights.
"""

import http.client
import json
import shutil
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from simct.config import RunConfig
from simct.config.precision import trained_dtype
from simct.config.sections import RolloutConfig
from simct.errors import ConfigError, RunError, brief
from simct.models.adapters import plain_state, without_adapters
from simct.models.rollout import Rollout
from simct.tokenization.token_bytes import TokenBytes, save_tokenizer

REQUESTS_AT_ONCE = 64
SERVER_TIMEOUT = 1800.0


class VllmWriter:
    """vLLM holding the student. Open it once, `sync` before each step, then `write`, or `start` for the next step.

    `folder` is where the weights are handed over. Raises ConfigError when vLLM is not installed, RunError when the
    server does not answer or refuses.
    """

    def __init__(self, config: RunConfig, student: PreTrainedModel, tokens: TokenBytes, folder: Path):
        self.config, self.tokens, self.folder = config, tokens, folder.resolve()
        self.url = (config.rollout.vllm_url or "").rstrip("/")
        self.engine: Any = None  # vllm.LLM, None with a server
        self._background = ThreadPoolExecutor(1)
        self._started: dict[int, Future] = {}
        known, rows = len(tokens.bytes_of), student.get_output_embeddings().weight.shape[0]
        # the ids with bytes, if the lm_head has more rows than that
        self.known_ids = list(range(known)) if rows > known else None
        if self.url:
            self.model = self._entry("/v1/models", None, "data").get("id")
        else:
            self._save(student)
            self.engine = _colocated(config, self.folder)

    def sync(self, student: PreTrainedModel) -> None:
        """Give vLLM `student`'s current weights and drop what it has cached with older ones."""
        self._save(student)
        arguments = {"weights_path": str(self.folder)}
        if self.engine is not None:
            self.engine.collective_rpc("reload_weights", kwargs=arguments)
            self.engine.reset_prefix_cache()
            return
        self._request("/collective_rpc", {"method": "reload_weights", "kwargs": arguments})
        self._request("/reset_prefix_cache", {})

    def has_started(self, step: int) -> bool:
        return step in self._started

    def start(self, prompts: list[list[int]], step: int, indices: list[int]) -> None:
        """Start the completions of a later step with vLLM's current weights; `write` then waits for them."""
        self._started[step] = self._background.submit(self._write, prompts, step, indices)

    def write(self, prompts: list[list[int]], step: int, indices: list[int]) -> list[Rollout]:
        """One completion for each of `prompts` (student ids); `indices` are their sample indices within the step."""
        started = self._started.pop(step, None)
        return started.result() if started else self._write(prompts, step, indices)

    def _write(self, prompts: list[list[int]], step: int, indices: list[int]) -> list[Rollout]:
        seeds = [sample_seed(self.config.training.seed, step, index) for index in indices]
        if self.engine is None:
            with ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests:
                written = list(requests.map(self._complete, prompts, seeds))
        else:
            from vllm import SamplingParams

            settings = [
                SamplingParams(
                    **self._sampling(), seed=seed, detokenize=False, allowed_token_ids=self.known_ids
                )
                for seed in seeds
            ]  # fmt: skip
            inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
            answers = self.engine.generate(inputs, settings, use_tqdm=False) if inputs else []
            written = [list(answer.outputs[0].token_ids) for answer in answers]
        return [until_end(prompt, ids, self.tokens.end_ids) for prompt, ids in zip(prompts, written, strict=True)]

    def close(self) -> None:
        """Free vLLM's memory and remove the weights that were handed over."""
        self._background.shutdown()
        self.engine = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sampling(self) -> dict[str, Any]:
        return sampling_body(self.config.rollout, self.tokens.end_ids)

    def _complete(self, prompt: list[int], seed: int) -> list[int]:
        body = {"model": self.model, "prompt": prompt, **self._sampling(), "seed": seed, "return_token_ids": True}
        if self.known_ids is not None:
            body["allowed_token_ids"] = self.known_ids
        ids: Any = self._entry("/v1/completions", body, "choices").get("token_ids")
        if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
            raise RunError(f"The vLLM server at {self.url} returns no token ids. Update it to 0.10.2 or later.")
        return ids

    def _save(self, student: PreTrainedModel) -> None:
        """Hand the weights over as a model folder; the tokenizer once, as vLLM reads it only when it starts."""
        without_adapters(student).save_pretrained(self.folder, state_dict=plain_state(student), safe_serialization=True)
        if not (self.folder / "tokenizer_config.json").is_file():
            save_tokenizer(self.tokens.tokenizer, self.folder)

    def _entry(self, path: str, body: dict[str, Any] | None, name: str) -> dict[str, Any]:
        """The first entry of the list with this name in the server's answer."""
        found = self._request(path, body).get(name)
        if not isinstance(found, list) or not found or not isinstance(found[0], dict):
            raise self._other_answer(path)
        return found[0]

    def _other_answer(self, path: str) -> RunError:
        return RunError(
            f"The server at {self.url} answered {path} with something that vLLM does not. Correct rollout.vllm_url."
        )

    def _request(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=SERVER_TIMEOUT) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            if error.code == 404 and path != "/v1/models":
                raise RunError(
                    f"The vLLM server at {self.url} has no {path}. Start it with VLLM_SERVER_DEV_MODE=1."
                ) from error
            answer = brief(error.read().decode(errors="replace"))
            raise RunError(f"The vLLM server at {self.url} answered {error.code} to {path}: {answer}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason: object = getattr(error, "reason", error)
            raise RunError(
                f"The vLLM server at {self.url} does not answer ({reason}). Start it, or correct rollout.vllm_url."
            ) from error
        try:
            answer = json.loads(text) if text else {}
        except (ValueError, RecursionError) as error:  # not JSON, or nested too deeply
            raise self._other_answer(path) from error
        return answer if isinstance(answer, dict) else {}


def sampling_body(rollout: RolloutConfig, end_ids: tuple[int, ...]) -> dict[str, Any]:
    """The sampling parameters for vLLM; all are given, because otherwise the model's own generation config would
    apply.
    """
    return {
        "temperature": rollout.temperature,
        "top_p": rollout.top_p,
        "top_k": rollout.top_k or -1,
        "min_p": rollout.min_p,
        "repetition_penalty": rollout.repetition_penalty,
        "max_tokens": rollout.max_new_tokens,
        "stop_token_ids": list(end_ids),
    }


def until_end(prompt: list[int], ids: list[int], end_ids: tuple[int, ...]) -> Rollout:
    """The rollout of sampled `ids`, cut after the first end of turn."""
    stop = next((position for position, token in enumerate(ids) if token in end_ids), None)
    return Rollout(prompt, ids if stop is None else ids[: stop + 1], stop is not None)


def sample_seed(seed: int, step: int, index: int) -> int:
    """The seed of one sample: a function of the run's seed, the step and the sample's index only."""
    return int(np.random.SeedSequence([seed, step, index]).generate_state(1, np.uint32)[0] >> 1)


def _colocated(config: RunConfig, folder: Path) -> Any:
    """A vllm.LLM with the model in `folder`. Raises ConfigError when vLLM is not installed."""
    try:
        from vllm import LLM
    except ImportError as error:
        raise ConfigError(
            "rollout.engine is 'vllm', which is not installed here. Install vllm, set rollout.vllm_url, or use the "
            "engine transformers."
        ) from error
    return LLM(
        model=str(folder),
        dtype=trained_dtype(config.student),
        max_model_len=config.training.max_length,
        gpu_memory_utilization=config.rollout.vllm_memory,
        seed=config.training.seed,
        trust_remote_code=False,
        disable_log_stats=True,
    )

"""The setup of every child: the libraries that read files, and the same Hub as its parent."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simct import demo
from simct.hub import client
from simct.workers.child import Worker
from simct.workers.nursery import nursery_with
from simct.workers.pool import Workers

# imported once, before the first child is forked, including modules that transformers and datasets import lazily
PRELOADED = (
    "tokenizers", "pyarrow.parquet", "pyarrow.json", "datasets", "jinja2.sandbox",
    "transformers.utils.chat_template_utils",
    "transformers.models.auto.tokenization_auto", "transformers.models.auto.modeling_auto",
    "transformers.tokenization_utils_tokenizers", "transformers.models.qwen2.tokenization_qwen2",
    "transformers.models.llama.configuration_llama", "transformers.models.qwen2.configuration_qwen2",
    "transformers.models.qwen3.configuration_qwen3", "transformers.models.gemma3.configuration_gemma3",
    "app.reading.models", "app.reading.texts", "app.reading.prompts", "app.reading.runs",
    "app.reading.servers",
    "simct.preflight.checklist", "simct.train",
)  # fmt: skip


@dataclass(frozen=True)
class HubSettings:
    """Which Hub a process uses, and where it stores downloads."""

    endpoint: str
    address: str
    hub_cache: str
    datasets_cache: str
    offline: bool
    without_xet: bool
    cache: str | None

    @classmethod
    def here(cls) -> "HubSettings":
        """The settings of this process."""
        import datasets
        from huggingface_hub import constants

        return cls(
            endpoint=constants.ENDPOINT,
            address=constants.HUGGINGFACE_CO_URL_TEMPLATE,
            hub_cache=str(constants.HF_HUB_CACHE),
            datasets_cache=str(datasets.config.HF_DATASETS_CACHE),
            offline=constants.HF_HUB_OFFLINE,
            without_xet=constants.HF_HUB_DISABLE_XET,
            cache=os.environ.get("SIMCT_CACHE"),
        )


def get_ready(worker: Worker, settings: HubSettings) -> None:
    """Use the parent's Hub, and tokenize a text with the embedded pair once, because first calls take longer."""
    import datasets
    import huggingface_hub
    from huggingface_hub import constants

    from app.reading.records import Source
    from app.reading.texts import read_text

    constants.ENDPOINT, constants.HUGGINGFACE_CO_URL_TEMPLATE = settings.endpoint, settings.address
    constants.HF_HUB_CACHE = settings.hub_cache
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = settings.offline
    constants.HF_HUB_DISABLE_XET = settings.without_xet
    huggingface_hub.hf_api.api.endpoint = settings.endpoint
    datasets.config.HF_ENDPOINT = settings.endpoint
    datasets.config.HF_DATASETS_CACHE = settings.datasets_cache
    if settings.cache is not None:
        os.environ["SIMCT_CACHE"] = settings.cache
    datasets.disable_progress_bars()
    client.fail_fast()
    teacher, student = Source("teacher", str(demo.TEACHER)), Source("student", str(demo.STUDENT))
    read_text(worker, teacher, student, "Say it plainly.", 1)


def explicit_token(token: str | bool | None) -> str | bool | None:
    """The token to pass to a child, which has none itself. None means the token stored on this machine."""
    from huggingface_hub import get_token

    return get_token() if token is None else token


def _setup() -> tuple[Any, ...]:
    return get_ready, HubSettings.here()


def reading_workers(visitor: Callable[[], str | None] = lambda: None) -> Workers:
    """Child processes that read files from visitors and from the Hub. `visitor` says whom a request is for."""
    return Workers(nursery_with(PRELOADED), _setup, visitor)

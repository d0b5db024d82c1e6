"""The weights of a model on the Hub, fetched into the Hub's own cache while their bytes are counted."""

from collections.abc import Callable
from typing import Any

from huggingface_hub import snapshot_download
from tqdm.auto import tqdm

FILES = ["model*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"]


def fetch_weights(
    name: str, revision: str | None, token: str | bool | None, on_bytes: Callable[[int, int | None], None]
) -> None:
    """Fetch what is not there yet. `on_bytes(bytes so far, bytes in all)` may raise, which ends the download.

    Raises what the Hub's client raises.
    """

    class Meter(tqdm):
        """Counts the bytes on disk and prints nothing."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self.counts = str(options.get("desc", "")).startswith("Reconstructing")
            super().__init__(*args, **{**options, "disable": True})
            self.so_far = 0

        def update(self, n: float | None = 1) -> bool | None:
            if self.counts:
                self.so_far += int(n or 0)
                on_bytes(self.so_far, int(self.total) if self.total else None)
            return super().update(n)

    snapshot_download(name, revision=revision, token=token, allow_patterns=FILES, tqdm_class=Meter, max_workers=4)

"""How the Hugging Face clients behave under the command: silent in logs, quick to notice a Hub out of reach."""

import logging
import sys
from collections.abc import Sequence

from simct.config import local_path

ANSWER_SECONDS = 10


def settle_clients(names: Sequence[str] = ()) -> None:
    """Show progress bars on terminals only; go offline when one of `names` is on the Hub and the Hub is out of reach.

    Offline, what is cached still loads, and what is not fails at once with its reason instead of after a minute of
    retries.
    """
    import datasets
    import huggingface_hub
    import transformers

    # they announce every retry; the reason is told once, at the end
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        huggingface_hub.utils.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
    on_hub = any(local_path(name) is None for name in names)
    if on_hub and not huggingface_hub.constants.HF_HUB_OFFLINE and not hub_answers():
        huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def hub_answers() -> bool:
    """Whether the Hub's address gives any answer at all."""
    import httpx2
    import huggingface_hub

    try:
        huggingface_hub.utils.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=ANSWER_SECONDS)
    except (httpx2.TransportError, httpx2.InvalidURL):
        return False
    return True

"""The environment of a process that trains for a visitor of a Space: only the variables on a list.

A Space has secrets in its environment (the sign-in secret, keys of its owner). Variables that are not on the list are
not passed on.
"""

import os
import tempfile
from collections.abc import Mapping

from simct.hub.redact import KEY_VARIABLE

NAMES = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "TEMP", "TMP",
        "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE", "HF_ENDPOINT", "HF_HOME", "TOKENIZERS_PARALLELISM", "SPACE_ID", "MASTER_ADDR",
        "MASTER_PORT",
    }
)  # fmt: skip
FAMILIES = (
    "LC_", "PYTHON", "CUDA_", "NVIDIA_", "NCCL_", "OMP_", "MKL_", "OPENBLAS_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_",
    "TRITON_", "ACCELERATE_", "HF_HUB_", "HF_DATASETS_", "HF_XET_", "SIMCT_",
)  # fmt: skip
WORDS = ("TOKEN", "SECRET", "PASSWORD", "KEY", "CREDENTIAL")
# ends in a word for a secret, but is not one
PLAIN = frozenset({"HF_HUB_DISABLE_IMPLICIT_TOKEN"})
# more folders that a visitor's run must not read, besides the runs folder, separated as in PATH
HIDDEN = "SIMCT_HIDDEN"


def is_visitors(owner: str | None) -> bool:
    """Whether a run is a visitor's: it has an owner, or it is on a Space, whatever its folder says."""
    return owner is not None or bool(os.environ.get("SPACE_ID"))


def visitors_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The part of this process's environment that a visitor's run gets, without tokens: a run gets its own token
    separately.
    """
    needed = {name: value for name, value in environment.items() if _is_needed(name)}
    # where Gradio stores visitors' uploads
    uploads = environment.get("GRADIO_TEMP_DIR") or os.path.join(tempfile.gettempdir(), "gradio")
    return {HIDDEN: uploads, **needed}


def _is_needed(name: str) -> bool:
    secret = name == KEY_VARIABLE or (name not in PLAIN and any(word in name.split("_") for word in WORDS))
    return (name in NAMES or name.startswith(FAMILIES)) and not secret

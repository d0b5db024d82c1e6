"""The studio as a Space: the same pages, for visitors who sign in with their own account."""

import os
import tempfile
from pathlib import Path

# read when gradio and huggingface_hub are imported
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# a token of the Space itself, where it has one, is never used for a visitor who has none
os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"

from app.server.settings import ZERO_GPU, Settings

if ZERO_GPU:
    import spaces  # noqa: F401  comes with such a Space, and must come before anything that asks for CUDA

from app.studio import serve

# persistent storage, where the Space has it, is mounted at /data
RUNS = Path(os.environ.get("RUNS_DIR") or ("/data/runs" if os.access("/data", os.W_OK) else tempfile.mkdtemp()))

if __name__ == "__main__":
    RUNS.mkdir(parents=True, exist_ok=True)
    serve(Settings(runs_dir=RUNS, public=True), host="0.0.0.0", port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))

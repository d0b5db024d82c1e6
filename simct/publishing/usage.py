"""Code that uses a published student, for its card and for the studio: transformers, vLLM and Ollama."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from simct.hub.repo_ids import hub_id
from simct.runs.folder import RunFolder

CONVERTER = "https://huggingface.co/spaces/ggml-org/gguf-my-repo"
# the Space's default: a quarter of the memory, with little loss
GGUF_KIND = "Q4_K_M"


@dataclass(frozen=True)
class PublishedStudent:
    """What the snippets depend on. `base` is the model that an adapter is loaded onto, None for a merged model."""

    repo_id: str
    chat: bool
    base: str | None = None
    base_revision: str | None = None
    rank: int | None = None


def published_student(run: RunFolder, repo_id: str, adapter: bool = False) -> PublishedStudent:
    config = run.config()
    base = config.student.model if adapter else None
    revision = config.student.revision if adapter and hub_id(config.student.model) else None
    return PublishedStudent(repo_id, has_chat_template(run.model_dir), base, revision, config.lora.rank)


def has_chat_template(model_dir: Path) -> bool:
    path = model_dir / "tokenizer_config.json"
    in_config = path.exists() and '"chat_template"' in path.read_text(encoding="utf-8", errors="replace")
    return in_config or (model_dir / "chat_template.jinja").exists()


def transformers_code(student: PublishedStudent, prompt: str = "...") -> str:
    """Python that asks the student something, by its chat template if it has one."""
    text = json.dumps(prompt, ensure_ascii=False)
    return "\n".join([*_loading(student), *_asking(text, student.chat)])


def _loading(student: PublishedStudent) -> list[str]:
    if student.base is None:
        return [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f'model_id = "{student.repo_id}"',
            "tokenizer = AutoTokenizer.from_pretrained(model_id)",
            "model = AutoModelForCausalLM.from_pretrained(model_id)",
        ]
    revision = f', revision="{student.base_revision}"' if student.base_revision else ""
    return [
        "from peft import PeftModel  # pip install peft",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model_id = "{student.repo_id}"',
        "tokenizer = AutoTokenizer.from_pretrained(model_id)",
        f'base = AutoModelForCausalLM.from_pretrained("{student.base}"{revision})',
        "model = PeftModel.from_pretrained(base, model_id)",
    ]


def _asking(text: str, chat: bool) -> list[str]:
    if chat:
        prepare = [
            f'messages = [{{"role": "user", "content": {text}}}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ")",
        ]
    else:
        prepare = [f'inputs = tokenizer({text}, return_tensors="pt")']
    return [
        *prepare,
        "output = model.generate(**inputs, max_new_tokens=256)",
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]


def vllm_commands(student: PublishedStudent, prompt: str = "...") -> str:
    """Shell commands that serve the student with vLLM and ask it something through its OpenAI-compatible API."""
    name = student.repo_id
    serve = f"vllm serve {name}"
    if student.base:
        rank = f" --max-lora-rank {_served_rank(student.rank)}" if student.rank else ""
        at = f" --revision {student.base_revision}" if student.base_revision else ""
        serve = f"vllm serve {student.base}{at} --enable-lora{rank} --lora-modules {name}={name}"
    asked = {"messages": [{"role": "user", "content": prompt}]} if student.chat else {"prompt": prompt}
    body = json.dumps({"model": name, **asked, "max_tokens": 256}, ensure_ascii=False)
    route = "chat/completions" if student.chat else "completions"
    return "\n".join(
        [
            "pip install vllm",
            serve,
            "# in another terminal:",
            f"curl http://localhost:8000/v1/{route} -H 'Content-Type: application/json' -d {shlex.quote(body)}",
        ]
    )


# the ranks that vLLM can reserve room for
SERVED_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def _served_rank(rank: int) -> int:
    return next((each for each in SERVED_RANKS if each >= rank), rank)


def gguf_repo(repo_id: str) -> str:
    """The repository that the Space makes from `repo_id`, if the same account converts it."""
    return f"{repo_id}-{GGUF_KIND}-GGUF"


def ollama_command(repo_id: str) -> str:
    return f"ollama run hf.co/{gguf_repo(repo_id)}"

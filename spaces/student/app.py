"""A chat with one published student. settings.json names the model and how it was made; a private one needs HF_TOKEN
as a secret of the Space."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TextIteratorStreamer,
)

MAX_PROMPT_TOKENS = 4096
MAX_NEW_TOKENS = 1024


def chosen() -> dict[str, str]:
    """The model, and the student, teacher and method it was made with: from settings.json, or the Space's MODEL_ID."""
    path = Path(__file__).with_name("settings.json")
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    settings["model"] = settings.get("model") or os.environ.get("MODEL_ID") or ""
    if not settings["model"]:
        raise SystemExit('Which model? Write settings.json next to app.py: {"model": "owner/name"}')
    return settings


def about(settings: dict[str, str]) -> str:
    """What the visitor talks to, as Markdown."""
    card = f"[Its model card](https://huggingface.co/{settings['model']}) says how it was trained and what it scores."
    if not settings.get("teacher"):
        return f"A small language model that learned from a larger one. {card}"
    return (
        f"**{settings['student']}**, a small language model that learned from **{settings['teacher']}**"
        f" ({settings['method']}, by SimCT Studio). {card} It can be wrong, and nobody has reviewed its answers."
    )


def load(model_id: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer and the model, on a GPU if there is one. Only safetensors are read; no code of the model is run."""
    tokenizer = AutoTokenizer.from_pretrained(model_id)
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    model = AutoModelForCausalLM.from_pretrained(model_id, dtype=dtype, use_safetensors=True)
    return tokenizer, model.to("cuda" if on_gpu else "cpu").eval()


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> torch.Tensor:
    """Ids [1, N] of a conversation by the model's own template, or of its last message if it has none.

    The oldest turns are dropped until the conversation fits.
    """
    if not tokenizer.chat_template:
        return tokenizer(messages[-1]["content"], return_tensors="pt")["input_ids"][:, -MAX_PROMPT_TOKENS:]
    while True:
        encoded = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        if encoded["input_ids"].shape[1] <= MAX_PROMPT_TOKENS or len(messages) <= 1:
            return encoded["input_ids"][:, -MAX_PROMPT_TOKENS:]
        messages = messages[2:]


def answer(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, ids: torch.Tensor, sampling: dict[str, Any]
) -> Iterator[str]:
    """The model's answer to ids [1, N] as it grows. Stops generating when the iterator is closed. Raises gr.Error."""
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=120)
    failure: list[Exception] = []
    stopped = threading.Event()

    def generate() -> None:
        try:
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                streamer=streamer,
                stopping_criteria=[lambda ids, scores: torch.full((ids.shape[0],), stopped.is_set())],
                **sampling,
            )
        except Exception as error:  # raised below; without this the page would wait for the streamer's timeout
            failure.append(error)
            streamer.end()

    threading.Thread(target=generate, daemon=True).start()
    text = ""
    try:
        for piece in streamer:
            text += piece
            yield text
    finally:
        stopped.set()  # the visitor stopped the answer, or left
    if failure:
        raise gr.Error(f"The model could not answer: {str(failure[0]).splitlines()[0]}")
    if not text:
        yield "(The model ended its turn at once.)"


def build(settings: dict[str, str], tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> gr.ChatInterface:
    """The page: a conversation, its settings, and what the model is."""

    def reply(message: str, history: list[dict], temperature: float, top_p: float, new_tokens: int) -> Iterator[str]:
        turns = [{"role": turn["role"], "content": _text(turn["content"])} for turn in history]
        ids = prompt_ids(tokenizer, [*turns, {"role": "user", "content": message}]).to(model.device)
        sampling: dict[str, Any] = {"do_sample": temperature > 0, "max_new_tokens": int(new_tokens)}
        if temperature > 0:
            sampling |= {"temperature": temperature, "top_p": top_p}
        yield from answer(tokenizer, model, ids, sampling)

    return gr.ChatInterface(
        reply,
        title=f"Chat with {settings['model']}",
        description=about(settings),
        additional_inputs=[
            gr.Slider(0, 1.5, value=0.6, step=0.05, label="Temperature (0: always the most likely token)"),
            gr.Slider(0.05, 1, value=0.95, step=0.05, label="Top-p"),
            gr.Slider(16, MAX_NEW_TOKENS, value=256, step=16, label="Longest answer, in tokens"),
        ],
        concurrency_limit=1,
        api_name="chat",
    )


def _text(content: object) -> str:
    """The text of a turn, which Gradio gives as text or as a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def unavailable(settings: dict[str, str], error: Exception) -> gr.Blocks:
    """The page of a Space whose model cannot be loaded: what is wrong, and what its owner can do."""
    reason = str(error).strip().splitlines()
    with gr.Blocks(title=settings["model"]) as page:
        gr.Markdown(
            f"## {settings['model']} could not be loaded\n\n`{reason[0][:300] if reason else type(error).__name__}`\n\n"
            "If the model is private or gated, add a secret `HF_TOKEN` with read access to it in this Space's settings,"
            " then restart the Space."
        )
    return page


if __name__ == "__main__":
    settings = chosen()
    page: gr.Blocks
    try:
        page = build(settings, *load(settings["model"]))
    except Exception as error:  # shown on the page, because only its owner sees the log of a Space
        page = unavailable(settings, error)
    page.launch(allowed_paths=[], show_error=True)

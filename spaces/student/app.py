"""A chat with one published student. settings.json names the model; a private one needs HF_TOKEN as a secret."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

MAX_PROMPT_TOKENS = 4096
MAX_NEW_TOKENS = 1024


def chosen_model() -> str:
    """The model named in settings.json, or in the MODEL_ID variable of the Space."""
    settings = Path(__file__).with_name("settings.json")
    named = json.loads(settings.read_text(encoding="utf-8")).get("model") if settings.exists() else None
    model_id = named or os.environ.get("MODEL_ID")
    if not model_id:
        raise SystemExit('Which model? Write settings.json beside app.py: {"model": "owner/name"}')
    return model_id


def load(model_id: str):
    """The tokenizer and the model, on a GPU if there is one. Only safetensors are read; no code of the model is run."""
    tokenizer = AutoTokenizer.from_pretrained(model_id)
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    model = AutoModelForCausalLM.from_pretrained(model_id, dtype=dtype, use_safetensors=True)
    return tokenizer, model.to("cuda" if on_gpu else "cpu").eval()


def prompt_ids(tokenizer, messages: list[dict[str, str]]) -> torch.Tensor:
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


def build(model_id: str, tokenizer, model) -> gr.ChatInterface:
    """The page: a conversation, its settings, and where the model comes from."""

    def reply(message: str, history: list[dict], temperature: float, top_p: float, new_tokens: int) -> Iterator[str]:
        turns = [{"role": turn["role"], "content": _text(turn["content"])} for turn in history]
        ids = prompt_ids(tokenizer, [*turns, {"role": "user", "content": message}]).to(model.device)
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=120)
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p} if temperature > 0 else {}
        options = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "max_new_tokens": int(new_tokens),
            "do_sample": False,
            "streamer": streamer,
            **sampling,
        }
        failure: list[Exception] = []

        def generate() -> None:
            try:
                model.generate(**options)
            except Exception as error:  # told in the page; without this the page would wait for the streamer's timeout
                failure.append(error)
                streamer.end()

        threading.Thread(target=generate, daemon=True).start()
        said = ""
        for piece in streamer:
            said += piece
            yield said
        if failure:
            raise gr.Error(f"The model could not answer: {str(failure[0]).splitlines()[0]}")
        if not said:
            yield "(The model ended its turn without a word.)"

    return gr.ChatInterface(
        reply,
        title=f"Chat with {model_id}",
        description=f"A student distilled with SimCT. [Model card](https://huggingface.co/{model_id})",
        additional_inputs=[
            gr.Slider(0, 1.5, value=0.6, step=0.05, label="Temperature (0: always the likeliest token)"),
            gr.Slider(0.05, 1, value=0.95, step=0.05, label="Top-p"),
            gr.Slider(16, MAX_NEW_TOKENS, value=256, step=16, label="Longest answer, in tokens"),
        ],
        concurrency_limit=1,
        api_name="chat",
    )


def _text(content: object) -> str:
    """The words of a turn, which Gradio gives as text or as a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else str(part.get("text") or "") for part in parts)


if __name__ == "__main__":
    model_id = chosen_model()
    build(model_id, *load(model_id)).launch(allowed_paths=[], show_error=True)

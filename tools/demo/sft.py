"""Make, fine-tune and score a small chat model on prompts with known answers.

Shapes: B examples, L ids, N answer ids in a batch, V vocabulary.
"""

import math
import random
from collections.abc import Callable
from typing import cast

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from tools.demo.exercises import check_answer

IGNORED = -100
# Draws one batch: (number of examples) -> list of (prompt, answer).
DrawBatch = Callable[[int], list[tuple[str, str]]]


def new_model(tokenizer: PreTrainedTokenizerBase, hidden_size: int, layers: int, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights and tied embeddings, sized for the tokenizer."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=0.05,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def chat_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The prompt as one user turn in the tokenizer's own template, ready for the answer."""
    messages = [{"role": "user", "content": prompt}]
    # one conversation, not tokenized, is one text
    return cast(str, tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def encode_batch(
    tokenizer: PreTrainedTokenizerBase, examples: list[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids_BL and labels_BL, where only the answer and its end of turn are labeled."""
    rows = []
    for prompt, answer in examples:
        prompt_ids = tokenizer(chat_prompt(tokenizer, prompt), add_special_tokens=False).input_ids
        answer_ids = [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        rows.append((prompt_ids + answer_ids, [IGNORED] * len(prompt_ids) + answer_ids))
    longest = max(len(ids) for ids, _ in rows)
    ids_BL = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in rows])
    labels_BL = torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in rows])
    return ids_BL, labels_BL


def fine_tune(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    draw_batch: DrawBatch,
    steps: int,
    learning_rate: float = 3e-3,
    batch_size: int = 64,
    warmup_steps: int = 60,
) -> float:
    """Fine-tune in place on fresh batches with AdamW, a warm-up and a cosine; returns the last loss (nats a token)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    for step in range(steps):
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = learning_rate * decay * min(1.0, (step + 1) / warmup_steps)
        ids_BL, labels_BL = encode_batch(tokenizer, draw_batch(batch_size))
        hidden_BLH = model.model(input_ids=ids_BL[:, :-1]).last_hidden_state
        answered_BL = labels_BL[:, 1:] != IGNORED
        logits_NV = model.lm_head(hidden_BLH[answered_BL])
        loss = cross_entropy(logits_NV, labels_BL[:, 1:][answered_BL])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    return loss.item()


@torch.no_grad()
def greedy_completions(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: list[str], max_new_tokens: int = 48
) -> list[str]:
    """Greedy answers to the prompts, each put into the tokenizer's chat template."""
    completions = []
    for start in range(0, len(prompts), 64):
        texts = [chat_prompt(tokenizer, prompt) for prompt in prompts[start : start + 64]]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        output_BL = model.generate(  # type: ignore[misc]  # transformers types self as a protocol that no model meets
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        completions += tokenizer.batch_decode(output_BL[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
    return completions


def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, exercises: list[dict[str, str]]) -> float:
    """Share of exercises whose greedy answer is exactly right."""
    completions = greedy_completions(model, tokenizer, [exercise["prompt"] for exercise in exercises])
    right = [check_answer(text, exercise["answer"]) for text, exercise in zip(completions, exercises, strict=True)]
    return sum(right) / len(right)


def seeded_batches(draw_example: Callable[[random.Random], tuple[str, str]], seed: int) -> DrawBatch:
    """Batches of independently drawn examples, the same for the same seed."""
    rng = random.Random(seed)
    return lambda size: [draw_example(rng) for _ in range(size)]

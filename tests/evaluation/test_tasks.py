"""What a task reads of a completion: its reasoning is marked even where the tokenizer would drop the marks."""

from tokenizers import AddedToken

from simct.evaluation.answers.check import answer_matches
from simct.evaluation.tasks import spoken_text
from simct.models.rollout import Rollout
from simct.tokenization.token_bytes import TokenBytes, token_bytes
from tests.support import trained_tokenizers as trained

MARKS = ["<think>", "</think>", "<|channel|>", "<|message|>", "<|end|>", "<|start|>"]


def marked_tokens() -> TokenBytes:
    return token_bytes(trained.with_text_tokens([AddedToken(mark, special=True) for mark in MARKS]))


def spoken(prompt: str, completion: str) -> str:
    tokens = marked_tokens()
    ids = [tokens.tokenizer.encode(text, add_special_tokens=False) for text in (prompt, completion)]
    return spoken_text(tokens, Rollout(ids[0], ids[1], False))


def test_reasoning_that_the_prompt_opened_is_no_answer():
    assert not answer_matches(spoken("What?<think>\n", "It is 18"), "18")
    assert answer_matches(spoken("What?<think>\n", "It is 20</think>18"), "18")
    assert answer_matches(spoken("What?<think>\n\n</think>\n\n", "It is 18"), "18")


def test_channels_made_of_special_tokens_are_distinguished():
    analysis = "<|channel|>analysis<|message|>Is it 20?<|end|><|start|>assistant"
    assert answer_matches(spoken("What?", f"{analysis}<|channel|>final<|message|>18"), "18")
    assert not answer_matches(spoken("What?", analysis), "20")


def test_a_plain_completion_is_read_without_its_special_tokens():
    assert spoken("What?", "It is 18<|end|>") == "It is 18"

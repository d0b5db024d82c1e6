import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from simct.demo import DEFAULT, PAIRS, STRESS
from simct.errors import DataError
from tools.demo import numbers, plain_words, sft
from tools.demo.build import RECIPES, hasty_words, held_out, place, train_prompts, write_exercises
from tools.demo.exercises import check_answer, load_exercises

PAIR_NAMES = sorted(PAIRS)
MODELS = [(name, role) for name in PAIR_NAMES for role in ("teacher", "student")]
# Teachers must know their task; students must visibly not, and still know some of it.
BANDS = {"teacher": (0.95, 1.0), "student": (0.30, 0.60)}


def load(name: str, role: str):
    folder = getattr(PAIRS[name], role)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(("name", "role"), MODELS)
def test_accuracy_is_in_the_promised_band(name, role):
    model, tokenizer = load(name, role)
    low, high = BANDS[role]
    # 100 of the 200 held-out exercises: a quarter of a band's width is about two standard errors.
    accuracy = sft.accuracy(model, tokenizer, load_exercises(PAIRS[name].eval)[:100])
    assert low - 0.02 <= accuracy <= high + 0.05


@pytest.mark.parametrize(("name", "role"), MODELS)
def test_folder_is_small_and_complete(name, role):
    folder = getattr(PAIRS[name], role)
    assert (folder / "model.safetensors").stat().st_size < 3_000_000
    model, tokenizer = load(name, role)
    assert model.config.model_type == "llama"
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    text = sft.chat_prompt(tokenizer, "hello")
    assert "hello" in text and text != "hello"


@pytest.mark.parametrize("name", PAIR_NAMES)
def test_tokenizers_really_differ(name):
    teacher, student = (AutoTokenizer.from_pretrained(getattr(PAIRS[name], role)) for role in ("teacher", "student"))
    assert teacher.get_chat_template() != student.get_chat_template()
    texts = [exercise["prompt"] for exercise in load_exercises(PAIRS[name].eval)]
    differing = sum(teacher.tokenize(text) != student.tokenize(text) for text in texts)
    assert differing > 0.8 * len(texts)
    for tokenizer in (teacher, student):
        strange = 'naïve Ω\n\t"x" 漢字 🙂 12345'
        assert tokenizer.decode(tokenizer(strange, add_special_tokens=False).input_ids) == strange


def test_plain_words_are_whole_and_shared_and_hard_words_are_not():
    teacher, student = (AutoTokenizer.from_pretrained(folder) for folder in (DEFAULT.teacher, DEFAULT.student))
    for word in plain_words.GLOSSARY.values():
        assert len(teacher.tokenize(f" {word}")) == len(student.tokenize(f" {word}")) == 1
    lost = [word for word in plain_words.GLOSSARY if teacher.tokenize(f" {word}") != student.tokenize(f" {word}")]
    assert len(lost) > 0.8 * len(plain_words.GLOSSARY)


@pytest.mark.parametrize(
    ("name", "whole", "split"), [("student_splits", "teacher", "student"), ("teacher_splits", "student", "teacher")]
)
def test_stress_pairs_split_numbers_on_the_named_side(name, whole, split):
    tokenizers = {role: AutoTokenizer.from_pretrained(getattr(STRESS[name], role)) for role in ("teacher", "student")}
    shared = set(tokenizers[whole].get_vocab()) & set(tokenizers[split].get_vocab())
    two_digits = [number for number in numbers.WORDS if number > 9]
    for text in [f" {number}" for number in two_digits]:
        assert len(tokenizers[whole].tokenize(text)) == 1
        pieces = tokenizers[split].tokenize(text)
        assert len(pieces) > 1 and pieces[0] in shared, "the first piece is a shared token: a prefix conflict"


@pytest.mark.parametrize("name", PAIR_NAMES)
def test_no_exercise_is_both_trained_on_and_held_out(name):
    make_exercise = next(recipe.make_exercise for recipe in RECIPES if recipe.pair == name)
    held = {exercise.key for exercise in held_out(make_exercise)}
    assert len(held) == 200
    assert not held & {exercise.key for exercise in train_prompts(make_exercise)}


@pytest.mark.parametrize("name", ["default", "student_splits"])
def test_exercises_are_rebuilt_byte_for_byte(name, tmp_path):
    write_exercises(name, tmp_path)
    for committed in (PAIRS[name].prompts, PAIRS[name].eval):
        assert place(committed, tmp_path).read_bytes() == committed.read_bytes()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.pair}-{recipe.role}")
def test_tokenizers_are_rebuilt_byte_for_byte(recipe, tmp_path):
    recipe.tokenizer().save_pretrained(tmp_path)
    committed = getattr(PAIRS[recipe.pair], recipe.role)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / file).read_bytes() == (committed / file).read_bytes()


def test_answer_replaces_every_hard_word_and_a_draft_some():
    exercise = plain_words.Exercise("In plain words:", ("The", "nurse", "must", "utilise", "the", "apparatus"))
    assert exercise.prompt == "In plain words: The nurse must utilise the apparatus."
    assert exercise.answer == "The nurse must use the machine."
    assert exercise.draft({"utilise": 1.0, "apparatus": 0.0}, random.Random(0)) == "The nurse must utilise the machine."
    drafts = {hasty_words(exercise, random.Random(seed)) for seed in range(50)}
    assert len(drafts) > 1


def test_numbers_are_written_both_ways():
    assert numbers.Exercise(True, (12, 7)).prompt == "Write in words: 12 and 7."
    assert numbers.Exercise(True, (12, 7)).answer == "It is twelve and seven."
    assert numbers.Exercise(False, (40,)).prompt == "Write in digits: forty."
    assert numbers.Exercise(False, (40,)).answer == "It is 40."


def test_check_answer_ignores_white_space_only():
    assert check_answer(" We use\nit. ", "We use it.")
    assert not check_answer("We use it", "We use it.")
    assert not check_answer("We use it. We use it.", "We use it.")
    assert not check_answer("", "We use it.")


def test_a_broken_exercise_file_is_one_clear_error(tmp_path):
    broken = tmp_path / "eval.jsonl"
    with pytest.raises(DataError, match="is not a file of demo exercises"):
        load_exercises(broken)
    broken.write_text('{"prompt": "no answer"}\n')
    with pytest.raises(DataError):
        load_exercises(broken)

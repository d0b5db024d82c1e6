"""The memory-bounded path: hidden states and lm_heads of real architectures give the dense path's numbers."""

import pytest
import torch
import transformers

from simct.errors import ConfigError, ModelError
from simct.losses import compute, compute_from_hidden, side
from simct.losses.head import Head, check_head
from simct.methods import METHODS
from tests.support.loss_cases import TEXTS, same_pair, sequence, tiny_pair

SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip


def model_of(kind: str, vocabulary: int, seed: int = 0, **extra):
    """A tiny random model whose logits are far from uniform."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(vocab_size=vocabulary, **SIZES, **extra)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def rows_of(model, sequences: list[list[int]], seed: int = 3):
    """Hidden states of the rows that predict every id after a two-token prompt, flattened over sequences."""
    hidden = []
    for ids in sequences:
        output = model.base_model(input_ids=torch.tensor([[1, 2, *ids]]))
        hidden.append(output.last_hidden_state[0, 1:-1] if ids else output.last_hidden_state[0, :0])
    return torch.cat(hidden)


def both_paths(method, student, teacher, texts=TEXTS["mixed"], pair=None, chunk_rows=3, **options):
    """(result, gradients by parameter name) of the hidden path and of the dense path."""
    pair = pair or tiny_pair()
    sequences = [sequence(pair, *text) for text in texts]
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    with torch.no_grad():
        teacher_hidden = rows_of(teacher, ids[1])
    results = []
    for dense in (False, True):
        student.zero_grad()
        hidden = rows_of(student, ids[0])
        heads = Head.of(student), Head.of(teacher)
        if dense:
            result = compute(
                method, pair, heads[0].logits(hidden), heads[1].logits(teacher_hidden), *ids, chunk_rows=1000, **options
            )
        else:
            result = compute_from_hidden(
                method, pair, hidden, heads[0], teacher_hidden, heads[1], *ids, chunk_rows=chunk_rows, **options
            )
        result.loss.backward()
        gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
        results.append((result, gradients))
    return results


def assert_same(results, rtol=1e-5):
    (chunked, chunked_gradients), (dense, dense_gradients) = results
    assert chunked.rows == dense.rows > 0
    torch.testing.assert_close(chunked.loss, dense.loss, rtol=rtol, atol=1e-7)
    assert chunked_gradients.keys() == dense_gradients.keys()
    largest = max(gradient.abs().max() for gradient in dense_gradients.values())
    assert largest > 1e-4
    for name, gradient in dense_gradients.items():
        scale = gradient.norm().clamp_min(1e-3 * largest)
        assert (chunked_gradients[name] - gradient).norm() / scale < rtol, name


@pytest.fixture
def teacher():
    return model_of("Llama", len(tiny_pair().teacher.bytes_of) + 5, seed=1, tie_word_embeddings=False)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_equals_dense(method, teacher):
    assert_same(both_paths(method, model_of("Llama", 40, tie_word_embeddings=True), teacher))


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"tie_word_embeddings": False}),
        ("Gemma2", {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8}),
        ("Granite", {"logits_scaling": 3.0}),
        ("Cohere", {"logit_scale": 0.5, "use_qk_norm": False}),
        ("Phi", {"tie_word_embeddings": False}),  # a bias on the lm_head
    ],
)
@pytest.mark.parametrize("method", ["simct", "marginal"])
def test_every_head_equals_dense(kind, extra, method, teacher):
    student = model_of(kind, 41, **extra)
    ids = [3, 4, 5, 6]
    output = student(input_ids=torch.tensor([ids]), output_hidden_states=True)
    torch.testing.assert_close(Head.of(student).logits(output.hidden_states[-1]), output.logits, rtol=1e-5, atol=1e-5)
    check_head(student, ids)
    assert_same(both_paths(method, student, teacher))
    assert_same(both_paths(method, model_of("Llama", 41), model_of(kind, 50, seed=5, **extra)))


def gradients_of_head(method, student, teacher, texts, precision=None):
    """(loss, gradients of the hidden states, the weight and the bias) with float32 weights, under autocast if asked."""
    pair = tiny_pair()
    sequences = [sequence(pair, *text) for text in TEXTS[texts]]
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    with torch.no_grad():
        hidden, teacher_hidden = rows_of(student, ids[0]), rows_of(teacher, ids[1])
    hidden.requires_grad_()
    head = Head.of(student)
    tensors = [each for each in (hidden, head.weight, head.bias) if each is not None]
    student.zero_grad()
    with torch.autocast("cpu", dtype=precision or torch.bfloat16, enabled=precision is not None):
        result = compute_from_hidden(method, pair, hidden, head, teacher_hidden, Head.of(teacher), *ids, chunk_rows=2)
    result.loss.backward()
    return result.loss.detach(), [each.grad.clone() for each in tensors]


@pytest.mark.parametrize("method", ["simct", "strict"])
def test_rows_in_pieces_equal_dense(method, teacher, monkeypatch):
    """Blocks that are read and written a few rows at a time, with heads that change the product on the way."""
    monkeypatch.setattr(side, "CACHED_BYTES", 1)  # four rows, the fewest
    capped = {"final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8}
    scaled = {"logits_scaling": 3.0}
    for student in (model_of("Llama", 40), model_of("Gemma2", 41, **capped), model_of("Granite", 41, **scaled)):
        for options in ({}, {"temperature": 2.0}):
            assert_same(both_paths(method, student, teacher, TEXTS["mixed"] * 3, chunk_rows=11, **options))


@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("method", METHODS)
def test_mixed_precision_sums_gradients_in_float32(method, texts, teacher):
    """In blocks of two rows: the weight's gradient is a sum of many products, or of none."""
    student = model_of("Phi", 41, tie_word_embeddings=False)  # a bias on the lm_head
    exact_loss, exact = gradients_of_head(method, student, teacher, texts)
    loss, found = gradients_of_head(method, student, teacher, texts, torch.bfloat16)
    torch.testing.assert_close(loss, exact_loss, rtol=0.05, atol=0.01)
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        # uld and gold compare sorted probabilities by absolute value: rounding turns the sign of small differences
        assert (one - other).norm() <= (0.6 if method in ("uld", "gold") else 0.05) * other.norm()
    loss, found = gradients_of_head(method, student, teacher, texts, torch.float16)
    torch.testing.assert_close([loss, *found], [exact_loss, *exact], rtol=1e-5, atol=1e-7)


def test_head_that_scales_in_an_unknown_way_is_refused():
    student = model_of("Granite", 41, logits_scaling=3.0)
    student.lm_head.register_forward_hook(lambda module, inputs, output: output * 1.7)
    with pytest.raises(ModelError, match="cannot be distilled until"):
        check_head(student, [3, 4, 5])


@pytest.mark.parametrize("options", [{}, {"lora_bias": True}, {"modules_to_save": ["lm_head"]}])
def test_lora_on_the_head_trains_its_factors(options, teacher):
    peft = pytest.importorskip("peft")
    student = model_of("Phi" if options.get("lora_bias") else "Llama", 40, tie_word_embeddings=False)
    targets = ["lm_head", "q_proj"] if "modules_to_save" not in options else ["q_proj"]
    student = peft.get_peft_model(student, peft.LoraConfig(r=2, target_modules=targets, **options)).eval()
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter))
    base = student.get_base_model()
    output = base(input_ids=torch.tensor([[3, 4, 5]]), output_hidden_states=True)
    torch.testing.assert_close(Head.of(student).logits(output.hidden_states[-1]), output.logits, rtol=1e-4, atol=1e-4)
    results = both_paths("simct", base, teacher)
    assert_same(results)
    trained = [name for name in results[0][1] if "lm_head" in name]
    assert trained and all("lora" in name or "modules_to_save" in name for name in trained)


def test_dora_on_the_head_is_refused():
    peft = pytest.importorskip("peft")
    student = model_of("Llama", 40, tie_word_embeddings=False)
    student = peft.get_peft_model(student, peft.LoraConfig(r=2, target_modules=["lm_head"], use_dora=True))
    with pytest.raises(ModelError, match="not plain LoRA"):
        Head.of(student)


def test_frozen_head_still_trains_what_is_below(teacher):
    student = model_of("Llama", 40, tie_word_embeddings=False)
    student.lm_head.weight.requires_grad_(False)
    results = both_paths("simct", student, teacher)
    assert_same(results)
    assert "lm_head.weight" not in results[0][1] and len(results[0][1]) > 3


def test_no_gradients_without_grad_mode(teacher):
    pair, student = tiny_pair(), model_of("Llama", 40)
    teacher_ids, student_ids = sequence(pair, "abcd the")
    with torch.no_grad():
        result = compute_from_hidden(
            "simct", pair, rows_of(student, [student_ids]), Head.of(student), rows_of(teacher, [teacher_ids]),
            Head.of(teacher), student_ids, teacher_ids,
        )  # fmt: skip
    assert result.rows and not result.loss.requires_grad


def test_backward_twice_is_an_error():
    pair = same_pair()
    teacher_ids, student_ids = sequence(pair, "ab")
    width = len(pair.student.bytes_of)
    logits = torch.randn(len(student_ids), width, requires_grad=True)
    result = compute("simct", pair, logits, torch.randn(len(teacher_ids), width), student_ids, teacher_ids)
    result.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="call backward once"):
        result.loss.backward()


def test_chunk_rows_must_be_positive():
    pair = same_pair()
    logits = torch.zeros(1, len(pair.student.bytes_of))
    with pytest.raises(ConfigError, match="chunk_rows is 0; it must be empty or 1 or more"):
        compute("simct", pair, logits, logits, [3], [3], chunk_rows=0)


@pytest.mark.parametrize("method", ["simct", "strict"])
def test_never_holds_all_rows_of_the_vocabulary(method):
    """The largest tensor made on the way is far below [N, V]: counted through torch's own dispatcher."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            output = function(*args, **(kwargs or {}))
            for value in output if isinstance(output, tuple | list) else [output]:
                if isinstance(value, torch.Tensor) and value.numel():
                    Largest.seen = max(Largest.seen, value.untyped_storage().nbytes() // value.element_size())
            return output

    pair, rows, width = tiny_pair(), 0, 500
    sequences = [sequence(pair, "the or abcd 123 world")] * 60
    rows = sum(len(s) for _, s in sequences)
    teacher_rows = sum(len(t) for t, _ in sequences)
    hidden = torch.randn(rows, 4, requires_grad=True)
    heads = [Head(torch.randn(width, 4, requires_grad=True)), Head(torch.randn(width, 4))]
    with Largest():
        compute_from_hidden(
            method, pair, hidden, heads[0], torch.randn(teacher_rows, 4), heads[1], [s for _, s in sequences],
            [t for t, _ in sequences], chunk_rows=16, diagnostics=False,
        ).loss.backward()  # fmt: skip
    assert hidden.grad.abs().sum() > 0
    assert width * 4 <= Largest.seen <= 2 * 16 * width < rows * width / 10

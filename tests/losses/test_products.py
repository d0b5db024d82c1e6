"""Products by oneDNN are torch's own, forward and backward, and are made only where they are faster."""

import copy

import pytest
import torch

from simct.config.sections import ModelConfig
from simct.demo import STUDENT
from simct.losses import products
from simct.losses.products import Linear, linear, multiply_faster, suits
from simct.models.loading import load_model

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch was built without oneDNN"
)


@pytest.fixture
def used(monkeypatch) -> list[torch.Size]:
    """On any machine, products by oneDNN however small; the shapes of those that were made."""
    made: list[torch.Size] = []
    original = products._product

    def product(inputs, weight, bias=None):
        made.append(inputs.shape)
        return original(inputs, weight, bias)

    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "LEAST", 1)
    monkeypatch.setattr(products, "_product", product)
    return made


@needs_onednn
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 12), (2, 32, 12), (1, 1, 12)])
def test_products_and_gradients_are_those_of_torch(shape, with_bias, used):
    torch.manual_seed(0)
    inputs, weight = torch.randn(shape), torch.randn(7, 12)
    tensors = [inputs, weight, *([torch.randn(7)] if with_bias else [])]
    of_output = torch.randn(*shape[:-1], 7)
    both = []
    for multiply in (linear, torch.nn.functional.linear):
        leaves = [each.clone().requires_grad_() for each in tensors]
        output = multiply(*leaves)
        output.backward(of_output)
        both.append([output.detach(), *(each.grad for each in leaves)])
    assert len(used) == 3
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(linear(*tensors), both[0][0])
    assert len(used) == 4


@needs_onednn
def test_a_frozen_weight_and_inputs_without_gradient_get_none(used):
    inputs, weight = torch.randn(4, 12, requires_grad=True), torch.randn(7, 12)
    linear(inputs, weight).sum().backward()
    torch.testing.assert_close(inputs.grad, weight.sum(0).expand(4, 12))
    assert len(used) == 2
    weight.requires_grad_()
    linear(inputs.detach(), weight).sum().backward()
    torch.testing.assert_close(weight.grad, inputs.detach().sum(0).expand(7, 12))
    assert len(used) == 4


def test_only_large_products_in_float32_are_made(monkeypatch):
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    weight = torch.empty(1024, 1024)
    assert suits(torch.empty(2, 1024), weight) and suits(torch.empty(4, 96, 1024), weight)
    assert not suits(torch.empty(1, 1024), weight)
    # it would be prepared for this number of rows alone
    assert not suits(torch.empty(97, 1024), weight) and suits(torch.empty(1021, 1024), weight)
    assert not suits(torch.empty(96, 1024, dtype=torch.float64), weight.double())
    assert not suits(torch.empty(96, 1024, dtype=torch.bfloat16), weight.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not suits(torch.empty(96, 1024), weight)
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)
    assert not suits(torch.empty(96, 1024), weight)


@needs_onednn
def test_a_model_is_what_it_was(used):
    class Doubled(torch.nn.Linear):
        pass

    plain = torch.nn.Sequential(torch.nn.Linear(12, 7), Doubled(7, 3), torch.nn.LayerNorm(3))
    model = copy.deepcopy(plain)
    multiply_faster(model)
    assert [type(layer) for layer in model] == [Linear, Doubled, torch.nn.LayerNorm]
    inputs = torch.randn(5, 12)
    torch.testing.assert_close(model(inputs), plain(inputs))
    assert used == [(5, 12)]
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(copy.deepcopy(model)[0], Linear)


@needs_onednn
def test_models_are_loaded_with_it(monkeypatch):
    kinds = set()
    for faster in (False, True):
        monkeypatch.setattr(products, "onednn_is_faster", lambda faster=faster: faster)
        model = load_model(ModelConfig(model=str(STUDENT)))
        kinds.add(type(model.model.layers[0].mlp.up_proj))
    assert kinds == {torch.nn.Linear, Linear}

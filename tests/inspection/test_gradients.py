"""Inner products of gradients, on any device."""

from types import SimpleNamespace

import torch

from simct.inspection.gradients import in_float64, inner_products


def test_inner_products_are_those_of_whole_gradients():
    torch.manual_seed(0)
    gradients = [[torch.randn(70_000), torch.randn(3, 5)] for _ in range(3)]
    whole_GN = torch.stack([torch.cat([part.flatten() for part in each]) for each in gradients]).double()
    torch.testing.assert_close(inner_products(gradients), whole_GN @ whole_GN.T)


def test_a_device_without_float64_gets_it_on_the_cpu():
    """No machine of the tests has such a device."""
    apple = SimpleNamespace(device=SimpleNamespace(type="mps"), cpu=lambda: torch.ones(2))
    assert torch.equal(in_float64(apple), torch.ones(2, dtype=torch.float64))

"""The benchmark of the losses: what it compares is the same computation, and its cells and table hold together."""

import pytest
import torch
from torch.nn.functional import linear

from benchmarks import loss as benchmark
from simct.losses import compute_from_hidden
from simct.losses.head import Head
from simct.tokenization.units import build_units


def test_plain_dense_simct_is_the_same_loss():
    pair = benchmark.SyntheticPair(300, 400)
    teacher_ids, student_ids = pair.text(40, 0.3)
    units = build_units(pair, [(teacher_ids, student_ids)])
    assert len(student_ids) == 40 and 5 < (~units.single_U).sum() < len(units)
    hidden_s, hidden_t = torch.randn(len(student_ids), 8, requires_grad=True), torch.randn(len(teacher_ids), 8)
    weight_s, weight_t = torch.randn(300, 8, requires_grad=True), torch.randn(400, 8)
    dense = benchmark.dense_simct(pair, units, linear(hidden_s, weight_s), linear(hidden_t, weight_t))
    dense.backward()
    expected = hidden_s.grad, weight_s.grad
    hidden_s.grad = weight_s.grad = None
    ours = compute_from_hidden(
        "simct", pair, hidden_s, Head(weight_s), hidden_t, Head(weight_t), student_ids, teacher_ids
    )
    ours.loss.backward()
    torch.testing.assert_close(ours.loss, dense, rtol=1e-5, atol=1e-6)
    for ours_gradient, dense_gradient in zip((hidden_s.grad, weight_s.grad), expected, strict=True):
        assert (ours_gradient - dense_gradient).norm() < 1e-5 * dense_gradient.norm()


@pytest.mark.parametrize("what", ["bare products", "simct", "simct+prefix_free", "marginal", "dense simct"])
def test_every_kind_of_cell_runs(what):
    settings = {
        "device": "cpu", "dtype": "float32", "vocabularies": "300x400", "rows": 32, "multi": 0.2, "hidden": 8,
        "what": what, "diagnostics": True, "chunk_rows": None, "repeats": 1, "patience": 5.0,
    }  # fmt: skip
    result = benchmark.cell(settings)
    assert result["seconds"] > 0 and result["peak_mib"] >= 0


def test_table_gives_ratios_and_reasons():
    common = {"vocabularies": "3x4", "rows": 2, "peak_mib": 1.0}
    lines = benchmark.table(
        [
            {**common, "what": "bare products", "seconds": 2.0},
            {**common, "what": "simct", "seconds": 3.0},
            {**common, "what": "trl gold", "seconds": None, "reason": "No module named 'trl'"},
        ]
    )
    assert "| simct | 3.000 | 1.50 |" in lines and "not run: No module named 'trl'" in lines

"""The benchmark of decoding compares the same tokens, and knows how many sequences each step had."""

import argparse

from benchmarks import decoding


def test_both_write_the_same_and_the_bound_has_every_token_once():
    options = argparse.Namespace(model="embedded", dtype="float32", prompts=5, batch=2, tokens=12, length=8, repeats=1)
    row = decoding.measure(options)
    assert row["same"] == row["prompts"] == 5 and 5 <= row["tokens"] <= 60
    assert row["ratio"] == row["loop"] / row["bound"] > 0

"""The table of the stress benchmark: correct means and deviations, gathered from files and put between its marks."""

import json
from pathlib import Path

from benchmarks import stress as benchmark
from simct.losses import compute
from simct.methods import METHODS
from tests.support.loss_cases import case, tiny_pair

ROOT = Path(__file__).parents[2]


def run(seed, score, **fields):
    cell = {"pair": "default", "variant": "simct", "seed": seed, "rate": 1e-4, "steps": 60, "batch_size": 16}
    return {**cell, "score": score, **fields}


def test_table_is_gathered_from_all_files_into_the_document(tmp_path):
    start = {"default": {"teacher": 0.99, "student": 0.5}}
    for name, runs in (("stress", [run(0, 0.5), run(1, 0.7)]), ("stress_more", [run(1, 0.7), run(2, 0.6, rate=3e-4)])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"start": start, "runs": runs}))
    kept = benchmark.all_results(tmp_path / "stress.json")
    assert len(kept["runs"]) == 3
    document = tmp_path / "method.md"
    document.write_text(f"before\n{benchmark.BEGIN}\nold\n{benchmark.END}\nafter\n")
    benchmark.write_table(kept, document)
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| simct | 0.600 ± 0.141 (2) | 0.600 (1) |" in text
    assert "teacher 0.990, student before 0.500" in text


def test_distances_stand_beside_the_scores_and_a_run_taken_again_counts_once(tmp_path):
    start = {"default": {"teacher": 0.99, "student": 0.5, "student_to_teacher": 0.9, "teacher_to_student": 0.7}}
    distances = [{"student_to_teacher": near, "teacher_to_student": near / 2} for near in (0.2, 0.4, 0.3)]
    runs = [run(0, score, variant=variant) for variant, score in (("simct", 0.8), ("strict", 0.6), ("uld", 0.7))]
    measured = [each | found for each, found in zip(runs, distances, strict=True)]
    for name, kept in (("stress", runs), ("stress_again", measured)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"start": start, "runs": kept}))
    text = benchmark.table(benchmark.all_results(tmp_path / "stress.json"))
    assert "| simct | 0.800 (1) |" in text and "| before | | 0.500 | 0.900 | 0.700 |" in text
    assert "| strict | 0.0001, 60 | 0.600 | 0.400 | 0.200 |" in text
    assert "student to teacher 1.00, teacher to student 1.00" in text


def test_the_document_has_the_marks():
    text = (ROOT / "docs" / "method.md").read_text()
    assert text.count(benchmark.BEGIN) == text.count(benchmark.END) == 1


def test_every_variant_is_a_valid_use_of_a_method():
    pair = tiny_pair()
    sequences, student, teacher = case(pair, "mixed")
    ids = [s for _, s in sequences], [t for t, _ in sequences]
    for method, divergence, options in benchmark.VARIANTS.values():
        assert compute(method, pair, student, teacher, *ids, divergence, **options).rows > 0
    assert {method for method, _, _ in benchmark.VARIANTS.values()} == set(METHODS)

"""The paper's whole path in miniature, on the embedded pair: warm-up, seeds, scores, table, and continuing it."""

import pytest

from benchmarks import paper
from simct.presets import list_presets
from simct.runs.folder import RunFolder


def test_every_plan_has_its_preset():
    assert {plan.preset for plan in paper.PLANS.values()} <= {*list_presets()}


@pytest.mark.long
def test_the_embedded_pair_goes_all_the_way(tmp_path, capsys):
    command = ["embedded", "--methods", "simct", "--seeds", "2", "--folder", str(tmp_path), "--no-check"]
    assert paper.main(command) == 0
    printed = capsys.readouterr().out
    runs = {name: RunFolder(tmp_path / "embedded" / name) for name in ("warmup", "simct-seed-0", "simct-seed-1")}
    assert all(run.status().state == "finished" for run in runs.values())
    assert RunFolder(tmp_path / "embedded" / "simct-seed-1").config().student.model.endswith("warmup/model")
    last = printed.strip().splitlines()[-1]
    scores = [record["after"]["demo"]["score"] for record in paper.finished_runs(tmp_path / "embedded", "simct")]
    assert last == f"| simct | {paper.spread(scores)} |" and last.endswith("(2) |")

    before = {name: (run.path / "metrics.jsonl").stat().st_mtime_ns for name, run in runs.items() if name != "warmup"}
    published = tmp_path / "published.csv"
    published.write_text("method,task,mean,sd\nsimct,demo,99.5,0.25\n")
    assert paper.main([*command, "--published", str(published)]) == 0
    assert "| simct, paper | 99.5 ± 0.25 |" in capsys.readouterr().out
    after = {name: (run.path / "metrics.jsonl").stat().st_mtime_ns for name, run in runs.items() if name != "warmup"}
    assert before == after


def test_a_table_without_runs_says_so(tmp_path, capsys):
    assert paper.main(["qwen2.5-7b-to-phi-4-mini", "--table", "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "livecodebench_v6" in printed and "| simct | – | – | – | – |" in printed

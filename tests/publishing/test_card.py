"""The model card: what it states, that its metadata is valid, and that nothing a model wrote can break out of it."""

import html
import re
import tomllib
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image

import simct
from simct.config import load_config, save_config
from simct.evaluation.records import evaluations_of
from simct.hub.repo_ids import hub_id
from simct.methods import METHODS
from simct.publishing.card import escape, model_card, public_yaml, rollouts_card, shown_name
from simct.publishing.curve import loss_curve, nice_ticks, running_mean
from tests.support.hub_runs import finished_run


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path / "run")


def test_the_card_states_the_run(run):
    card = model_card(run, "me/tiny", license="mit")
    for fact in (
        "[acme/teacher](https://huggingface.co/acme/teacher) (commit `0123456789ab`)",
        "[acme/student](https://huggingface.co/acme/student)",
        "[acme/prompts](https://huggingface.co/datasets/acme/prompts)",
        "| Student before | 40.0 % (n = 200) |",
        "| **Student after** | 75.0 % (n = 200) |",
        "| Teacher | 98.5 % (n = 200) |",
        "| Shared tokens | 1,234 |",
        "| Recovered | 10.0% |",
        "arXiv 2605.07711, Eq. 6–9",
        "eprint        = {2605.07711}",
        'model_id = "me/tiny"',
        "apply_chat_template",
        "reverse KL",
        "finished all 3 steps",
        "invalid UTF-8: 3",
        "![Loss by step](training_curve.png)",
    ):
        assert fact in card, fact
    assert "$" not in re.sub(r"```.*?```", "", card, flags=re.DOTALL)  # every placeholder was filled


def test_the_metadata_is_what_the_hub_reads(run):
    parsed = ModelCard(model_card(run, "me/tiny", license="mit"))
    data = parsed.data
    assert (data.base_model, data.license, data.library_name) == ("acme/student", "mit", "transformers")
    assert data.to_dict()["base_model_relation"] == "finetune"
    assert data.to_dict()["teacher_model"] == "acme/teacher"
    assert data.datasets == ["acme/prompts"] and "simct" in data.tags and "method-simct" in data.tags
    (result,) = data.eval_results
    assert (result.metric_value, result.metric_type, result.dataset_type) == (0.75, "exact_match", "simct-demo")
    assert data.model_name == "tiny"


def test_scores_of_lm_eval_say_their_metric_and_seed(run):
    theirs = {"score": 0.5, "metric": "pass@1,create_test", "n": 164, "seed": 7}
    for scores in (run.evaluation() | {"after": {"humaneval": theirs}}, {"after": {"demo": {"score": 1.0}}}):
        run.save_evaluation(scores)
        card = model_card(run, "me/tiny", license="mit")
        own = "Share of greedy answers that match the reference answer." in card
        assert own == ("demo" in scores["after"])
        assert ("humaneval: pass@1,create_test by lm-eval, seed 7." in html.unescape(card)) == (not own)
        (result,) = ModelCard(card).data.eval_results
        assert result.metric_type == ("exact_match" if own else "pass@1")


def test_no_path_and_no_token_of_this_machine(tmp_path, monkeypatch):
    secret = tmp_path / "home-of-somebody"
    secret.mkdir()
    (secret / "my-student").mkdir()
    (secret / "mine.jsonl").write_text("{}")
    run = finished_run(
        tmp_path / "run",
        student={"model": str(secret / "my-student")},
        data={"prompts": str(secret / "mine.jsonl")},
        evaluation={"tasks": [str(secret / "mine.jsonl")]},
    )
    token = "hf_" + "a" * 30
    evaluation = run.evaluation()
    evaluation["after"] = {str(secret / "mine.jsonl"): evaluation["after"]["demo"]}
    evaluation["after"][str(secret / "mine.jsonl")]["samples"][0]["completion"] = f"my token is {token}"
    run.save_evaluation(evaluation)
    published = model_card(run, "me/tiny") + public_yaml(run.config()) + rollouts_card(run, "me/tiny")
    assert str(tmp_path) not in published and "home-of-somebody" not in published and token not in published
    assert "my-student" in html.unescape(published) and "mine.jsonl" in html.unescape(published)
    data = ModelCard(model_card(run, "me/tiny")).data
    assert data.base_model is None and data.datasets is None
    (tmp_path / "again.yaml").write_text(public_yaml(run.config()))
    assert load_config(tmp_path / "again.yaml").training.steps == 3  # what is published is a configuration that loads


def test_nothing_a_model_wrote_becomes_markup(run):
    evil = (
        "</td><script>alert(1)</script> [x](javascript:1) | ![i](http://e.vil/i.png) `code` **b**\n\n# H\n---\n$title"
    )
    evaluation = run.evaluation()
    evaluation["after"]["demo"]["samples"][0] |= {"prompt": evil, "completion": evil, "answer": evil}
    run.save_evaluation(evaluation)
    report = run.inspection()
    report["top_disagreements"][0] |= {"text": evil, "count": 1}
    run.save_inspection(report)
    card = model_card(run, "me/tiny")
    assert "<script" not in card and "javascript:" not in card and "://e.vil" not in card and "\n# H" not in card
    rows = [line for line in card.splitlines() if "alert" in line and line.startswith("|")]
    assert rows and all(line.count("|") == 5 for line in rows)
    assert card.count("\n---\n") == 1  # the metadata's end and no other
    assert html.unescape(escape(evil, 1000)) == " ".join(evil.split())


def test_escape_shortens_and_keeps_letters():
    assert escape("naïve 12 字") == "naïve 12 字"
    assert escape("a" * 50, 10) == "a" * 9 + "…"


@pytest.mark.parametrize("method", METHODS)
def test_a_card_for_every_method_and_for_a_bare_run(tmp_path, method):
    run = finished_run(tmp_path / "run", method=method)
    for name in ("evaluation.json", "inspect.json", "metrics.jsonl"):
        (run.path / name).unlink()
    (run.model_dir / "tokenizer_config.json").unlink()
    run.set_status(state="stopped", step=1)
    card = model_card(run, "me/tiny")
    assert METHODS[method].paragraph in card and f"the method {METHODS[method].title}" in card
    assert "measured no scores" in card and "(stopped) after 1 of 3 steps" in card
    assert ("| Divergence |" in card) == (METHODS[method].divergence is not None)
    assert 'tokenizer("...", return_tensors="pt")' in card and "No curve" in card
    assert ModelCard(card).data.eval_results is None


def test_what_is_out_of_the_ordinary_is_reported(tmp_path):
    card = model_card(finished_run(tmp_path / "plain"), "me/tiny")
    assert "LoRA" not in card and "not trained" not in card and "written by the teacher" not in card
    run = finished_run(
        tmp_path / "run",
        lora={"rank": 8, "alpha": 16},
        rollout={"on_policy_fraction": 0.75},
        training={"steps": 3, "freeze": ["embed_tokens"]},
    )
    card = model_card(run, "me/tiny")
    assert "| LoRA | rank 8, alpha 16, merged" in card and "25% of the answers written by the teacher" in card
    assert "| Parts not trained | embed&#95;tokens |" in card and "in part, the teacher's" in card


def test_a_warm_start_is_not_called_distillation(tmp_path):
    card = model_card(finished_run(tmp_path / "run", kind="warmup"), "me/tiny")
    assert "warmed up on answers of [acme/teacher]" in card and "**Warm start**" in card
    assert "distilled on-policy" not in card and "on-policy-distillation" not in card
    assert "The answers learned from are the teacher's." in card


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "here").mkdir()
    assert hub_id("acme/there") == "acme/there" and hub_id("gpt2") == "gpt2"
    assert hub_id("acme/here") is None and hub_id("/abs/x") is None and hub_id("a/b/c") is None and hub_id("") is None
    assert shown_name("/very/private/place/model-x") == "model-x"
    demo = Path(simct.__file__).parent / "demo" / "teacher"
    assert shown_name(str(demo)) == "SimCT Studio demo teacher"


def test_the_curve_is_a_picture_of_the_losses(tmp_path):
    metrics = [{"step": step, "loss": 2.0 if step < 50 else 0.5} for step in range(1, 101)]
    (tmp_path / "curve.png").write_bytes(loss_curve([*metrics, {"step": 101, "loss": float("nan")}, {"step": 102}]))
    image = Image.open(tmp_path / "curve.png").convert("RGB")
    width, height = image.size
    # Where the running mean is drawn: high on the left half, low at the right end.
    dark = [(x, y) for x in range(0, width, 4) for y in range(0, height, 2) if _is_line(image.getpixel((x, y)))]
    left = [y for x, y in dark if 0.2 * width < x < 0.45 * width]
    right = [y for x, y in dark if 0.9 * width < x]
    assert left and right and max(left) < min(right)
    assert loss_curve([]) is None and loss_curve([{"step": 1, "loss": 1.0}]) is None
    assert loss_curve([{"step": 1, "loss": 0.0}, {"step": 2, "loss": 0.0}])


def _is_line(pixel: tuple[int, int, int]) -> bool:
    return abs(pixel[0] - 0x2F) + abs(pixel[1] - 0x5B) + abs(pixel[2] - 0xD7) < 30


def test_ticks_cover_the_range():
    for low, high in ((0, 1), (0, 0.037), (-3, 8), (0, 12345), (5, 5), (0, 0)):
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8
    assert running_mean((0.0, 3.0, 6.0, 0.0)) == pytest.approx([0.0, 3.0, 3.0, 0.0])


def test_the_template_travels_with_the_package():
    package_data = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "publishing/*.md" in package_data["package-data"]["simct"]
    assert "$results" in (Path(simct.__file__).parent / "publishing" / "card_template.md").read_text()


def evaluated(run):
    """The run with three evaluations, the second of which is the best."""
    for step, mean in ((0, 0.9), (2, 0.5), (3, 0.6)):
        bits = {str(index): mean + 0.01 * (index % 3) for index in range(30)}
        distance = {"bits": bits, "bytes": 900, "excluded": {}}
        directions = {"student_to_teacher": distance, "teacher_to_student": distance}
        record = {"step": step, "distance": directions, "tasks": {}, "answers": [], "seconds": 1.0}
        run.append("evaluations.jsonl", record | {"prompts": 30, "every": 2})
    run.set_status(model_step=2, distance={"before": 0.91, "now": 0.61, "best": 0.51, "best_step": 2})
    return run


def test_the_card_states_the_distance_with_its_noise(run):
    card = html.unescape(model_card(evaluated(run), "me/tiny", license="mit"))
    for fact in (
        "| On held-out prompts | Before | Best (step 2) | End (step 3) | Change |",
        "| 0.910 ± 0.002 | 0.510 ± 0.002 | 0.610 ± 0.002 | -0.300 ± 0.000, exceeds noise |",
        "The published student is that of step 2.",
        "![Loss and distance to the teacher by step](training_curve.png)",
    ):
        assert fact in card, fact
    results = ModelCard(model_card(run, "me/tiny", license="mit")).data.eval_results
    values = {result.metric_type: result.metric_value for result in results}
    assert values["student_to_teacher_bits_per_byte"] == values["teacher_to_student_bits_per_byte"] == 0.51
    # the scores kept no outcomes of their prompts and no errors: nothing exceeds noise
    assert "+35.0 points, within noise" in card


def test_the_picture_has_the_distance_below_the_loss(run, tmp_path):
    alone = loss_curve(run.metrics())
    both = loss_curve(run.metrics(), evaluations_of(evaluated(run)))
    sizes = []
    for name, data in (("alone", alone), ("both", both)):
        (tmp_path / name).write_bytes(data)
        sizes.append(Image.open(tmp_path / name).size)
    assert sizes[1] == (sizes[0][0], 2 * sizes[0][1])


def test_the_card_says_that_the_teacher_was_served_and_not_where(run):
    config = run.config()
    assert "Teacher's probabilities" not in model_card(run, "me/tiny")
    config.teacher.server, config.teacher.top_logprobs = "http://10.0.0.7:8000", 32
    config.teacher.price_per_million_tokens = 2.5
    save_config(config, run.path / "run.yaml")
    card, published = model_card(run, "me/tiny"), public_yaml(run.config())
    assert "served over HTTP; at each position the 32 most likely tokens" in card
    assert f"student {config.student.dtype} |" in card
    assert "10.0.0.7" not in card + published and "price_per_million_tokens: 2.5" not in published

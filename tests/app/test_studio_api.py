"""The answers of a running studio to programs, through the real gradio_client."""

from pathlib import Path

import pytest
import yaml

from app.train.form import starting_config
from simct import demo
from simct.estimate.time_and_cost import estimate_run
from simct.inspection.coverage import inspect_pair
from simct.runs.folder import RunFolder
from simct.tokenization.pair import TokenizerPair
from tests.support import studio_page

gradio_client = pytest.importorskip("gradio_client")
PAIR = (str(demo.TEACHER), str(demo.STUDENT))
TEXT = "Say it plainly: the adolescent should purchase documentation."


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "runs"
    run = RunFolder.create(folder, starting_config())
    run.set_status(state="finished", step=150)
    run.save_evaluation({"after": {"demo": {"score": 0.75, "n": 8}}})
    return folder


@pytest.fixture(scope="module")
def client(runs_dir):
    with studio_page.running_studio(runs_dir) as url:
        yield gradio_client.Client(url, verbose=False)


def test_the_report_of_a_text_is_the_librarys(client):
    wrong, report = client.predict(*PAIR, TEXT, api_name="/inspect")
    known = inspect_pair(TokenizerPair.from_pretrained(*PAIR), [TEXT])
    assert wrong == ""
    assert {name: report[name] for name in ("shared_tokens", "unit_shapes", "student_strict_coverage")} == {
        name: getattr(known, name) for name in ("shared_tokens", "unit_shapes", "student_strict_coverage")
    }


def test_the_estimate_is_the_librarys_and_a_wrong_run_is_reported(client):
    config = starting_config()
    report = client.predict(yaml.safe_dump(config.model_dump()), api_name="/estimate")
    known = estimate_run(config, prompt_tokens=report["prompt_tokens"])
    assert (report["peak"], report["steps"]) == (known.peak, known.steps) and len(report["hardware"]) > 3
    for text, got in (("training: {steps: 0}", r"data\.prompts"), ("a: [", "not valid YAML"), ("x: 1", "Unknown")):
        with pytest.raises(Exception, match=got):
            client.predict(text, api_name="/estimate")


def test_runs_are_listed_and_nothing_can_be_changed(client, runs_dir):
    [run] = client.predict(api_name="/runs")
    assert (run["state"], run["step"], run["method"]) == ("finished", 150, "simct")
    assert run["scores"]["after"]["demo"]["score"] == 0.75
    names = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(names) == {"/inspect", "/estimate", "/runs"}
    documented = (Path(__file__).parents[2] / "docs" / "running.md").read_text()
    assert all(f'api_name="{name}"' in documented for name in names)

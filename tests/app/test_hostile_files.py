"""Files from strangers, read by a studio: each soon becomes one line, and everybody else is served in the meantime."""

import threading
import time
from dataclasses import replace

import pytest

from app.data import prompt_source
from app.inspect.document import read_document
from app.reading import models
from app.server import model_facts
from app.server.studio import Studio
from app.train import estimate, prepare
from simct import demo
from simct.config import config_from_dict
from simct.config.sections import DataConfig
from simct.errors import LimitError, SimCTError
from tests.support import hostile
from tests.support.hub_server import TOKEN

TEACHER, STUDENT = str(demo.TEACHER), str(demo.STUDENT)
TEXT = "Say it plainly: " + "a" * 60 + "!"
SOON = 40.0  # seconds, on a machine that does other things as well


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A studio for all of these, whose workers are warm."""
    studio = Studio(tmp_path_factory.mktemp("shared") / "runs", public=False)
    model_facts.read_pair(studio, TEACHER, STUDENT, None)
    yield studio
    studio.workers.close()


def run_config(student: str) -> dict:
    return {"teacher": {"model": TEACHER}, "student": {"model": student}, "data": {"prompts": str(demo.PROMPTS)}}


def read_prompts(studio: Studio, student: str) -> None:
    data, run = DataConfig(prompts=str(demo.PROMPTS)), config_from_dict(run_config(student))
    _, report = prompt_source.report(studio, TEACHER, student, data, run, None)
    # a template that merely fails is a problem of every prompt, and no error
    raise SimCTError(report.problems[0])


def read_data(studio: Studio, prompts: str) -> None:
    summary = prompt_source.read(studio, DataConfig(prompts=prompts), None).summary
    # a line that cannot be read is skipped
    raise SimCTError(summary.notices()[0])


def read_text(studio: Studio, student: str) -> None:
    read_document(studio, TEACHER, student, TEXT, None)


def make_estimate(studio: Studio, student: str) -> None:
    estimate.estimate(studio, config_from_dict(run_config(student)), None)


CASES = {
    **{
        f"template: {name}": (lambda tmp, text=text: hostile.model_folder(tmp / "m", text), read_prompts)
        for name, text in hostile.TEMPLATES.items()
    },
    **{
        f"layers: {layers!r}": (
            lambda tmp, layers=layers: hostile.model_folder(tmp / "m", num_hidden_layers=layers), make_estimate,
        )
        for layers in (1_000_000_000, 0, -1, 2.5, "many", True, [1])
    },
    "slow rule": (lambda tmp: hostile.model_folder(tmp / "m", tokenizer=hostile.with_slow_rule), read_text),
    "largest id": (lambda tmp: hostile.model_folder(tmp / "m", tokenizer=hostile.with_largest_id), read_text),
    "many tokens": (lambda tmp: hostile.model_folder(tmp / "m", tokenizer=hostile.with_many_tokens), read_text),
    "damaged tokenizer": (lambda tmp: hostile.model_folder(tmp / "m", tokenizer=hostile.damaged), read_text),
    "deep tokenizer": (
        lambda tmp: hostile.model_folder(tmp / "m", tokenizer=lambda _: "[" * 50_000 + "]" * 50_000), read_text,
    ),
    "layers of a tokenizer": (
        lambda tmp: hostile.model_folder(tmp / "m", num_hidden_layers=1_000_000_000, model_type="gemma3_text"),
        read_text,
    ),
    "deep JSON": (hostile.deep_json, read_data),
    "Parquet bomb": (hostile.parquet_bomb, read_data),
    "gzip bomb": (lambda tmp: hostile.zipped_bomb(tmp, ".gz"), read_data),
    "zstd bomb": (lambda tmp: hostile.zipped_bomb(tmp, ".zst"), read_data),
    "long line": (hostile.long_line, read_data),
    "YAML bomb": (lambda tmp: hostile.yaml_bomb(), prepare.read_run_yaml),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line_soon_and_the_next_request_is_served(shared, name, tmp_path):
    make, read = CASES[name]
    made = make(tmp_path)
    began = time.monotonic()
    with pytest.raises(SimCTError) as caught:
        read(shared, made)
    line = str(caught.value)
    assert time.monotonic() - began < SOON
    assert "\n" not in line and 20 < len(line) < 500 and line[-1] in ".!…"
    assert model_facts.read_pair(shared, STUDENT, TEACHER, None).shared_tokens > 0


def test_a_prompt_for_a_model_is_bounded_too(shared, tmp_path):
    """A template that is quick when the tokenizer is read, and slow on what the visitor asks."""
    template = "{% for m in messages %}{% if 'slowly' in m.content %}" + hostile.LOOPS + "{% endif %}"
    where = model_facts.source(
        shared, hostile.model_folder(tmp_path / "m", template + "{{ m.content }}{% endfor %}"), None
    )
    for text in ("Hello", "Hello, slowly"):
        messages = [{"role": "user", "content": text}]
        if "slowly" in text:
            with pytest.raises(LimitError, match=r"The chat template of .* did not finish within 5 s"):
                shared.workers.run(models.read_prompt, where, messages, what="The prompt")
        else:
            assert shared.workers.run(models.read_prompt, where, messages, what="The prompt")


def test_others_are_served_within_two_seconds_while_a_template_runs(shared, tmp_path):
    """No lock is held, and no child is everybody's."""
    slow = hostile.model_folder(tmp_path / "m", hostile.LOOPS)
    ended: list[str] = []

    def ask():
        try:
            read_prompts(shared, slow)
        except SimCTError as error:
            ended.append(str(error))

    hanging = [threading.Thread(target=ask) for _ in range(2)]
    [thread.start() for thread in hanging]
    time.sleep(0.5)
    waits = []
    for number in range(5):
        began = time.monotonic()
        assert len(read_document(shared, TEACHER, STUDENT, f"Say it plainly, {number}", None))
        waits.append(time.monotonic() - began)
        assert not ended
    [thread.join(SOON) for thread in hanging]
    assert max(waits) < 2 and len(ended) == 2 and all("did not finish" in line for line in ended)


def test_a_dataset_of_the_hub_that_crashes_its_reader_is_one_line(shared, hub):
    """The `datasets` library reads JSON by pyarrow, which overflows its stack."""
    deep = b'{"prompt": ' + b"[" * 50_000 + b"]" * 50_000 + b"}\n"
    hub.add_dataset("acme/deep", files={"train.jsonl": deep})
    hub.add_dataset("acme/plain", files={"train.jsonl": b'{"prompt": "What is 2+2?"}\n' * 3})
    with pytest.raises(SimCTError) as caught:
        read_data(shared, "acme/deep")
    assert "50,001 levels" in str(caught.value) and "\n" not in str(caught.value)
    assert prompt_source.read(shared, DataConfig(prompts="acme/plain"), None).count == 3


def test_a_child_has_no_token_but_the_one_it_is_given(shared, hub):
    """The machine's own token stays here: a child that is given none asks for nothing in its name."""
    hub.add_model("tester/private", demo.STUDENT, private=True)
    where = model_facts.source(shared, "tester/private", None)
    assert where.token == TOKEN
    assert model_facts.facts(shared, "tester/private", None).vocabulary > 0
    with pytest.raises(SimCTError):
        shared.workers.run(models.read_hub_model, replace(where, token=False), what="The model")

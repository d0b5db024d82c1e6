"""Looking into datasets before a download: by the real `datasets` client on the loopback Hub, and by the viewer."""

import io
import json
import re

import pyarrow
import pyarrow.parquet
import pytest

from simct.errors import DataError, HubError
from simct.hub import client
from simct.hub import datasets as dataset_rows
from simct.hub.datasets import dataset_info, preview_dataset
from tests.support.hub_routes import Answer, Request, route
from tests.support.hub_server import HubServer

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n), "turns": [{"role": "user"}]} for n in range(30)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TWO_CONFIGS = b"""---
license: cc-by-4.0
configs:
- config_name: easy
  data_files:
  - {split: train, path: easy/train-*}
  - {split: test, path: easy/test-*}
- config_name: hard
  default: true
  data_files:
  - {split: train, path: hard/*}
---
"""


def parquet(**columns) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def one_line(call) -> str:
    with pytest.raises((DataError, HubError)) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value)


def test_splits_columns_and_first_rows_of_plain_files(hub):
    hub.add_dataset("acme/lines", files={"train.jsonl": LINES, "test.jsonl": LINES})
    facts = dataset_info("acme/lines")
    assert facts.revision == hub.repos["datasets/acme/lines"].head.sha and facts.license is None
    [config] = facts.configs
    assert [split.name for split in config.splits] == ["train", "test"]
    assert config.columns == {"question": "string", "answer": "string", "turns": "list"}
    assert preview_dataset("acme/lines", split="test", n=3) == ROWS[:3]
    assert len(preview_dataset("acme/lines", n=500)) == 30


def test_configurations_are_named_and_looked_at_one_by_one(hub):
    files = {"easy/train-0.parquet": parquet(text=["a"], n=[1]), "easy/test-0.parquet": parquet(text=["b"], n=[2])}
    files |= {"hard/0.parquet": parquet(problem=["c"], level=[0.5]), "README.md": TWO_CONFIGS}
    hub.add_dataset("acme/two", files=files)
    facts = dataset_info("acme/two")
    assert [config.name for config in facts.configs] == ["hard", "easy"]  # the default one first
    assert facts.license == "cc-by-4.0" and facts.config().columns == {"problem": "string", "level": "float64"}
    easy = dataset_info("acme/two", config="easy").config("easy")
    assert [split.name for split in easy.splits] == ["train", "test"] and easy.columns == {
        "text": "string",
        "n": "int64",
    }
    assert preview_dataset("acme/two", "easy", "test", 5) == [{"text": "b", "n": 2}]
    assert preview_dataset("acme/two") == [{"problem": "c", "level": 0.5}]
    assert "no configuration 'none'; it has hard, easy" in one_line(lambda: dataset_info("acme/two", config="none"))
    assert "nosplit" in one_line(lambda: preview_dataset("acme/two", "easy", "nosplit"))


def test_what_cannot_be_read_is_one_line(hub, monkeypatch):
    hub.add_dataset("acme/script", files={"script.py": b"print(1)"})
    hub.add_dataset("acme/empty", files={"README.md": b"x"})
    hub.add_dataset("acme/broken", files={"train.jsonl": b"{nonsense\n"})
    gated = hub.add_dataset("acme/gated", files={"train.jsonl": LINES}, gated="manual")
    hub.add_dataset("tester/own", files={"train.jsonl": LINES}, private=True)
    for look in (dataset_info, preview_dataset):
        assert "its own script, which is never run" in one_line(lambda look=look: look("acme/script"))
        assert "no data files" in one_line(lambda look=look: look("acme/empty"))
        assert "acme/broken cannot be read" in one_line(lambda look=look: look("acme/broken"))
        got = one_line(lambda look=look: look("acme/gated"))
        assert f"Request it at {hub.url}/datasets/acme/gated" in got
        assert "no dataset acme/none" in one_line(lambda look=look: look("acme/none"))
        assert "sign in" in one_line(lambda look=look: look("tester/own", token=False))
        assert "not a repository id" in one_line(lambda look=look: look("a/b/c"))
    assert preview_dataset("tester/own", n=1) == ROWS[:1]  # by its owner's token
    gated.allowed.add("tester")
    assert dataset_info("acme/gated").gated and preview_dataset("acme/gated", n=1) == ROWS[:1]
    hub.fail("auth-check", 429, headers={"Retry-After": "7"})
    assert "Wait 7 s" in one_line(lambda: dataset_info("acme/gated"))
    with monkeypatch.context() as patch:
        patch.setattr(client, "CALL_SECONDS", 0.3)
        hub.fail("auth-check", delay=2.0)
        assert "did not answer in time" in one_line(lambda: preview_dataset("acme/gated"))


def test_long_and_odd_cells_are_cut(hub):
    long = dataset_rows.CELL_CHARACTERS + 1
    row = {"text": "x" * long, "many": list(range(99)), "inner": {"deep": "y" * long}}
    hub.add_dataset("acme/long", files={"train.jsonl": json.dumps(row).encode()})
    [shown] = preview_dataset("acme/long")
    assert len(shown["text"]) == dataset_rows.CELL_CHARACTERS and shown["text"].endswith("…")
    assert len(shown["many"]) == 50 and len(shown["inner"]["deep"]) == dataset_rows.CELL_CHARACTERS


@route("GET", r"/viewer/(?P<what>splits|info|first-rows)")
def _viewer(hub: HubServer, request: Request, what: str) -> Answer:
    """The dataset viewer's answers about acme/seen, in the shape its documentation gives."""
    seen = {"row_idx": 0, "row": {"prompt": "seen"}, "truncated_cells": []}
    got = {
        "splits": {"splits": [{"dataset": "acme/seen", "config": "main", "split": "train"}], "pending": []},
        "info": {
            "dataset_info": {
                "main": {
                    "features": {
                        "prompt": {"dtype": "string", "_type": "Value"},
                        "turns": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
                    },
                    "splits": {"train": {"name": "train", "num_bytes": 1234, "num_examples": 56}},
                }
            },
            "partial": False,
        },
        "first-rows": {"rows": getattr(hub, "viewed", [seen])},
    }
    return Answer.of(got[what])


def test_the_viewer_is_asked_first_and_the_repository_where_it_fails(hub, monkeypatch):
    hub.add_dataset("acme/seen", files={"train.jsonl": LINES})
    monkeypatch.setattr(dataset_rows, "viewer_address", lambda: f"{hub.url}/viewer")
    [config] = dataset_info("acme/seen").configs
    assert config.name == "main" and config.columns == {"prompt": "string", "turns": "list"}
    assert (config.splits[0].rows, config.splits[0].bytes) == (56, 1234)
    assert preview_dataset("acme/seen") == [{"prompt": "seen"}]
    asked = [request for request in hub.requests if request.path.startswith("/viewer")]
    assert {request.headers["authorization"] for request in asked} == {f"Bearer {hub.token}"}
    cut = {"row_idx": 0, "row": {"prompt": "se"}, "truncated_cells": ["prompt"]}
    monkeypatch.setattr(hub, "viewed", [cut], raising=False)
    assert preview_dataset("acme/seen", n=2) == ROWS[:2]
    hub.fail("/viewer", 500, times=9)
    assert dataset_info("acme/seen").config().columns["question"] == "string"
    assert preview_dataset("acme/seen", n=2) == ROWS[:2]


def test_a_hub_of_one_s_own_has_no_viewer(monkeypatch):
    assert dataset_rows.viewer_address() == dataset_rows.constants.DATASETS_SERVER_ENDPOINT
    monkeypatch.setattr(dataset_rows.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert dataset_rows.viewer_address() is None
    assert re.match("https://datasets-server", dataset_rows.constants.DATASETS_SERVER_ENDPOINT)

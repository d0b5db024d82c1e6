"""Folders, saved datasets and Hub datasets: the rows of the split asked for, or what to set."""

import gzip
import json

import datasets
import pytest

from simct.config.sections import DataConfig
from simct.data.prompts import PromptSet, read_prompts
from simct.data.sources import check_configuration, open_rows
from simct.errors import DataError, HubError
from tests.support.hub_server import HubServer


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"prompt": text}) + "\n" for text in texts).encode()


CARD = b"""---
configs:
- config_name: main
  data_files: [{split: train, path: main/*}]
- config_name: socratic
  data_files: [{split: train, path: socratic/*}]
---
"""
FOLDERS = {
    "one file": {"a.jsonl": lines("a", "b")},
    "shards": {"train-0-of-2.jsonl": lines("a"), "train-1-of-2.jsonl": lines("b"), "test.jsonl": lines("z")},
    "by split": {"train/x.csv": b"prompt\na\nb\n", "test/x.csv": b"prompt\nz\n"},
    "deep": {"x/y/1.jsonl": lines("a"), "x/y/2.jsonl": lines("b")},
    "compressed": {"1.jsonl.gz": gzip.compress(lines("a")), "2.jsonl.gz": gzip.compress(lines("b"))},
    "beside others": {"README.md": b"# x", "a.jsonl": lines("a", "b"), "LICENSE.txt": b"MIT", ".cache/c.json": b"{}"},
    "more images than rows": {"a.jsonl": lines("a", "b"), **{f"{n}.png": b"\x89PNG" for n in range(3)}},
    "other columns in each": {"1.jsonl": lines("a"), "2.jsonl": b'{"prompt": "b", "n": [1, "x"], "answer": {"x": 1}}'},
    "other encodings in each": {"1.csv": b"prompt;n\na;1\n", "2.csv": "prompt,n\nb,Großes\n".encode("cp1252")},
    "with an empty file": {"1.jsonl": lines("a", "b"), "2.jsonl": b""},
}  # fmt: skip


def make(folder, files: dict[str, bytes]):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def texts(found: PromptSet) -> list[str]:
    return [prompt.text for prompt in found.prompts]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(tmp_path, name):
    folder = make(tmp_path / "folder", FOLDERS[name])
    assert texts(read_prompts(DataConfig(prompts=str(folder)))) == ["a", "b"]


def test_a_folder_says_what_was_read_and_what_was_not(tmp_path):
    folder = make(tmp_path / "folder", {"1.jsonl": lines("a"), "2.jsonl": lines("b"), "3.csv": b"prompt\nc\n"})
    summary = read_prompts(DataConfig(prompts=str(folder))).summary
    assert summary.read_as == "JSON Lines of 2 files, utf-8"
    assert summary.notices() == ["Other files of the folder are not read: 3.csv."]


def test_configurations_of_a_folder(tmp_path):
    folder = make(tmp_path / "f", {"README.md": CARD, "main/a.jsonl": lines("a"), "socratic/b.jsonl": lines("b")})
    assert texts(read_prompts(DataConfig(prompts=str(folder), config_name="socratic"))) == ["b"]
    with pytest.raises(DataError, match=r"f has main and socratic: set data.config_name\.$"):
        read_prompts(DataConfig(prompts=str(folder)))
    with pytest.raises(DataError, match=r"no configuration 'third'; it has main and socratic: set data.config_name"):
        read_prompts(DataConfig(prompts=str(folder), config_name="third"))


def test_splits_of_a_folder(tmp_path):
    folder = make(tmp_path / "f", {"test.jsonl": lines("a", "b", "c"), "validation.jsonl": lines("z")})
    assert texts(read_prompts(DataConfig(prompts=str(folder), split="test"))) == ["a", "b", "c"]
    assert texts(read_prompts(DataConfig(prompts=str(folder), split="test[1:]"))) == ["b", "c"]
    with pytest.raises(DataError, match=r"no split 'train'; it has validation and test: set data.split"):
        read_prompts(DataConfig(prompts=str(folder)))


def test_folders_of_save_to_disk(tmp_path):
    rows = datasets.Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}])
    rows.save_to_disk(str(tmp_path / "plain"))
    datasets.DatasetDict(train=rows, test=rows.select([1])).save_to_disk(str(tmp_path / "splits"))
    found = read_prompts(DataConfig(prompts=str(tmp_path / "plain")))
    assert texts(found) == ["a", "b"] and found.summary.read_as == "saved dataset"
    assert texts(read_prompts(DataConfig(prompts=str(tmp_path / "splits")))) == ["a", "b"]
    assert texts(read_prompts(DataConfig(prompts=str(tmp_path / "splits"), split="test"))) == ["b"]
    with pytest.raises(DataError, match=r"no split 'dev'; it has train and test: set data.split"):
        read_prompts(DataConfig(prompts=str(tmp_path / "splits"), split="dev"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no file that can be read"),
        ({"a.docx": b"x", "b.png": b"x"}, "no file that can be read"),
        ({"a.jsonl": b""}, "is empty"),
        ({"state.json": b"{}"}, "Cannot load prompts"),
        ({"README.md": b"---\nconfigs: 7\n---\n", "a.jsonl": lines("a")}, "f"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, files, words):
    folder = tmp_path / "f"
    folder.mkdir()
    make(folder, files)
    with pytest.raises(DataError, match=words) as caught:
        read_prompts(DataConfig(prompts=str(folder)))
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(monkeypatch):
    with HubServer() as server:
        server.use(monkeypatch)
        yield server


def test_hub_datasets(hub):
    hub.add_dataset("acme/lines", files={"train.jsonl": lines("a", "b"), "test.jsonl": lines("z")})
    found = read_prompts(DataConfig(prompts="acme/lines"))
    assert texts(found) == ["a", "b"] and found.summary.read_as == "Hub dataset"
    assert [
        row["prompt"] for row in open_rows(DataConfig(prompts="acme/lines", split="test"), streaming=True).rows
    ] == ["z"]
    with pytest.raises(DataError, match=r"acme/lines has no split 'dev'; it has train and test: set data.split"):
        read_prompts(DataConfig(prompts="acme/lines", split="dev"))


def test_a_configuration_is_asked_for_by_name(hub):
    hub.add_dataset("acme/two", files={"README.md": CARD, "main/a.jsonl": lines("a"), "socratic/b.jsonl": lines("b")})
    words = r"^acme/two has main and socratic: set data.config_name\.$"
    with pytest.raises(DataError, match=words):
        read_prompts(DataConfig(prompts="acme/two"))
    with pytest.raises(DataError, match=words):
        check_configuration(DataConfig(prompts="acme/two"))
    check_configuration(DataConfig(prompts="acme/two", config_name="main"))
    assert texts(read_prompts(DataConfig(prompts="acme/two", config_name="socratic"))) == ["b"]


def test_rows_that_do_not_fit_one_table_are_read_one_by_one(hub):
    files = {"train-1.jsonl": lines("a"), "train-2.jsonl": b'{"prompt": "b", "answer": [{"x": 1}], "n": "one"}\n'}
    hub.add_dataset("acme/mixed", files=files)
    assert texts(read_prompts(DataConfig(prompts="acme/mixed"))) == ["a", "b"]


def test_a_hub_dataset_that_cannot_be_read_is_one_line(hub):
    hub.add_dataset("acme/empty", files={"README.md": b"x"})
    hub.add_dataset("acme/gated", files={"train.jsonl": lines("a")}, gated="manual")
    for name in ("acme/empty", "acme/gated", "acme/none"):
        with pytest.raises((DataError, HubError), match=name) as caught:
            read_prompts(DataConfig(prompts=name))
        assert "\n" not in str(caught.value)

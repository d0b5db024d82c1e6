"""A dataset names its own files as its data, and nothing else is asked for or read."""

import io

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from simct.config.sections import DataConfig
from simct.data.formats import Unreadable
from simct.data.sources import open_rows
from simct.errors import DataError
from simct.hub import data_files
from simct.hub.data_files import check_levels, check_own_files
from simct.hub.datasets import dataset_info, preview_dataset

OUTSIDE = (
    "http://127.0.0.1:PORT/x.jsonl", "https://evil.example/x.jsonl", "hf://datasets/acme/other/x.jsonl",
    "file:///etc/passwd", "/etc/passwd", "../x.jsonl", "a/../../x.jsonl", "~/x.jsonl", "s3://bucket/x.jsonl",
    "zip://x.jsonl::http://127.0.0.1:PORT/x.zip",
)  # fmt: skip
ROWS = b'{"prompt": "Say hello."}\n'


def card(setting: str) -> bytes:
    return f"---\nconfigs:\n- config_name: default\n{setting}---\n".encode()


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(
    "setting",
    ["  data_files: {}\n", "  data_files:\n  - split: train\n    path: {}\n",
     "  data_files:\n  - split: train\n    path: [train.jsonl, '{}']\n", "  data_dir: {}\n"],
)  # fmt: skip
def test_a_readme_names_files_of_its_own_dataset(hub, name, setting):
    name = name.replace("PORT", str(hub.port) if hasattr(hub, "port") else "9")
    files = {"README.md": card(setting.format(name)), "train.jsonl": ROWS}
    hub.add_dataset("acme/evil", files=files)
    hub.requests.clear()
    asked = [
        lambda: dataset_info("acme/evil"),
        lambda: preview_dataset("acme/evil"),
        lambda: list(open_rows(DataConfig(prompts="acme/evil")).rows),
    ]
    for ask in asked:
        with pytest.raises(DataError, match="not one of its files"):
            ask()
    assert not [request.path for request in hub.requests if request.path in ("/x.jsonl", "/x.zip")]


def test_a_folder_s_readme_is_read_as_carefully(tmp_path):
    (tmp_path / "README.md").write_bytes(card("  data_files: http://127.0.0.1:9/x.jsonl\n"))
    (tmp_path / "train.jsonl").write_bytes(ROWS)
    with pytest.raises(DataError, match="not one of its files"):
        list(open_rows(DataConfig(prompts=str(tmp_path))).rows)


def test_own_files_are_let_through(hub):
    hub.add_dataset("acme/own", files={"README.md": card("  data_files: data/*.jsonl\n"), "data/train.jsonl": ROWS})
    assert [row["prompt"] for row in open_rows(DataConfig(prompts="acme/own")).rows] == ["Say hello."]
    check_own_files({"data_files": [{"split": "train", "path": ["a/*.parquet", "b.csv"]}], "data_dir": "data"})


def deep(levels: int, between: str = "") -> bytes:
    return b'{"prompt": "a", "x": ' + ("[" + between).encode() * (levels - 1) + b"]" * (levels - 1) + b"}\n"


@pytest.mark.parametrize("name", ["train.jsonl", "train.json"])
@pytest.mark.parametrize("between", ["", "\n"])
def test_deeply_nested_json_ends_in_one_line(hub, name, between):
    # in pyarrow it would end the whole process
    hub.add_dataset("acme/deep", files={name: deep(50_000, between)})
    for ask in (
        lambda: dataset_info("acme/deep"),
        lambda: preview_dataset("acme/deep"),
        lambda: list(open_rows(DataConfig(prompts="acme/deep"), streaming=True).rows),
    ):
        with pytest.raises(DataError, match="JSON of 50,000 levels") as error:
            ask()
        assert "\n" not in str(error.value)


def test_a_deep_row_costs_no_other_row(hub):
    hub.add_dataset("acme/deep", files={"train.jsonl": ROWS + deep(50_000) + ROWS})
    rows = list(open_rows(DataConfig(prompts="acme/deep")).rows)
    assert [row["prompt"] for row in rows if isinstance(row, dict)] == ["Say hello."] * 2
    assert len(rows) == 3 and isinstance(rows[1], Unreadable)


@pytest.mark.parametrize(
    ("text", "levels"),
    [('{"a": [1, {"b": []}]}', 4), ('{"a": "[[[[[{{{"}', 1), (r'{"a": "\"[[[", "b": [1]}', 2), ("[]" * 500, 1), ("", 0),
     ('{"a": "cut\n[[[', 4)],
)  # fmt: skip
def test_levels_are_counted_outside_strings(monkeypatch, text, levels):
    monkeypatch.setattr(data_files, "MOST_LEVELS", levels)
    check_levels(text.encode())
    monkeypatch.setattr(data_files, "MOST_LEVELS", levels - 1)
    with pytest.raises(DataError):
        check_levels(text.encode())


IMAGE = datasets.Image()
NESTED = {
    "a column": IMAGE,
    "a list": datasets.List(IMAGE),
    "a list of lists": datasets.List(datasets.List(IMAGE)),
    "a record": {"image": IMAGE},
    "a list of records": datasets.List({"image": IMAGE, "text": datasets.Value("string")}),
    "a sound": datasets.Audio(),
}


@pytest.mark.parametrize("where", NESTED)
@pytest.mark.parametrize("streaming", [True, False])
def test_images_in_rows_are_neither_fetched_nor_decoded(hub, where, streaming):
    address = {"bytes": None, "path": f"{hub.url}/fetched.png"}
    values = {"a list": [address], "a list of lists": [[address]], "a record": {"image": address},
              "a list of records": [{"image": address, "text": "x"}]}  # fmt: skip
    schema = datasets.Features({"prompt": datasets.Value("string"), "shown": NESTED[where]}).arrow_schema
    table = pyarrow.Table.from_pylist([{"prompt": "Say hello.", "shown": values.get(where, address)}], schema)
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    hub.add_dataset("acme/seen", files={"train.parquet": file.getvalue()})
    hub.requests.clear()
    [row] = open_rows(DataConfig(prompts="acme/seen"), streaming=streaming).rows
    assert row["prompt"] == "Say hello." and row["shown"] == values.get(where, address)
    assert preview_dataset("acme/seen") == [row]
    assert not [request.path for request in hub.requests if "fetched" in request.path]

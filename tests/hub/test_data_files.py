"""A dataset names its own files as its data, and nothing else is asked for or read."""

import pytest

from simct.config.sections import DataConfig
from simct.data.sources import open_rows
from simct.errors import DataError
from simct.hub.data_files import check_own_files
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
        with pytest.raises(DataError, match="not a file of its own"):
            ask()
    assert not [request.path for request in hub.requests if request.path in ("/x.jsonl", "/x.zip")]


def test_a_folder_s_readme_is_read_as_carefully(tmp_path):
    (tmp_path / "README.md").write_bytes(card("  data_files: http://127.0.0.1:9/x.jsonl\n"))
    (tmp_path / "train.jsonl").write_bytes(ROWS)
    with pytest.raises(DataError, match="not a file of its own"):
        list(open_rows(DataConfig(prompts=str(tmp_path))).rows)


def test_own_files_are_let_through(hub):
    hub.add_dataset("acme/own", files={"README.md": card("  data_files: data/*.jsonl\n"), "data/train.jsonl": ROWS})
    assert [row["prompt"] for row in open_rows(DataConfig(prompts="acme/own")).rows] == ["Say hello."]
    check_own_files({"data_files": [{"split": "train", "path": ["a/*.parquet", "b.csv"]}], "data_dir": "data"})

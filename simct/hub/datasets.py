"""The content of a dataset on the Hub without a download: configurations, splits, columns, sizes, rows.

The Hub's dataset viewer has all of this for datasets that it has processed. For others, the `datasets` library streams
the rows that are shown from the repository. Loading scripts are never run.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import validate_repo_id

from simct.errors import DataError, SimCTError, brief, quoted
from simct.hub import client
from simct.hub.client import ask, hub_api
from simct.hub.data_files import datasets_library, undecoded
from simct.hub.errors import known_hub_error
from simct.hub.redact import redact

PUBLIC_HUB = "https://huggingface.co"
# longer cells are cut; no prompt that leaves room for an answer is nearly as long
CELL_CHARACTERS = 100_000


@dataclass(frozen=True)
class SplitFacts:
    """One split; `rows` and `bytes` are None where they are unknown."""

    name: str
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class ConfigFacts:
    """One configuration; `columns` maps each column to its type and is empty until it is read."""

    name: str
    splits: tuple[SplitFacts, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset at one commit. `configs` begins with the default configuration."""

    id: str
    revision: str | None
    license: str | None
    gated: bool
    private: bool
    configs: tuple[ConfigFacts, ...]

    def config(self, name: str | None = None) -> ConfigFacts:
        """The configuration of that name, or the first. Raises DataError."""
        for config in self.configs:
            if name in (None, "", config.name):
                return config
        raise DataError(
            f"{self.id} has no configuration {quoted(name)}; it has {', '.join(c.name for c in self.configs)}."
        )


def dataset_info(
    repo_id: str, token: str | bool | None = None, config: str | None = None, revision: str | None = None
) -> DatasetFacts:
    """Configurations, splits, columns and sizes of a dataset on the Hub.

    All configurations are named; columns are looked up for `config` (by default the first) and, where the viewer knows
    them, for all. Raises a one-line DataError or HubError: unknown, gated (with the page to ask at), offline.
    """
    try:
        validate_repo_id(repo_id)
        hub_api(token).auth_check(repo_id, repo_type="dataset")
        info = hub_api(token).dataset_info(repo_id, revision=revision, timeout=client.SEARCH_SECONDS)
        configs = (_viewed_configs(repo_id, token) if revision is None else None) or _read_configs(
            repo_id, config, info.sha, token
        )
    except Exception as error:
        raise dataset_error(error, repo_id) from error
    license = info.card_data.get("license") if info.card_data else None
    facts = DatasetFacts(
        id=repo_id,
        revision=info.sha,
        license=license if isinstance(license, str) else None,
        gated=bool(info.gated),
        private=bool(info.private),
        configs=configs,
    )
    facts.config(config)
    return facts


def preview_dataset(
    repo_id: str,
    config: str | None = None,
    split: str | None = None,
    n: int = 10,
    token: str | bool | None = None,
    revision: str | None = None,
) -> list[dict[str, Any]]:
    """The first `n` rows of a split of a dataset on the Hub, each a dict by column; long texts are cut.

    `config` and `split` default to the first. Raises a one-line DataError or HubError.
    """
    try:
        validate_repo_id(repo_id)
        hub_api(token).auth_check(repo_id, repo_type="dataset")
        rows = _viewed_rows(repo_id, config, split, n, token) if revision is None else None
        if rows is None:
            rows = _streamed_rows(repo_id, config, split, n, token, revision)
    except Exception as error:
        raise dataset_error(error, repo_id) from error
    return [{name: _cut(value) for name, value in row.items()} for row in rows]


def dataset_error(error: BaseException, repo_id: str) -> SimCTError:
    """What the Hub or the `datasets` library raised, as one line about `repo_id`."""
    known = error if isinstance(error, SimCTError) else known_hub_error(error, repo_id, kind="dataset")
    if known is not None:
        return known
    text = " ".join(str(error).split())
    if (choice := choice_error(text, repo_id)) is not None:
        return choice
    if "scripts are no longer supported" in text:
        return DataError(f"{repo_id} is loaded by its own script, which is never run. Choose another dataset.")
    if type(error).__name__ in ("EmptyDatasetError", "DataFilesNotFoundError"):
        return DataError(f"{repo_id} has no data files that can be read. Choose another dataset.")
    return DataError(redact(f"{repo_id} cannot be read: {text[:300] or type(error).__name__}"))


def choice_error(text: str, name: str) -> DataError | None:
    """The error for a configuration or split that must be chosen or does not exist; None if `datasets` says another."""
    what, setting = "split", "data.split"
    if "Config name is missing" in text or "BuilderConfig" in text:
        what, setting = "configuration", "data.config_name"
    elif not re.search(r"(Unknown|Bad) split", text):
        return None
    lists = re.findall(r"\[[^\[\]]*\]", text)
    try:
        names = [str(each) for each in ast.literal_eval(lists[-1])]
    except (IndexError, ValueError, SyntaxError):
        return None
    given = re.search(r"(?:split:? |BuilderConfig )['\"]?([^'\". ]+)", text)
    return wrong_choice(name, what, setting, names, given.group(1) if given else None)


def wrong_choice(name: str, what: str, setting: str, there: Sequence[str], given: str | None) -> DataError:
    """The error for a configuration or split that must be chosen (given None) or does not exist."""
    listed = " and ".join(there) if len(there) <= 2 else brief(", ".join(there))
    missing = f"no {what} {quoted(given)}; it has " if given else ""
    return DataError(f"{name} has {missing}{listed}: set {setting}.")


# The dataset viewer


def viewer_address() -> str | None:
    """The address of the public Hub's dataset viewer; other Hubs have none."""
    return constants.DATASETS_SERVER_ENDPOINT if constants.ENDPOINT == PUBLIC_HUB else None


def _ask_viewer(what: str, token: str | bool | None, **params: str) -> dict[str, Any] | None:
    """The viewer's answer, or None; the dataset is then read directly, which also reveals what is wrong with it."""
    address = viewer_address()
    if address is None:
        return None
    try:
        answer = ask(f"{address}/{what}", params, token)
    except Exception:
        return None
    return answer if isinstance(answer, dict) else None


def _viewed_configs(repo_id: str, token: str | bool | None) -> tuple[ConfigFacts, ...] | None:
    answer = _ask_viewer("info", token, dataset=repo_id) or {}
    if not answer.get("dataset_info") or any(answer.get(state) for state in ("partial", "pending", "failed")):
        return None
    return tuple(
        ConfigFacts(
            name,
            tuple(
                SplitFacts(split, about.get("num_examples"), about.get("num_bytes"))
                for split, about in (info.get("splits") or {}).items()
            ),
            {column: _type_name(kind) for column, kind in (info.get("features") or {}).items()},
        )
        for name, info in answer["dataset_info"].items()
    )


def _viewed_rows(
    repo_id: str, config: str | None, split: str | None, n: int, token: str | bool | None
) -> list[dict] | None:
    if not config or not split:
        listed = _ask_viewer("splits", token, dataset=repo_id) or {}
        match = next(
            (
                each
                for each in listed.get("splits") or []
                if config in (None, "", each["config"]) and split in (None, "", each["split"])
            ),
            None,
        )
        if match is None:
            return None
        config, split = match["config"], match["split"]
    answer = _ask_viewer("first-rows", token, dataset=repo_id, config=config, split=split) or {}
    rows = answer.get("rows", [])[:n]
    # the viewer cuts long cells, and turns a list that it cuts into text: such rows are read from the repository
    if not rows or any(row.get("truncated_cells") for row in rows):
        return None
    return [row["row"] for row in rows]


# Reading the repository


def _read_configs(
    repo_id: str, wanted: str | None, revision: str | None, token: str | bool | None
) -> tuple[ConfigFacts, ...]:
    datasets = datasets_library()

    names = _config_names(repo_id, revision, token)
    configs = {name: ConfigFacts(name) for name in names}
    read = wanted if wanted in configs else names[0]
    builder = datasets.load_dataset_builder(repo_id, read, revision=revision, token=token)
    known = builder.info.splits or {}
    data_files = list(builder.config.data_files or {}) if hasattr(builder.config, "data_files") else []
    splits = tuple(
        SplitFacts(
            str(name),
            getattr(known.get(name), "num_examples", None) or None,
            getattr(known.get(name), "num_bytes", None) or None,
        )
        for name in (list(known) or data_files)
    )
    features = builder.info.features
    if features is None and splits:
        features = builder.as_streaming_dataset(split=splits[0].name)._resolve_features().features
    columns = {name: _type_name(kind) for name, kind in (features or {}).items()}
    configs[read] = replace(configs[read], splits=splits, columns=columns)
    return tuple(configs.values())


def _config_names(repo_id: str, revision: str | None, token: str | bool | None) -> list[str]:
    """The configurations, the default one first."""
    datasets = datasets_library()

    names = datasets.get_dataset_config_names(repo_id, revision=revision, token=token)
    first = datasets.get_dataset_default_config_name(repo_id, revision=revision, token=token)
    return [first, *(name for name in names if name != first)] if first in names else names


def _streamed_rows(
    repo_id: str, config: str | None, split: str | None, n: int, token: str | bool | None, revision: str | None
) -> list[dict]:
    datasets = datasets_library()

    config = config or _config_names(repo_id, revision, token)[0]
    rows = datasets.load_dataset(
        repo_id, config or None, split=split or None, revision=revision, token=token, streaming=True
    )
    if isinstance(rows, datasets.IterableDatasetDict):
        rows = next(iter(rows.values()))
    return list(undecoded(rows).take(n))


def _type_name(kind: object) -> str:
    """A short name of a column's type: string, int64, list, messages."""
    if isinstance(kind, dict):
        if "dtype" in kind:
            return str(kind["dtype"])
        if kind.get("_type") in ("List", "LargeList", "Sequence") or "feature" in kind:
            return "list"
        return str(kind["_type"]).lower() if "_type" in kind else "record"
    if isinstance(kind, list):
        return "list"
    name = type(kind).__name__
    return "list" if name in ("List", "LargeList", "Sequence") else str(getattr(kind, "dtype", name.lower()))


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > CELL_CHARACTERS:
        return value[: CELL_CHARACTERS - 1] + "…"
    if isinstance(value, bytes | bytearray):
        return f"{len(value):,} bytes"
    if isinstance(value, list):
        return [_cut(each) for each in value[:50]]
    if isinstance(value, dict):
        return {name: _cut(each) for name, each in value.items()}
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)

"""A task of lm-eval in a YAML file: read as data, and refused if it contains code.

lm-eval imports the Python file that a `!function` names, follows `include`, renders texts by Jinja, which can reach any
Python object, and loads metrics and classes by name. So a file counts as data only if none of its settings can run
anything and its templates only insert columns of a row.
"""

from pathlib import PurePosixPath
from typing import Any

import yaml
from jinja2 import Environment, TemplateSyntaxError, nodes

from simct.config.yaml_text import MOST_CHARACTERS, Loader, read_yaml
from simct.errors import ConfigError
from simct.setting import quoted

# settings with plain values, which cannot name a function, class, include or pattern
PLAIN = (
    "task", "task_alias", "tag", "dataset_name", "training_split", "validation_split", "test_split", "fewshot_split",
    "num_fewshot", "output_type", "generation_kwargs", "repeats", "should_decontaminate", "metadata",
)  # fmt: skip
TEMPLATES = (
    "doc_to_text", "doc_to_target", "doc_to_choice", "doc_to_decontamination_query", "gen_prefix", "description",
    "target_delimiter", "fewshot_delimiter",
)  # fmt: skip
METRIC_SETTINGS = frozenset({"metric", "aggregation", "higher_is_better", "ignore_case", "ignore_punctuation"})
FILTERS = ("lowercase", "uppercase", "remove_whitespace", "take_first", "majority_vote", "take_first_k")
# filters that an inserted column may use
TEXT_FILTERS = (
    "trim", "lower", "upper", "capitalize", "title", "string", "int", "float", "first", "last", "length", "join",
    "replace", "round", "abs",
)  # fmt: skip
INSERTING = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Filter,
    nodes.Concat,
    nodes.Add,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.List,
    nodes.Tuple,
    nodes.If,
)
# names that every Jinja template has; the first three give access to Python's functions
GLOBALS = frozenset({"cycler", "joiner", "namespace", "lipsum", "range", "dict", "self"})


def read_task_file(path: str) -> dict[str, Any]:
    """The settings of a task's YAML file, which are all data. Raises ConfigError if the file contains code."""
    text = _text(path)
    for tag in _tags(text, path):
        raise _holds_code(path, f"the tag {quoted(tag)}")
    settings = _named(read_yaml(text, repr(path)), path)
    reason = code_in(settings)
    if reason:
        raise _holds_code(path, reason)
    return settings


def task_name(path: str) -> str:
    """The name of the task in a YAML file that may hold code, which is not run."""

    class Unread(Loader):
        pass

    Unread.add_multi_constructor("", lambda loader, tag, node: None)
    try:
        settings = yaml.load(_text(path), Unread)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"Cannot read the task {path!r}: it is not valid YAML.") from error
    return str(_named(settings, path)["task"])


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the task {path!r}. Check the path, and that it is UTF-8 text.") from error


def _named(settings: Any, path: str) -> dict[str, Any]:
    if not isinstance(settings, dict) or not isinstance(settings.get("task"), str):
        raise ConfigError(f"{path!r} is not an lm-eval task: it has no 'task' name.")
    return settings


def _holds_code(path: str, reason: str) -> ConfigError:
    return ConfigError(
        f"The task file {path!r} contains code: {reason}. Give a task by its name; `simct evaluate --allow-task-code` "
        "scores your own file if you trust it."
    )


def _tags(text: str, path: str) -> list[str]:
    """The YAML tags in the text, such as !function and !!python/name."""
    try:
        events = list(yaml.parse(text[:MOST_CHARACTERS], Loader))
    except yaml.YAMLError as error:
        raise ConfigError(f"Cannot read the task {path!r}: it is not valid YAML.") from error
    return [tag for event in events if (tag := getattr(event, "tag", None))]


def code_in(settings: dict[str, Any]) -> str | None:
    """The setting that could run code, read someone else's file or send a request; None if there is none."""
    for name, value in settings.items():
        if name in PLAIN:
            problem = None
        elif name in TEMPLATES:
            problem = _template_problem(value)
        elif name in CHECKS:
            problem = CHECKS[name](value)
        else:
            problem = "not a setting that a data file may have"
        if problem:
            return f"{name} is {problem}"
    return None


def _template_problem(value: Any) -> str | None:
    if isinstance(value, list | dict):
        each = value.values() if isinstance(value, dict) else value
        return next((found for found in map(_template_problem, each) if found), None)
    if not isinstance(value, str):
        return None if value is None or isinstance(value, int | float) else "not a text"
    try:
        parsed = Environment().parse(value)
    except (TemplateSyntaxError, RecursionError):
        return "not a valid template"
    for node in [parsed, *parsed.find_all(nodes.Node)]:
        if not _only_inserts(node):
            return f"{quoted(value)}, a template that does more than insert columns"
    return None


def _only_inserts(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Name):
        return not node.name.startswith("_") and node.name not in GLOBALS
    if isinstance(node, nodes.Getattr):
        return not node.attr.startswith("_")
    if isinstance(node, nodes.Getitem):
        # an index from a row could be the name of an attribute
        return isinstance(node.arg, nodes.Const) and not str(node.arg.value).startswith("_")
    if isinstance(node, nodes.Filter):
        return node.name in TEXT_FILTERS
    return isinstance(node, INSERTING)


def _dataset_problem(value: Any) -> str | None:
    """The problem with a task's dataset, which must be a Hub id or a format with files in `dataset_kwargs`."""
    if not isinstance(value, str):
        return "not a text"
    parts = PurePosixPath(value).parts
    return f"{quoted(value)}, a path" if len(parts) > 2 or ".." in parts or value.startswith(("/", ".", "~")) else None


def _dataset_options_problem(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "not a mapping"
    unknown = next((name for name in value if name != "data_files"), None)
    if unknown is not None:
        return f"{quoted(unknown)}, not data_files"
    files = value.get("data_files")
    files = list(files.values()) if isinstance(files, dict) else files
    named = files if isinstance(files, list) else [files]
    for name in (each for one in named for each in (one if isinstance(one, list) else [one])):
        if not isinstance(name, str) or "://" in name or "::" in name:
            return f"{quoted(name)}, not a file of this machine"
    return None


def _metrics_problem(value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return "not a list of metrics"
    import lm_eval.api.metrics  # registers lm-eval's own metrics
    from lm_eval.api.registry import aggregation_registry, metric_registry

    assert lm_eval.api.metrics
    for each in value:
        unknown = next((name for name in each if name not in METRIC_SETTINGS), None)
        if unknown is not None:
            return f"{quoted(unknown)}, which may run code or a pattern"
        if str(each.get("metric")) not in metric_registry:
            return f"{quoted(each.get('metric'))}, not a metric of lm-eval itself"
        if str(each.get("aggregation", "mean")) not in aggregation_registry:
            return f"{quoted(each.get('aggregation'))}, not an aggregation of lm-eval itself"
    return None


def _filters_problem(value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return "not a list of filters"
    for step in (step for each in value for step in each.get("filter") or [{}]):
        if not isinstance(step, dict) or step.get("function") not in FILTERS or set(step) - {"function", "k"}:
            return f"{quoted(step)}, which may run code or a pattern"
    return None


def _fewshot_problem(value: Any) -> str | None:
    plain = isinstance(value, dict) and set(value) <= {"sampler", "split"}
    return None if plain and value.get("sampler", "default") in ("default", "first_n") else "more than a sampler's name"


def _switch_problem(value: Any) -> str | None:
    return "true" if value else None


CHECKS = {
    "dataset_path": _dataset_problem,
    "dataset_kwargs": _dataset_options_problem,
    "metric_list": _metrics_problem,
    "filter_list": _filters_problem,
    "fewshot_config": _fewshot_problem,
    "unsafe_code": _switch_problem,
}

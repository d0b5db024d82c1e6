"""Read untrusted YAML within limits: only plain values, no YAML bombs, and a ConfigError for every mistake."""

from typing import Any

import yaml

from simct.errors import ConfigError, brief, quoted

MOST_CHARACTERS = 100_000
MOST_LEVELS = 20
MOST_ALIASES = 20


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads plain values but no dates, so a revision named 2024-01-01 stays a text. A name may be given only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        seen: set[str] = set()
        for key in names:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"{quoted(key.value)} is given twice, again in line {line}. Keep one of the two.")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, what: str = "This") -> Any:
    """The plain value that `text` describes. Raises ConfigError, which calls the text `what`.

    Length, depth and aliases are checked before any value is created, because nine aliases of nine aliases each, a few
    levels deep, would be billions of values.
    """
    try:
        check_shape(text, what)
        return yaml.load(text, Loader)
    except ConfigError:
        raise
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is not valid YAML: {_reason(error)}") from error
    except Exception as error:
        # a constructor may raise anything, for example for a number with 5,000 digits
        raise ConfigError(f"{what} is not valid YAML: a value in it cannot be read.") from error


def _reason(error: yaml.YAMLError) -> str:
    """What the parser did not understand, and where."""
    place = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if not problem or place is None:
        return brief(error)
    return f"{brief(problem)} (line {place.line + 1}, column {place.column + 1}). Correct it there."


def check_shape(text: str, what: str) -> None:
    """Raise ConfigError if the text is too long, is nested too deeply, or has too many aliases.

    It only reads the parser's events, and raises the parser's errors.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(
            f"{what} has more than {MOST_CHARACTERS:,} characters, which is too long for a configuration."
        )
    level = aliases = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        if level > MOST_LEVELS:
            raise ConfigError(f"{what} is nested more than {MOST_LEVELS} levels deep. Write settings as a.b: value.")
        if aliases > MOST_ALIASES:
            raise ConfigError(f"{what} uses more than {MOST_ALIASES} aliases. Write the values out.")

"""YAML as anyone may give it, read within limits: plain values only, no bombs, and every mistake a ConfigError."""

from typing import Any

import yaml

from simct.errors import ConfigError, brief

MOST_CHARACTERS = 100_000
MOST_LEVELS = 20
MOST_ALIASES = 20


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain values, without dates: a revision named 2024-01-01 is a text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, what: str = "This") -> Any:
    """The plain value that `text` describes. Raises ConfigError, which calls the text `what`.

    Length, depth and aliases are bounded before anything is made of them: nine aliases of nine aliases each, a few
    levels deep, would be billions of values.
    """
    try:
        check_shape(text, what)
        return yaml.load(text, Loader)
    except ConfigError:
        raise
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is not valid YAML: {brief(error)}") from error
    except Exception as error:
        # a constructor raises whatever Python makes of a value, such as a number of 5,000 digits
        raise ConfigError(f"{what} is not valid YAML: a value in it cannot be read.") from error


def check_shape(text: str, what: str) -> None:
    """Raise ConfigError for too long a text, nesting that is too deep, or too many aliases.

    Looks at the parser's events only, and raises its errors.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{what} has more than {MOST_CHARACTERS:,} characters, which no configuration needs.")
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
            raise ConfigError(f"{what} repeats values by more than {MOST_ALIASES} aliases. Write them out.")

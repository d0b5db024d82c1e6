"""The tables of the documentation that must say what simct.methods says, as Markdown."""

from simct.cli.settings import default_of
from simct.methods import METHODS, LossOptions
from simct.setting import Setting, settings_of


def readme_table() -> str:
    rows = [f"| `{name}` | {method.line} | {method.source} |" for name, method in METHODS.items()]
    return "\n".join(["| `method` | compares | from |", "| --- | --- | --- |", *rows])


def methods_table() -> str:
    rows = [
        f"| `{name}` | {method.title} | {f'`{method.divergence}`' if method.divergence else 'none'} "
        f"| {'whole rows' if method.whole_rows else 'columns of shared tokens'} |"
        for name, method in METHODS.items()
    ]
    return "\n".join(["| method | name | its own divergence | reads |", "|---|---|---|---|", *rows])


def options_table() -> str:
    rows = [_option("every method", name, setting) for name, setting in settings_of(LossOptions).items()]
    for method in METHODS.values():
        options = settings_of(method.options)
        rows += [_option(f"`{method.name}`", name, options[name]) for name in method.own_options]
    return "\n".join(["| of | option | default | allowed | meaning |", "|---|---|---|---|---|", *rows])


def _option(owner: str, name: str, setting: Setting) -> str:
    return f"| {owner} | `{name}` | {default_of(setting)} | {setting.allowed} | {setting.help} |"

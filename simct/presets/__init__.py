"""Presets: ready-made run files, one YAML file each, whose first comment says what it is for."""

from pathlib import Path

from simct.config import RunConfig, load_config
from simct.errors import ConfigError, quoted

FOLDER = Path(__file__).parent


def list_presets() -> dict[str, str]:
    """{name: what the preset is for}, sorted by name."""
    described = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        with open(path, encoding="utf-8") as file:
            described[path.stem] = file.readline().lstrip("# ").strip()
    return described


def load_preset(name: str) -> RunConfig:
    """A new RunConfig with the preset's settings. Raises ConfigError if there is no such preset."""
    known = list_presets()
    if name not in known:
        raise ConfigError(f"There is no preset {quoted(name)}. Choose one of: {', '.join(known)}.")
    config = load_config(FOLDER / f"{name}.yaml")
    if name == "demo-cpu":
        from simct import demo

        config.teacher.model, config.student.model = str(demo.TEACHER), str(demo.STUDENT)
        config.data.prompts = str(demo.PROMPTS)
    return config

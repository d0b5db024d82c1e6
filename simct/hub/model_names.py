"""A model as people write it: the id of a Hub repository, `id@revision`, or a local folder."""

from pathlib import Path


def is_folder(model: str) -> bool:
    """Whether `model` is a folder, or is written like one."""
    return model.startswith(("/", "./", "../", "~")) or Path(model).expanduser().is_dir()


def split_revision(model: str | None) -> tuple[str, str | None]:
    """`id@revision` as its two parts; a folder that has an @ in its name is left alone."""
    model = (model or "").strip()
    name, mark, revision = model.rpartition("@")
    return (name, revision) if mark and name and revision and not is_folder(model) else (model, None)

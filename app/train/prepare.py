"""Prepare a run: check it, and pin models and data to their commits."""

from app.server import model_facts
from app.server.studio import Studio
from app.train.where import Place
from simct.config import RunConfig, config_from_dict, local_path


def read_run_yaml(studio: Studio, text: str) -> RunConfig:
    """The checked run that a text describes. Raises ConfigError."""
    from app.reading import runs

    return config_from_dict(studio.workers.run(runs.read_run_yaml, text, what="This run.yaml"))


def load_run_yaml(studio: Studio, path: str) -> RunConfig:
    """The checked run that an uploaded file describes. Raises ConfigError."""
    from app.reading import runs

    return config_from_dict(studio.workers.run(runs.load_run_yaml, path, what="This file"))


def pin_and_check(
    studio: Studio,
    config: RunConfig,
    token: str | bool | None,
    place: Place | None = None,
    teacher_key: str | None = None,
) -> RunConfig:
    """`config` with models and dataset pinned to their commits. Raises a one-line SimCTError if it cannot run.

    `place` is where it will train; None for this machine. `teacher_key` is the key of the teacher's server.
    """
    # torch and transformers take seconds to import
    from app.train.preflight import place_of, run_preflight

    for model in config.models:
        # a run keeps the commit with which it was launched
        model.revision = model_facts.facts(studio, model_facts.joined(model.model, model.revision), token).revision
    run_preflight(studio, config, token, place_of(studio, place), teacher_key=teacher_key).refuse()
    if local_path(config.data.prompts) is None and not config.data.revision:
        from simct.hub.search import resolve_revision

        config.data.revision = resolve_revision(config.data.prompts, token=token, kind="dataset")
    return config

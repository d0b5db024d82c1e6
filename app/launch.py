"""Before a run starts: what can be checked is checked, and what can change is pinned."""

from app import data_source, models
from app.settings import Settings
from simct.config import RunConfig, local_path


def ready(settings: Settings, config: RunConfig, token: str | bool | None) -> RunConfig:
    """`config` with models and dataset pinned to their commits. Raises a one-line SimCTError for what cannot run."""
    for model in (config.teacher, config.student):
        # a run stays with the commit it was launched on
        model.revision = models.facts(settings, models.joined(model.model, model.revision), token).revision
    teacher, student = (models.joined(each.model, each.revision) for each in (config.teacher, config.student))
    models.pair_of(settings, teacher, student, token)
    data_source.read(settings, config.data, token)
    if local_path(config.data.prompts) is None and not config.data.revision:
        from simct.hub.search import resolve_revision

        config.data.revision = resolve_revision(config.data.prompts, token=token, kind="dataset")
    return config

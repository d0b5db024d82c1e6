"""Before a run starts: what can be checked is checked, and what can change is pinned."""

from app.data import prompt_source
from app.server import model_facts
from app.server.studio import Studio
from simct.config import RunConfig, local_path


def pin_and_check(studio: Studio, config: RunConfig, token: str | bool | None) -> RunConfig:
    """`config` with models and dataset pinned to their commits. Raises a one-line SimCTError for what cannot run."""
    for model in (config.teacher, config.student):
        # a run stays with the commit it was launched on
        model.revision = model_facts.facts(studio, model_facts.joined(model.model, model.revision), token).revision
    teacher, student = (model_facts.joined(each.model, each.revision) for each in (config.teacher, config.student))
    # torch and transformers take seconds to import
    from simct.train import check_settings

    pair = model_facts.pair_of(studio, teacher, student, token, config)
    prompts = prompt_source.read(studio, config.data, token).prompts
    check_settings(config, prompts, None if config.kind == "warmup" else pair, token)
    if local_path(config.data.prompts) is None and not config.data.revision:
        from simct.hub.search import resolve_revision

        config.data.revision = resolve_revision(config.data.prompts, token=token, kind="dataset")
    return config

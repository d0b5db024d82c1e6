"""Starting a run from the studio: what can be checked is checked first, and what can change is pinned."""

from app import data_source, models
from app.settings import Settings
from simct.config import RunConfig, local_path
from simct.errors import RunError
from simct.jobs import local_job
from simct.jobs.run_folder import ACTIVE_STATES, RunFolder, list_runs


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


def start_run(settings: Settings, config: RunConfig, token: str | bool | None, owner: str | None) -> str:
    """Make the run folder and start the process. Returns the run's id. Raises a one-line SimCTError."""
    if settings.public:
        raise RunError("This Space has no hardware to train on. Take run.yaml and the command to a machine that has.")
    active = [run for run in list_runs(settings.runs_dir) if local_job.refresh(run).get("state") in ACTIVE_STATES]
    if active:
        raise RunError(
            f"Run {active[0].id} is still {active[0].status()['state']}. Wait for it, or stop it under Runs."
        )
    run = RunFolder.create(settings.runs_dir, ready(settings, config, token), owner=owner)
    local_job.launch(run, token=token or None)
    return run.id

"""Requests to a teacher's server, made by a worker, so that its responses are read where they can do no harm."""

from app.reading.models import tokens_of
from app.reading.records import ServerAt, Source
from simct.config.sections import ModelConfig
from simct.models.server_check import ServerReport, look_at_server, names_on_server
from simct.workers.child import Worker


def names(worker: Worker, server: ServerAt) -> list[str]:
    """The names of the models that the server has. Raises ConfigError or RunError (one line)."""
    worker.step("The teacher's server")
    return names_on_server(server.address, server.token, server.key, server.public)


def look(worker: Worker, server: ServerAt, teacher: Source) -> ServerReport:
    """Which model the server has, whether its tokens are those of `teacher`, and how fast it is. Raises a one-line
    SimCTError.
    """
    tokens = tokens_of(worker, teacher)
    worker.step("The teacher's server")
    config = ModelConfig(model=teacher.model, server=server.address, top_logprobs=server.listed)
    return look_at_server(config, tokens, server.token, server.key, server.public)

"""The embedded pair on a new page: what is written down about it is what a worker reads."""

import pytest

from app.reading import embedded, models
from app.reading.records import Source
from app.server import model_facts
from app.server.studio import Studio
from simct.workers.child import Worker

SOURCES = [Source(model_facts.display_name(model), model) for model in embedded.SIDES]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_models_are_as_a_worker_reads_them(source):
    assert models.read_folder(Worker(), source) == embedded.MODELS[source.model]


def test_the_pair_is_as_a_worker_reads_it():
    assert models.read_pair(Worker(), *SOURCES) == embedded.PAIR


def test_a_new_page_needs_no_worker(tmp_path, monkeypatch):
    studio = Studio(tmp_path, public=False)
    monkeypatch.setattr(studio.workers, "run", None)
    assert tuple(studio.default_pair.values()) == embedded.SIDES
    assert model_facts.read_pair(studio, *embedded.SIDES, None) == embedded.PAIR
    assert [model_facts.facts(studio, model, None).vocabulary for model in embedded.SIDES] == [900, 950]

"""The embedded pair on a new page: what is written down about it is what a worker reads and what is measured."""

import pytest

from app.data import choice
from app.inspect import reliability_view, text_source
from app.inspect.reliability import TOKENS, Measurement, measure_reliability
from app.reading import embedded, models
from app.reading.records import Source
from app.server import model_facts
from app.server.studio import Studio
from app.server.work import Work
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


def test_the_verdict_is_as_it_is_measured(local):
    known = reliability_view.in_advance()
    written = reliability_view.kept(known, *embedded.SIDES)
    wanted = Measurement(*embedded.SIDES, choice.START, text_source.TextSource(text_source.CHOSEN), TOKENS)
    found = measure_reliability(local, wanted, None, Work())
    assert (found.method, found.answers, known["settings"]) == (written.method, written.answers, found.settings)
    for name in ("mass_teacher", "mass_student", "candidate_mass", "kl_shared", "kl_recovered", "recovered_share"):
        assert getattr(found, name) == pytest.approx(getattr(written, name), rel=0.02), name

"""A Hub out of reach: a process that people wait for reports it at the first try, and cached files still load."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.utils import _http

from simct import demo
from simct.errors import HubError, ModelError
from simct.hub import client
from simct.hub.errors import hub_error
from simct.hub.search import search_models
from simct.tokenization.token_bytes import load_tokenizer
from tests.support.hub_server import HubServer

NOBODY = "http://127.0.0.1:9"


def no_waiting(seconds: float) -> None:
    raise AssertionError(f"It waits {seconds} s to try again.")


@pytest.fixture
def hub(monkeypatch):
    """A Hub, and the clients of this process as those of the studio; they are as they were found afterward."""
    client.fail_fast()
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=no_waiting))
    with HubServer() as hub:
        hub.use(monkeypatch)
        hub.add_model("acme/kept", demo.STUDENT)
        yield hub
    huggingface_hub.set_client_factory(_http.default_client_factory)


def take_away(monkeypatch) -> None:
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", NOBODY + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", NOBODY)


def test_what_is_cached_loads_and_what_is_not_is_reported_without_a_second_try(hub, monkeypatch):
    kept = load_tokenizer("acme/kept").get_vocab()
    take_away(monkeypatch)
    assert load_tokenizer("acme/kept").get_vocab() == kept
    with pytest.raises(ModelError, match=r"Cannot reach the Hub.*connection failed.*not in the cache"):
        load_tokenizer("acme/other")


def test_a_hub_that_is_back_is_asked_again(hub, monkeypatch):
    with monkeypatch.context() as away:
        take_away(away)
        with pytest.raises(HubError, match="Cannot reach the Hub"):
            search_models("acme")
    assert [hit.id for hit in search_models("acme")] == ["acme/kept"]


@pytest.mark.parametrize("token", ["hf_é", "hf_😀", "hf_a\x01b", "hf_a\nb"])
def test_a_token_that_no_header_can_hold_is_said_to_be_wrong(hub, token):
    with pytest.raises(HubError, match=r"The access token has characters that no token has|refused the access token"):
        try:
            client.hub_api(token).whoami()
        except Exception as error:
            raise hub_error(error) from error

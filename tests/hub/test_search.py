"""Search, access and revisions by the real client against the loopback Hub, and every refusal as one line of advice."""

import json
import struct

import pytest

from simct.errors import DataError, HubError, ModelError, SimCTError
from simct.hub import client, search
from simct.hub.errors import hub_error
from simct.hub.redact import redact
from simct.hub.search import (
    ModelHit,
    base_model_line,
    check_access,
    list_revisions,
    model_facts,
    resolve_revision,
    search_datasets,
    search_models,
)
from tests.support.hub_server import TOKEN, HubServer


def weights(parameters: int, dtype: str = "BF16", item_bytes: int = 2) -> bytes:
    header = json.dumps({"w": {"dtype": dtype, "shape": [parameters], "data_offsets": [0, parameters * item_bytes]}})
    return struct.pack("<Q", len(header)) + header.encode() + bytes(parameters * item_bytes)


def model_files(parameters: int = 100, model_type: str = "llama", card: str = "license: mit") -> dict[str, bytes]:
    return {
        "config.json": json.dumps({"model_type": model_type, "architectures": ["X"]}).encode(),
        "model.safetensors": weights(parameters),
        "README.md": f"---\n{card}\n---\n# A model\n".encode(),
    }


@pytest.fixture
def hub(monkeypatch):
    with HubServer() as server:
        server.use(monkeypatch)
        yield server


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    assert "Traceback" not in text and "Request ID" not in text
    return text


def test_search_tells_what_matters_before_a_download(hub):
    hub.add_model("acme/teacher-7b", files=model_files(500, "qwen3", "license: apache-2.0"), downloads=10, likes=3)
    hub.add_model("acme/teacher-1b", files=model_files(100, "gemma3"), downloads=90, gated="manual")
    hub.add_model("acme/teacher-gguf", files={"m.gguf": b"x"}, downloads=99)
    hub.add_model("other/unrelated", files=model_files())
    hits = search_models("acme/teacher")
    assert [hit.id for hit in hits] == ["acme/teacher-1b", "acme/teacher-7b"]  # by downloads; no weights, no hit
    assert [hit.gated for hit in hits] == [True, False]
    big = hits[1]
    assert (big.parameters, big.size, big.model_type, big.license) == (500, 1000, "qwen3", "apache-2.0")
    assert (big.downloads, big.likes) == (10, 3)
    assert [hit.id for hit in search_models("teacher", max_parameters=200)] == ["acme/teacher-1b"]
    assert len(search_models("", limit=2)) == 2
    assert search_models("no such thing") == []


def test_private_models_are_found_by_their_owner_only(hub):
    hub.add_model("tester/secret", files=model_files(), private=True)
    hub.add_user("eve", "hf_evestoken")
    assert [hit.id for hit in search_models("secret")] == ["tester/secret"]
    assert search_models("secret", token="hf_evestoken") == []
    assert search_models("secret", token=False) == []
    with pytest.raises(ModelError, match="no model tester/secret that this account can see"):
        check_access("tester/secret", "hf_evestoken")


def test_search_datasets(hub):
    hub.add_dataset(
        "acme/prompts", files={"train.jsonl": b"{}", "README.md": b"---\nlicense: cc-by-4.0\n---\n"}, likes=2
    )
    (hit,) = search_datasets("prompts")
    assert (hit.id, hit.license, hit.likes, hit.gated) == ("acme/prompts", "cc-by-4.0", 2, False)
    check_access("acme/prompts", kind="dataset")
    with pytest.raises(DataError, match="no dataset acme/none"):
        check_access("acme/none", kind="dataset")


def test_gated_names_the_page_to_ask_at_until_access_is_given(hub):
    repo = hub.add_model("acme/gated", files=model_files(), gated="manual")
    with pytest.raises(ModelError) as error:
        check_access("acme/gated")
    assert f"Request it at {hub.url}/acme/gated" in one_line(error)
    with pytest.raises(ModelError) as error:
        check_access("acme/gated", token=False)
    assert "sign in" in one_line(error) and f"{hub.url}/acme/gated" in str(error.value)
    repo.allowed.add("tester")
    check_access("acme/gated")
    assert model_facts("acme/gated").gated


def test_unknown_names_and_revisions(hub, tmp_path):
    repo = hub.add_model("acme/m", files=model_files())
    first = repo.head.sha
    repo.commit("v2", repo.head.files, "Another branch", "acme")
    assert resolve_revision("acme/m") == first == model_facts("acme/m").revision
    assert resolve_revision("acme/m", "v2") == repo.refs["v2"] != first
    assert resolve_revision("acme/m", first[:10]) == first
    with pytest.raises(ModelError) as error:
        resolve_revision("acme/m", "v9")
    assert "no revision 'v9'" in one_line(error)
    with pytest.raises(ModelError) as error:
        resolve_revision("acme/none")
    assert "There is no model acme/none" in one_line(error)
    with pytest.raises(ModelError, match="sign in"):
        check_access("acme/none", token=False)
    for bad in ("a/b/c", "has space/x", "a/" + "x" * 120):
        with pytest.raises(ModelError) as error:
            check_access(bad)
        assert "not a repository id" in one_line(error)
    with pytest.raises(ModelError, match="empty"):
        check_access("  ")
    check_access(str(tmp_path))  # a folder needs no permission


def test_a_bad_token_is_reported_apart_from_a_bad_name(hub):
    hub.add_model("acme/m", files=model_files())
    with pytest.raises(HubError) as error:
        check_access("acme/m", "hf_expiredexpiredexpired")
    assert "refused the access token" in one_line(error)
    assert "settings/tokens" in str(error.value) and "expiredexpired" not in str(error.value)
    assert not isinstance(error.value, ModelError)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"Retry-After": "17"}, "Wait 17 s"),
        (429, {"RateLimit": '"api";r=0;t=55'}, "Wait 55 s"),
        (500, {}, "having problems"),
        (503, {}, "Nothing is lost"),
        (402, {}, "payment"),
        (418, {}, "status 418"),
    ],
)
def test_troubles_of_the_hub_are_reported_at_once(hub, status, headers, expected):
    hub.fail("/api/models", status, times=4, headers=headers)
    with pytest.raises(HubError) as error:
        search_models("x")
    assert expected in one_line(error)
    asked = [request for request in hub.requests if request.path == "/api/models"]
    assert len(asked) == 1  # no silent retries while a person waits


def test_slow_and_cut_and_absent_connections(hub, monkeypatch):
    hub.add_model("acme/m", files=model_files())
    monkeypatch.setattr(client, "SEARCH_SECONDS", 0.3)
    hub.fail("/api/models", delay=1.0)
    with pytest.raises(HubError) as error:
        search_models("x")
    assert "did not answer in time" in one_line(error) and hub.url in str(error.value)
    hub.fail("/api/models", cut_after=5)
    with pytest.raises(HubError) as error:
        search_models("acme")
    assert "Cannot reach the Hub" in one_line(error)
    hub._http.shutdown()
    hub._http.server_close()
    monkeypatch.setattr(hub, "__exit__", lambda *_: None)
    for call in (lambda: search_models("x"), lambda: check_access("acme/m"), lambda: resolve_revision("acme/m")):
        with pytest.raises(HubError) as error:
            call()
        assert "Check the network" in one_line(error)


def test_no_call_waits_for_ever(hub, monkeypatch):
    hub.add_model("acme/m", files=model_files())
    monkeypatch.setattr(client, "CALL_SECONDS", 0.3)
    hub.fail("auth-check", delay=6.0)
    with pytest.raises(HubError, match="did not answer in time"):
        check_access("acme/m")


def test_errors_are_found_under_what_was_raised_from_them():
    inner = OSError(28, "No space left on device")
    try:
        try:
            raise inner
        except OSError as error:
            raise RuntimeError("Error while uploading 'model.safetensors' to the Hub.") from error
    except RuntimeError as error:
        assert "disk is full" in str(hub_error(error, "me/x", writing=True))
    got = ModelError("Already told.")
    assert hub_error(got) is got
    unknown = hub_error(KeyError("boom hf_abcdefghijklmnopqrstuv"), "me/x")
    assert isinstance(unknown, SimCTError) and "boom" in str(unknown) and "abcdefgh" not in str(unknown)


def test_redact_blots_out_tokens():
    assert redact(f"a {TOKEN} b hf_oauth_abcdefghij.klm c") == "a hf_… b hf_oauth_… c"
    assert redact("hf_hub_download and hf_xet are names") == "hf_hub_download and hf_xet are names"


def test_filters_narrow_a_search(hub):
    files = model_files(3_000_000, card="license: mit")
    hub.add_model("acme/small-open", files=files, likes=1, trending=9, downloads=5)
    hub.add_model("acme/small-gated", files=files, gated="auto", likes=7, downloads=3)
    hub.add_model("acme/small-nc", files=model_files(900, card="license: cc-by-nc-4.0"), likes=3, downloads=4)
    seen = model_files(100, card="pipeline_tag: image-text-to-text")
    hub.add_model("acme/small-seeing", files=seen)
    ids = lambda **filters: [hit.id.removeprefix("acme/small-") for hit in search_models("acme small", **filters)]  # noqa: E731
    assert ids() == ["open", "nc", "gated"]
    assert ids(sort="likes") == ["gated", "nc", "open"] and ids(sort="trending")[0] == "open"
    assert ids(license="mit") == ["open", "gated"] and ids(license="mit", gated=False) == ["open"]
    assert ids(gated=True) == ["gated"]
    assert ids(min_parameters=1000) == ["open", "gated"]
    assert ids(max_parameters=1000) == ["nc"]
    assert ids(task="image-text-to-text") == ["seeing"] and len(ids(task=None)) == 4
    with pytest.raises(HubError, match="cannot be sorted by 'size'"):
        search_models("x", sort="size")


def test_dataset_filters_narrow_a_search(hub):
    card = "license: mit\ntask_categories: [text-generation]\nlanguage: [en]\nsize_categories: [10K<n<100K]"
    hub.add_dataset("acme/one", files={"README.md": f"---\n{card}\n---\n".encode()})
    hub.add_dataset("acme/two", files={"README.md": b"---\nlicense: mit\n---\n"}, gated="manual", likes=4)
    ids = lambda **filters: [hit.id for hit in search_datasets("acme", **filters)]  # noqa: E731
    assert ids(sort="likes") == ["acme/two", "acme/one"]
    assert ids(task="text-generation") == ids(language="en") == ids(size="10K<n<100K") == ["acme/one"]
    assert ids(gated=True) == ["acme/two"] and ids(license="apache-2.0") == []
    assert search_datasets("one")[0].size == "10K<n<100K"


@pytest.mark.parametrize(
    "odd",
    [
        {"cardData": None, "config": None, "safetensors": None, "tags": None},
        {"cardData": {"license": ["mit", "apache-2.0"], "base_model": [None]}, "tags": [None, 3]},
        {"config": {"model_type": 3, "tokenizer_config": "x", "quantization_config": []}},
        {"safetensors": {"parameters": {"BF16": "many"}, "total": "lots"}, "downloads": None, "likes": "7"},
        {"gated": "auto", "private": None, "sha": 5, "pipeline_tag": ["a"]},
    ],
)
def test_whatever_the_hub_tells_of_a_model_is_read_without_a_crash(hub, monkeypatch, odd):
    monkeypatch.setattr(search, "ask", lambda *_: [{"id": "acme/odd", **odd}, {"no": "id"}, "text"])
    [hit] = search_models("odd")
    assert hit.id == "acme/odd" and hit.family is None and hit.size is None and isinstance(hit.likes, int)
    [data] = search_datasets("odd")
    assert data.id == "acme/odd" and isinstance(data.gated, bool)


def test_the_family_of_a_tokenizer_is_reported_where_the_hub_tells_it(monkeypatch):
    got = {
        "id": "a/b",
        "config": {"model_type": "qwen3", "tokenizer_config": {"tokenizer_class": "Qwen2TokenizerFast"}},
    }
    monkeypatch.setattr(search, "ask", lambda *_: [got])
    assert search_models("b")[0].family == "Qwen2"
    got["config"]["tokenizer_config"]["tokenizer_class"] = "PreTrainedTokenizerFast"
    assert search_models("b")[0].family == "qwen3"


def test_revisions_are_listed_and_a_model_is_reported_at_the_one_that_is_chosen(hub):
    repo = hub.add_model("acme/m", files=model_files(card="license: mit"))
    first = repo.head.sha
    repo.tag_refs["v1.0"] = first
    repo.commit("next", {**repo.head.files, "x": repo.head.files["README.md"]}, "Try something", "acme")
    names = dict(map(reversed, list_revisions("acme/m")))
    assert {"main", "next", "v1.0", first} <= set(names)
    assert "Try something" in names[repo.refs["next"]] and first[:8] in names["v1.0"]
    assert model_facts("acme/m", revision="next").revision == repo.refs["next"] != first
    assert model_facts("acme/m", revision=first).revision == first
    with pytest.raises(ModelError, match="no revision 'gone'"):
        model_facts("acme/m", revision="gone")
    with pytest.raises(ModelError, match="no model acme/none"):
        list_revisions("acme/none")


def test_what_the_models_were_made_from_is_one_line(hub):
    def model(name: str, card: str, **config) -> ModelHit:
        files = model_files(card=card)
        files["config.json"] = json.dumps({"model_type": "llama", **config}).encode()
        hub.add_model(f"acme/{name}", files=files)
        return model_facts(f"acme/{name}")

    plain, base = model("plain", "license: mit"), "base_model: acme/root"
    tuned, merged = model("tuned", base), model("merged", f"{base}\nbase_model_relation: merge")
    four_bit = model("four-bit", base, quantization_config={"quant_method": "gptq"})
    speech = model("speech", "pipeline_tag: automatic-speech-recognition")
    assert base_model_line(plain, plain.__class__(**{**vars(plain), "id": "acme/other"})) is None
    assert "Both come from acme/root" in base_model_line(tuned, merged)
    assert "The student was merged from acme/root" in base_model_line(plain, merged)
    assert "quantized (gptq)" in base_model_line(plain, four_bit) and base_model_line(four_bit, plain) is None
    assert "automatic-speech-recognition" in base_model_line(speech, plain)
    assert base_model_line(plain, tuned) is None


def test_a_cut_answer_is_reported(hub):
    hub.add_model("acme/m", files=model_files())
    hub.fail("/api/models/acme/m", method="GET", cut_after=10, times=5)
    with pytest.raises(HubError, match="Cannot reach the Hub"):
        model_facts("acme/m")

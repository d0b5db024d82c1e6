"""A teacher on a server: the local teacher's loss and gradients, faults that lose no row, and a key that stays home."""

import json
import socket
import threading
import time
from collections import OrderedDict

import httpx2
import pytest
import torch
from accelerate import Accelerator

from simct.config import config_from_dict, validate
from simct.data.prompts import Prompt
from simct.data.samples import prepare_prompts, teacher_rollouts
from simct.errors import ConfigError, RunError, SimCTError
from simct.hub import retry
from simct.hub.redact import KEY_VARIABLE, RUN_KEY_VARIABLE, redact
from simct.inspection.reliability import measure_pair
from simct.losses import compute_from_rows
from simct.losses.divergence import LOG_ZERO
from simct.losses.head import Head
from simct.methods import METHODS
from simct.models import served, server_address, server_keys
from simct.models.loading import hidden_rows, load_model
from simct.models.served import ServedTeacher, ServerClient
from simct.models.server_address import key_for, target_of
from simct.models.server_check import look_at_server
from simct.models.server_keys import keep_key, key_of
from simct.models.teachers import LocalTeacher, load_teacher
from simct.preflight.models import check_teacher_server
from simct.preflight.planned import Place, PlannedRun
from simct.preflight.records import OK, PROBLEM
from simct.report.facts import sample
from simct.tokenization.pair import TokenizerPair
from simct.training.trainer import Trainer
from tests.support.teacher_server import KEY, TeacherServer

TEXTS = ["the cat", "a 12 and 23", "hand and band", "theatre 12"]


@pytest.fixture
def server(folders, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setattr("simct.hub.retry.FIRST_WAIT", 0.01)
    with TeacherServer(folders[0]) as running:
        yield running


def new_config(folders, server, k=100_000, **more):
    return config_from_dict(
        {
            "teacher": {"model": str(folders[0]), "server": server.url, "top_logprobs": k},
            "student": str(folders[1]),
            "data": {"prompts": "prompts"},
            "method": "marginal",
            "rollout": {"max_new_tokens": 8},
            "training": {"steps": 2, "batch_size": 8, "micro_batch_size": 2, "learning_rate": 1e-3, "max_length": 64},
            **more,
        }
    )


def pair_of(folders):
    return TokenizerPair.from_pretrained(*map(str, folders))


def completions(pair):
    """(prompts, completions) of both sides: ids of [student, teacher]."""
    sides = [pair.student, pair.teacher]
    prompts = [[tokens.encode(b"and the") for _ in TEXTS] for tokens in sides]
    return prompts, [[[*tokens.encode(text.encode()), tokens.end_ids[0]] for text in TEXTS] for tokens in sides]


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.listed])
def test_with_the_whole_vocabulary_listed_a_served_teacher_equals_the_local_one(folders, server, method):
    pair = pair_of(folders)
    student = load_model(new_config(folders, server).student)
    prompts, written = completions(pair)
    remote_config = new_config(folders, server).teacher
    local_config = remote_config.model_copy(update={"server": None})
    teachers = [load_teacher(each, pair.teacher) for each in (local_config, remote_config)]
    assert isinstance(teachers[0], LocalTeacher) and isinstance(teachers[1], ServedTeacher)
    found = []
    for teacher in teachers:
        student.zero_grad()
        hidden_SH, _ = hidden_rows(student, prompts[0], written[0], 0)
        rows = teacher.start(prompts[1], written[1])()
        result = compute_from_rows(method, pair, hidden_SH, Head.of(student), rows, *written)
        result.loss.backward()
        found.append((result, {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}))
        teacher.close()
    (local, gradients), (remote, remote_gradients) = found
    assert remote.rows == local.rows > 10
    torch.testing.assert_close(remote.loss, local.loss, rtol=0, atol=1e-5)
    assert gradients.keys() == remote_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(remote_gradients[name], gradient, rtol=0, atol=1e-5)
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-4


def test_ids_are_sent_and_spans_are_read_from_where_they_are(folders, server):
    pair = pair_of(folders)
    teacher = ServedTeacher(new_config(folders, server, 4).teacher, pair.teacher)
    prompts, written = completions(pair)
    whole = teacher.start(prompts[1], written[1])()
    assert sorted(body["prompt"] for body in server.asked[1:]) == sorted(
        prompt + ids for prompt, ids in zip(prompts[1], written[1], strict=True)
    )
    assert all(body["max_tokens"] == 1 and body["prompt_logprobs"] == 4 for body in server.asked)
    sizes = [len(ids) for ids in written[1]]
    assert whole.ids_RK.shape == (sum(sizes), 5)
    # the written token is listed in every row, and nothing is lost
    assert (whole.ids_RK == torch.tensor([t for ids in written[1] for t in ids])[:, None]).any(1).all()
    total = whole.log_p_RK.double().exp().sum(1) + whole.log_rest_R.double().exp()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)
    part = teacher.start(prompts[1], written[1], [[(0, 1), (2, 3)], [], [(1, 3)], [(0, 1)]])()
    starts = [sum(sizes[:place]) for place in range(4)]
    rows = [starts[0], starts[0] + 2, starts[2] + 1, starts[2] + 2, starts[3]]
    assert torch.equal(part.ids_RK, whole.ids_RK[rows]) and torch.equal(part.log_p_RK, whole.log_p_RK[rows])
    used = teacher.usage()
    assert used["teacher_tokens"] == 2 + 2 * sum(len(p) + n for p, n in zip(prompts[1], sizes, strict=True))
    assert teacher.usage()["teacher_tokens"] == 0


@pytest.mark.parametrize("logprob", [-9999.0, float("-inf")])
def test_a_token_that_the_teacher_excludes_counts_as_one_that_is_not_listed(folders, server, logprob):
    """As a known log-probability, -9999 would make the loss of this row thousands of nats, and infinity no number."""
    pair, config = pair_of(folders), new_config(folders, server, 8)
    teacher = ServedTeacher(config.teacher, pair.teacher)
    prompts, written = completions(pair)
    written_ids = set(map(str, written[1][0]))

    def exclude(answer):
        for entry in answer["choices"][0]["prompt_logprobs"][1:]:
            # one that was not written
            entry[next(token for token in entry if token not in written_ids)]["logprob"] = logprob

    server.change = exclude
    rows = teacher.start(prompts[1][:1], written[1][:1])()
    assert rows.log_p_RK.isfinite().all() and (rows.log_p_RK == LOG_ZERO).any()
    student = load_model(config.student)
    hidden_RH, _ = hidden_rows(student, prompts[0][:1], written[0][:1], 0)
    for method in ("simct", "strict", "marginal", "alm"):
        result = compute_from_rows(method, pair, hidden_RH, Head.of(student), rows, [written[0][0]], [written[1][0]])
        assert float(result.loss.detach()) < 100, method


def test_faults_that_pass_are_retried_and_no_row_is_lost(folders, server):
    pair = pair_of(folders)
    prompts, written = completions(pair)
    teacher = ServedTeacher(new_config(folders, server, 8).teacher, pair.teacher)
    expected = teacher.start(prompts[1], written[1])()
    server.faults = [429, "cut", 503, 500, "cut"]
    found = teacher.start(prompts[1], written[1])()
    assert torch.equal(found.ids_RK, expected.ids_RK) and torch.equal(found.log_p_RK, expected.log_p_RK)
    assert not server.faults
    assert teacher.usage()["teacher_retries"] == 5


def test_a_server_that_stays_broken_ends_the_run_with_a_reason(folders, server):
    pair = pair_of(folders)
    prompts, written = completions(pair)
    teacher = ServedTeacher(new_config(folders, server, 8).teacher, pair.teacher, patience=0.2)
    server.faults = [503] * 1000
    with pytest.raises(RunError, match=r"answered 503: injected 503"):
        teacher.start(prompts[1], written[1])()
    server.faults = []
    server.__exit__()
    with pytest.raises(RunError, match=r"does not answer .* correct teacher.server"):
        ServedTeacher(new_config(folders, server, 8).teacher, pair.teacher, patience=0.2)


def hanging_client(monkeypatch, patience):
    """A client of a server that accepts requests and never answers; its address listens while the test runs."""
    monkeypatch.setattr(served, "LEAST_SECONDS", 0.05)
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    listening = socket.create_server(("127.0.0.1", 0))
    return listening, ServerClient(f"http://127.0.0.1:{listening.getsockname()[1]}", patience=patience)


def test_a_server_that_hangs_is_given_up_after_patience_in_all(monkeypatch):
    listening, client = hanging_client(monkeypatch, 0.5)
    monkeypatch.setattr(served, "ANSWER_SECONDS", 0.2)
    with listening:
        started = time.monotonic()
        with pytest.raises(RunError, match=r"does not answer \(.*; waited [01] s\)"):
            client.request("/v1/models")
        assert 0.3 < time.monotonic() - started < 1.5 and client.retries >= 1


def test_a_server_that_answers_other_requests_is_busy_and_not_gone(monkeypatch):
    listening, client = hanging_client(monkeypatch, 0.5)
    monkeypatch.setattr(served, "ANSWER_SECONDS", 0.2)
    tries = []

    def request(*arguments, **options):
        tries.append(time.monotonic())
        if len(tries) < 5:
            client._answered = time.monotonic() - 0.1  # as another thread would note
            time.sleep(0.15)
            raise httpx2.ReadTimeout("no answer")
        return httpx2.Response(200, json={})

    with listening:
        monkeypatch.setattr(client.http, "request", request)
        assert client.request("/v1/models") == {} and len(tries) == 5


def last_entry(entry):
    return lambda choice: choice["prompt_logprobs"].__setitem__(-1, entry(choice["prompt_logprobs"][-1]))


UNTRUE = {
    "returns no prompt_logprobs. Serve the teacher with vLLM": lambda choice: choice.pop("prompt_logprobs"),
    "answered about token ids other than": lambda choice: choice["prompt_logprobs"].pop(),
    "about token ids other than those it was sent": lambda choice: choice.update(prompt_token_ids=[1, 2, 3]),
    "no log-probability of token": last_entry(lambda entry: None),
    "gave no log-probability of token": last_entry(lambda entry: {"5": {"logprob": -1.0}}),
    "add up to": last_entry(lambda entry: {token: {"logprob": 0.0} for token in entry}),
    "lists token ids that no vocabulary has": last_entry(lambda entry: entry | {str(10**30): {"logprob": -90.0}}),
    "lists 2 log-probabilities, and teacher.top_logprobs is 8": last_entry(lambda entry: dict(list(entry.items())[:2])),
}


@pytest.mark.parametrize("reason", UNTRUE)
def test_an_answer_that_cannot_be_trusted_is_an_error(folders, server, reason):
    pair = pair_of(folders)
    teacher = ServedTeacher(new_config(folders, server, 8).teacher, pair.teacher)
    server.change = lambda answer: UNTRUE[reason](answer["choices"][0])
    prompts, written = completions(pair)
    with pytest.raises(SimCTError, match=reason):
        teacher.start(prompts[1][:1], written[1][:1])()


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 100_000, b"<html></html>", b"\xff\xfe", b"[]", b""])
@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_is_no_json_object_is_one_line(monkeypatch, content, status):
    client = ServerClient("http://127.0.0.1:9", patience=0.1)
    monkeypatch.setattr(client.http, "request", lambda *_, **__: httpx2.Response(status, content=content))
    with pytest.raises(RunError, match="something other than JSON" if status == 200 else "answered 400: .") as caught:
        client.request("/v1/models")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_the_servers_limit_is_quoted(folders, server):
    server.max_logprobs = 20
    with pytest.raises(ConfigError, match=r"top_logprobs is 64, .* max allowed: 20.* --max-logprobs 64"):
        ServedTeacher(new_config(folders, server, 64).teacher, pair_of(folders).teacher)


def test_a_server_of_another_model_is_refused(folders, server):
    server.names = ["acme/one", "acme/two"]
    with pytest.raises(ConfigError, match=r"does not serve the teacher .*; it serves: acme/one, acme/two"):
        ServedTeacher(new_config(folders, server).teacher, pair_of(folders).teacher)
    # a single model may be served under any name
    server.names = ["anything"]
    assert ServedTeacher(new_config(folders, server).teacher, pair_of(folders).teacher).name == "anything"
    assert ServedTeacher(new_config(folders, server).teacher, pair_of(folders).teacher).context_length == 511


def test_the_verdicts_numbers_are_those_of_the_local_teacher(folders, server, tmp_path):
    config = new_config(folders, server)
    config.data.prompts = str(tmp_path / "prompts.jsonl")
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in TEXTS))
    remote = measure_pair(config, 4)
    config.teacher.server = None
    local = measure_pair(config, 4)
    assert remote.method == local.method and remote.units_shared == local.units_shared > 0
    for name in ("mass_teacher", "candidate_mass", "hindsight_mass", "kl_shared", "kl_recovered", "gradient_cosine"):
        assert getattr(remote, name) == pytest.approx(getattr(local, name), abs=1e-4), name
    config.teacher.server, config.teacher.top_logprobs = server.url, 4
    some = measure_pair(config, 4)
    assert some.mass_teacher < local.mass_teacher and 0 <= some.kl_shared < 50
    assert some.listed == 4 and local.listed is None and "The teacher's server listed the 4 most likely" in sample(some)


def test_a_look_at_a_server_says_what_it_has(folders, server):
    config, tokens = new_config(folders, server, 8).teacher, pair_of(folders).teacher
    found = look_at_server(config, tokens)
    assert (found.model, found.context_length, found.listed, found.same_tokenizer) == (str(folders[0]), 511, 8, True)
    assert found.seconds > 0 and found.tokens_per_second > 0 and "511 tokens" in found.line()

    def other(answer):
        for entries in filter(None, answer["choices"][0]["prompt_logprobs"]):
            for entry in entries.values():
                entry["decoded_token"] = "other"

    server.change = other
    assert look_at_server(config, tokens).same_tokenizer is False
    server.change = lambda answer: [
        entry.pop("decoded_token")
        for entries in filter(None, answer["choices"][0]["prompt_logprobs"])
        for entry in entries.values()
    ]
    assert look_at_server(config, tokens).same_tokenizer is None


def test_the_preflight_asks_the_server(folders, server, tmp_path, monkeypatch):
    config = new_config(folders, server, 8)
    config.data.prompts = str(tmp_path / "prompts.jsonl")
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "the cat"}))
    (found,) = check_teacher_server(PlannedRun(config))
    assert found.state == OK and "lists 8 tokens" in found.message
    # a public studio asks nobody's server for people it does not know, and for nobody one of its own network
    assert check_teacher_server(PlannedRun(config, place=Place(public=True))) == []
    asked = len(server.keys)
    (found,) = check_teacher_server(PlannedRun(config, "hf_visitor", Place(public=True)))
    assert found.state == PROBLEM and "private address" in found.message and len(server.keys) == asked
    server.key = KEY
    (found,) = check_teacher_server(PlannedRun(config))
    assert found.state == PROBLEM and KEY_VARIABLE in found.remedy
    (found,) = check_teacher_server(PlannedRun(config, teacher_key=KEY))
    assert found.state == OK
    monkeypatch.setenv(KEY_VARIABLE, "another key")
    (found,) = check_teacher_server(PlannedRun(config))
    assert found.state == PROBLEM and "another key" not in found.message
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server.max_logprobs = 4
    (found,) = check_teacher_server(PlannedRun(config))
    assert found.state == PROBLEM and "max allowed: 4" in found.message + str(found.remedy)


# The key


def test_the_key_is_sent_to_its_server_and_shown_nowhere(folders, server, monkeypatch):
    server.key = KEY
    tokens, config = pair_of(folders).teacher, new_config(folders, server, 8)
    with pytest.raises(ConfigError, match=rf"wants a key .*{KEY_VARIABLE}"):
        ServedTeacher(config.teacher, tokens)
    monkeypatch.setenv(KEY_VARIABLE, KEY + "-wrong")
    with pytest.raises(ConfigError, match="did not accept the key") as refused:
        ServedTeacher(config.teacher, tokens)
    assert KEY not in str(refused.value)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    ServedTeacher(config.teacher, tokens)
    assert KEY not in redact(f"Authorization: Bearer {KEY}") and KEY not in str(config.model_dump())


def test_a_redirect_takes_the_key_nowhere(folders, server, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with TeacherServer(folders[0]) as other:
        server.redirect = other.url
        with pytest.raises(ConfigError, match=rf"redirects to {other.url}.*final address"):
            ServedTeacher(new_config(folders, server).teacher, pair_of(folders).teacher)
        assert other.keys == []


def test_the_hubs_login_is_only_for_the_hubs_own_endpoints(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setattr(server_address, "get_token", lambda: "hf_stored")
    assert key_for("https://abc.us-east-1.aws.endpoints.huggingface.cloud") == "hf_stored"
    assert key_for("https://abc.us-east-1.aws.endpoints.huggingface.cloud", "hf_visitor") == "hf_visitor"
    for elsewhere in (
        "https://example.com",
        "http://abc.endpoints.huggingface.cloud",
        "https://endpoints.huggingface.cloud.example.com",
        "http://127.0.0.1:8000",
    ):
        assert key_for(elsewhere, "hf_visitor") is None
    assert key_for("https://abc.endpoints.huggingface.cloud", False) is None
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert key_for("https://example.com") == KEY


NOT_PLAIN = ("example.com", "ftp://example.com", "https://me:secret@example.com", "http://", "https://a/?key=1")


@pytest.mark.parametrize("address", NOT_PLAIN)
def test_an_address_is_plain(address):
    described = {"teacher": {"model": "t", "server": address}, "student": "s", "data": {"prompts": "p"}}
    with pytest.raises(ConfigError, match=r"teacher\.server is .*without a name, password or query"):
        config_from_dict(described)


def test_settings_that_a_server_cannot_meet_are_refused(folders, server):
    config = new_config(folders, server)
    for change, reason in (
        ({"method": "uld"}, "needs all of the teacher's probabilities"),
        ({"method_options": {"temperature": 2.0}}, r"method_options\.temperature is 2\.0"),
        ({"teacher": {"model": "t", "server": server.url, "sharded": True}}, r"teacher\.sharded is True"),
        ({"student": {"model": "s", "server": server.url}}, r"student\.server"),
    ):
        with pytest.raises(ConfigError, match=reason):
            validate(config_from_dict(json.loads(json.dumps(config.model_dump() | change))))


# In a run


def train_with(config, teacher, pair, folder):
    student, records = load_model(config.student), []
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in TEXTS], pair, config, [])
    Trainer(
        config, Accelerator(cpu=True), teacher, student, pair, prompts, folder,
        on_step=lambda record, samples: records.append(record),
    ).train()  # fmt: skip
    return student, records


def test_a_run_with_a_served_teacher_trains_what_the_local_one_does(folders, server, tmp_path):
    config, pair = new_config(folders, server), pair_of(folders)
    config.teacher.price_per_million_tokens = 2.0
    teacher = load_teacher(config.teacher, pair.teacher)
    server.faults = [503, "cut"]
    student, records = train_with(config, teacher, pair, tmp_path / "served")
    expected, local = train_with(config, load_model(config.teacher), pair, tmp_path / "local")
    assert [record["loss"] for record in records] == pytest.approx([record["loss"] for record in local], abs=1e-5)
    for found, wanted in zip(student.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)
    assert sum(record["teacher_retries"] for record in records) == 2
    assert all(record["teacher_cost"] == pytest.approx(2e-6 * record["teacher_tokens"]) for record in records)
    assert not any(name.startswith("teacher_") for record in local for name in record)
    assert 1 < server.most_at_once <= served.REQUESTS_AT_ONCE


def test_micro_batches_are_scored_while_one_is_trained(folders, server, tmp_path):
    """The first micro-batch trains only when the scores of the second were asked for, which would else wait forever."""
    config, pair = new_config(folders, server, 8), pair_of(folders)
    config.training.steps = 1
    teacher = load_teacher(config.teacher, pair.teacher)
    asked, trained = threading.Semaphore(0), threading.Event()
    server.before = lambda body: asked.release()

    class Watched(Trainer):
        def _start_scoring(self, samples, counts):
            rows = super()._start_scoring(samples, counts)

            def wait():
                if not trained.is_set():
                    for _ in range(4):  # all four texts of two micro-batches are on their way
                        assert asked.acquire(timeout=30)
                    trained.set()
                return rows()

            return wait

    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in TEXTS], pair, config, [])
    Watched(config, Accelerator(cpu=True), teacher, load_model(config.student), pair, prompts, tmp_path).train()
    assert trained.is_set()


def test_a_served_teacher_writes_what_is_off_policy(folders, server):
    config, pair = new_config(folders, server), pair_of(folders)
    teacher = load_teacher(config.teacher, pair.teacher)
    prompts = [pair.teacher.encode(b"the cat")] * 3
    rollouts = teacher_rollouts(teacher, config, prompts, 1, [0, 1, 2])
    assert len(rollouts) == 3 and all(0 < len(each.completion_ids) <= 8 for each in rollouts)
    assert rollouts == teacher_rollouts(teacher, config, prompts, 1, [0, 1, 2])
    assert len({body["seed"] for body in server.asked if "seed" in body}) == 3


def test_the_client_never_follows_a_redirect():
    client = served.ServerClient("http://127.0.0.1:1/v1/", "key")
    assert client.target.url == "http://127.0.0.1:1" and client.http.follow_redirects is False
    assert isinstance(client.http, httpx2.Client)


# A public Space


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8000", "http://localhost", "http://10.0.0.7", "http://169.254.169.254/latest", "http://[::1]:80",
     "http://192.168.1.1", "http://0.0.0.0", "http://2130706433", "http://[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_a_space_asks_no_private_address(address, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "acme/studio")
    with pytest.raises(ConfigError, match="private address"):
        target_of(address)
    monkeypatch.delenv("SPACE_ID")
    assert target_of(address).url == address


def test_a_space_connects_to_the_address_that_it_checked(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "acme/studio")
    answers = iter([["93.184.215.14"], ["127.0.0.1"], ["93.184.215.14", "10.0.0.1"]])
    monkeypatch.setattr(
        server_address.socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (ip, 443)) for ip in next(answers)]
    )
    target = target_of("https://teacher.example.com/v1")
    assert target.url == "https://93.184.215.14:443" and target.headers == {"Host": "teacher.example.com"}
    assert target.extensions == {"sni_hostname": "teacher.example.com"}
    for _ in range(2):
        with pytest.raises(ConfigError, match="private address"):
            target_of("https://teacher.example.com")


def test_a_space_asks_by_https_only(monkeypatch):
    answer = [(0, 0, 0, "", ("93.184.215.14", 80))]
    monkeypatch.setattr(server_address.socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(ConfigError, match="https only"):
        target_of("http://teacher.example.com", public=True)
    assert target_of("http://teacher.example.com", public=False).url == "http://teacher.example.com"


def test_a_key_is_kept_for_its_owner_and_its_server(monkeypatch):
    monkeypatch.setattr(server_keys, "_keys", OrderedDict())
    keep_key("ann", "https://one.example.com/v1", f" {KEY} ")
    assert key_of("ann", "https://one.example.com") == key_of("ann", "https://ONE.example.com:443/v1/") == KEY
    for owner, address in (("bob", "https://one.example.com"), (None, "https://one.example.com"),
                           ("ann", "https://two.example.com"), ("ann", "http://one.example.com"), ("ann", None),
                           ("ann", "https://one.example.com:8443"), ("ann", "nonsense")):  # fmt: skip
        assert key_of(owner, address) is None
    # it is left out of whatever this process shows of ann's
    assert redact(f"Bearer {KEY}", "ann") == "Bearer …"
    for wrong in ("two words", "new\nline", "ключ", "x" * 5000):
        with pytest.raises(ConfigError, match="not a key") as refused:
            keep_key("ann", "https://one.example.com", wrong)
        assert wrong not in str(refused.value)
    with pytest.raises(ConfigError, match="address of the server first"):
        keep_key("ann", "", KEY)
    keep_key("ann", "https://one.example.com", "")
    assert key_of("ann", "https://one.example.com") is None


def test_a_space_lends_no_key_of_its_own(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "acme/studio")
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setattr(server_address, "get_token", lambda: "hf_the_spaces_own")
    assert key_for("https://example.com") is None
    assert key_for("https://abc.endpoints.huggingface.cloud") is None
    assert key_for("https://abc.endpoints.huggingface.cloud", "hf_visitor") == "hf_visitor"
    # that of a visitor, given with their request or to their run, is theirs
    assert key_for("https://example.com", key="given") == "given"
    monkeypatch.setenv(RUN_KEY_VARIABLE, "key-of-the-run")
    assert key_for("https://example.com") == "key-of-the-run" and redact("key-of-the-run") == "…"

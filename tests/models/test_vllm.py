"""Rollouts by vLLM: what a server is asked, that it writes with the student's present weights, and plain refusals.

The server here answers vLLM's own calls over HTTP and completes greedily with transformers; where vLLM itself is
installed, the last test trains with it.
"""

import importlib.util
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from simct.config import config_from_dict
from simct.data.prompts import Prompt
from simct.data.samples import prepare_prompts
from simct.errors import ConfigError, RunError
from simct.models.loading import load_model
from simct.models.rollout import generate
from simct.models.vllm import VllmWriter, sample_seed
from simct.tokenization.pair import TokenizerPair
from simct.training.trainer import Trainer

TEXTS = ["the cat", "a 12", "and 23 the", "1223"]


class Server(ThreadingHTTPServer):
    """`asked` are the calls so far; `development` is VLLM_SERVER_DEV_MODE."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.development, self.lock = [], True, threading.Lock()
        self.before_completing = lambda seed: None
        self.model = AutoModelForCausalLM.from_pretrained(folder)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.answer({"data": [{"id": "student"}]} if self.path == "/v1/models" else None)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/completions":
            self.server.before_completing(body["seed"])
        with self.server.lock:
            self.server.asked.append((self.path, body))
            self.answer(self.post(body))

    def post(self, body):
        if self.path == "/v1/completions":
            prompt = torch.tensor([body["prompt"]])
            with torch.no_grad():
                output = self.server.model.generate(
                    prompt, max_new_tokens=body["max_tokens"], do_sample=False, eos_token_id=body["stop_token_ids"]
                )
            return {"choices": [{"token_ids": output[0, prompt.shape[1] :].tolist()}]}
        if self.server.development and self.path == "/collective_rpc" and body["method"] == "reload_weights":
            self.server.model = AutoModelForCausalLM.from_pretrained(body["kwargs"]["weights_path"])
            return {"results": [None]}
        return {} if self.server.development and self.path == "/reset_prefix_cache" else None

    def answer(self, body):
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(body or {}).encode())


@pytest.fixture
def server(folders):
    server = Server(folders[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def new_config(folders, url, **lora):
    return config_from_dict(
        {
            "teacher": str(folders[0]),
            "student": str(folders[1]),
            "data": {"prompts": "prompts"},
            "lora": lora,
            "rollout": {"max_new_tokens": 8, "temperature": 0.7, "top_p": 0.9, "engine": "vllm", "vllm_url": url},
            "training": {"steps": 3, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-2, "max_length": 64},
        }
    )


def train_here(config, folder, watch=lambda step, student: None):
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    prompts, _ = prepare_prompts([Prompt(({"role": "user", "content": text},)) for text in TEXTS], pair, config, [])
    student, records = load_model(config.student), []

    def on_step(record, samples):
        records.append((record, samples))
        watch(record["step"], student)

    Trainer(
        config, Accelerator(cpu=True), load_model(config.teacher), student, pair, prompts, folder / "checkpoints",
        on_step=on_step,
    ).train()  # fmt: skip
    return student, records


def test_each_step_writes_with_the_weights_of_that_step(folders, server, tmp_path):
    config = new_config(folders, server.url)
    student, records = train_here(config, tmp_path)
    paths = [path for path, _ in server.asked]
    one_step = ["/collective_rpc", "/reset_prefix_cache", *["/v1/completions"] * 4]
    assert paths == one_step * 3
    assert all(record["rows"] > 0 for record, _ in records)
    asked = server.asked[2][1]
    assert (asked["temperature"], asked["top_p"], asked["top_k"], asked["max_tokens"]) == (0.7, 0.9, -1, 8)
    assert (asked["min_p"], asked["repetition_penalty"]) == (0.0, 1.0)
    assert {body["seed"] for path, body in server.asked if path == "/v1/completions"} == {
        sample_seed(0, step, index) for step in (1, 2, 3) for index in range(4)
    }
    # what the server has is the student before its last step: trained, and not the last weights
    start = load_model(config.student).state_dict()
    held, now = server.model.state_dict(), student.state_dict()
    assert any(not torch.equal(held[name], start[name]) for name in held)
    assert any(not torch.equal(held[name], now[name]) for name in held)
    assert not (tmp_path / ".vllm").exists()


def test_ahead_a_step_is_written_while_the_one_before_is_trained_by_weights_one_step_old(folders, server, tmp_path):
    config = new_config(folders, server.url)
    config.rollout.ahead, config.training.steps = True, 4
    steps = {sample_seed(0, step, index): step for step in range(1, 5) for index in range(4)}
    trained, weights = [threading.Event() for _ in range(5)], {}

    def before_completing(seed):
        # what is written ahead is answered only when the step before is over, so waiting for it would never end
        assert steps[seed] == 1 or trained[steps[seed] - 1].wait(60), (
            "The previous step was not trained in the meantime."
        )

    def watch(step, student):
        weights[step] = {name: value.clone() for name, value in student.state_dict().items()}
        trained[step].set()

    server.before_completing = before_completing
    _, records = train_here(config, tmp_path, watch)
    order = [steps[body["seed"]] if path == "/v1/completions" else path for path, body in server.asked]
    synced = ["/collective_rpc", "/reset_prefix_cache"]
    assert order == [*synced, *[1] * 4, *[2] * 4, *synced, *[3] * 4, *synced, *[4] * 4]
    assert all(record["rows"] > 0 for record, _ in records)
    # the last step was written by the weights after the second
    assert all(torch.equal(weights[2][name], value) for name, value in server.model.state_dict().items())


def test_the_ids_are_kept_as_written_and_cut_at_the_end(folders, server, tmp_path):
    config = new_config(folders, server.url)
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    student = load_model(config.student)
    writer = VllmWriter(config, student, pair.student, tmp_path / "weights")
    prompt = pair.student.encode(b"the cat")
    (rollout,) = writer.write([prompt], step=1, indices=[0])
    greedy = student.generate(
        torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=list(pair.student.end_ids)
    )[0, len(prompt) :].tolist()
    assert rollout.prompt_ids == prompt and rollout.completion_ids == greedy
    assert rollout.ended == (greedy[-1] in pair.student.end_ids)


def test_a_server_is_given_every_setting_of_sampling(folders, server, tmp_path):
    config = new_config(folders, server.url)
    config.rollout.top_k, config.rollout.min_p, config.rollout.repetition_penalty = 20, 0.05, 1.2
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    writer = VllmWriter(config, load_model(config.student), pair.student, tmp_path / "weights")
    writer.write([pair.student.encode(b"the cat")], step=1, indices=[0])
    asked = server.asked[-1][1]
    assert (asked["top_k"], asked["min_p"], asked["repetition_penalty"]) == (20, 0.05, 1.2)


@pytest.mark.parametrize("text", [b"<html></html>", b"[]", b'{"data": []}', b'{"data": ["student"]}', b"[" * 100_000])
def test_a_server_that_is_not_vllm_is_reported_in_one_line(folders, server, tmp_path, monkeypatch, text):
    def answer(handler, body):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(text)

    monkeypatch.setattr(Handler, "answer", answer)
    config, pair = new_config(folders, server.url), TokenizerPair.from_pretrained(*map(str, folders))
    student = load_model(config.student)
    with pytest.raises(RunError, match="with something that vLLM does not"):
        VllmWriter(config, student, pair.student, tmp_path / "weights")


def test_a_server_that_cannot_be_used_is_reported_in_one_line(folders, server, tmp_path):
    server.development = False
    with pytest.raises(RunError, match="VLLM_SERVER_DEV_MODE=1"):
        train_here(new_config(folders, server.url), tmp_path)
    with pytest.raises(RunError, match="does not answer"):
        train_here(new_config(folders, "http://127.0.0.1:9"), tmp_path)


@pytest.mark.parametrize(
    ("rollout", "match"),
    [
        ({"engine": "sglang"}, "transformers, vllm"),
        ({"vllm_url": "http://host"}, "rollout.vllm_url"),
        ({"engine": "vllm", "vllm_url": "host:80"}, "rollout.vllm_url"),
        ({"engine": "vllm", "vllm_memory": 1.5}, "rollout.vllm_memory"),
        ({"ahead": True}, "rollout.ahead"),
    ],
)
def test_settings_that_do_not_fit_are_refused(rollout, match):
    with pytest.raises(ConfigError, match=match):
        config_from_dict({"teacher": "a/b", "student": "c/d", "data": {"prompts": "p"}, "rollout": rollout})


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_error_says_what_to_do(folders, tmp_path):
    with pytest.raises(ConfigError, match="not installed here"):
        train_here(new_config(folders, None), tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_itself_writes_what_transformers_would_before_and_after_an_update(folders, tmp_path):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folders[1])
    torch.manual_seed(0)
    # heads of 64, which vLLM has kernels for on every device; a sharp lm_head, so that greedy choices are no ties
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2, "head_dim": 64}
    student = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer) + 5, num_hidden_layers=2, **shape))
    student.lm_head.weight.data.mul_(200)
    student.save_pretrained(tmp_path / "student")
    tokenizer.save_pretrained(tmp_path / "student")
    config = new_config((folders[0], tmp_path / "student"), None)
    config.rollout.temperature = 0.01
    pair = TokenizerPair.from_pretrained(config.teacher.model, config.student.model)
    prompts = [pair.student.encode(text.encode()) for text in TEXTS]
    writer = VllmWriter(config, student, pair.student, tmp_path / "weights")
    for _ in range(2):
        writer.sync(student)
        written = writer.write(prompts, step=1, indices=list(range(len(prompts))))
        end_ids, known = pair.student.end_ids, len(pair.student.bytes_of)
        assert written == generate(student, prompts, end_ids, 0, known, config.rollout.max_new_tokens)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    writer.close()

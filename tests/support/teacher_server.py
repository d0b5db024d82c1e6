"""A teacher's server on the loopback interface: vLLM's completions API, answered by a real model, with faults at will.

with TeacherServer(folder) as server:
    server.faults = [429, "cut", 503]              # what happens to the next scoring requests, in order
    config.teacher.server = server.url
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

KEY = "teacher-key-for-tests"


class TeacherServer:
    """`asked` are the bodies so far, `keys` the Authorization headers, by path. `change` edits an answer in place."""

    def __init__(self, folder: Path | str, max_logprobs: int = 100_000, key: str | None = None, length: int = 512):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.names = [str(folder)]
        self.max_logprobs, self.key, self.length = max_logprobs, key, length
        self.asked: list[dict[str, Any]] = []
        self.keys: list[tuple[str, str | None]] = []
        self.faults: list[int | str] = []
        self.change: Callable[[dict[str, Any]], None] = lambda answer: None
        self.before: Callable[[dict[str, Any]], None] = lambda body: None
        self.redirect: str | None = None
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"served": self}))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "TeacherServer":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.shutdown()
        self._http.server_close()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = torch.tensor([body["prompt"]])
        choice: dict[str, Any] = {"index": 0, "prompt_token_ids": body["prompt"]}
        with self.lock, torch.no_grad():
            if "prompt_logprobs" in body:
                choice["prompt_logprobs"] = self._listed(body["prompt"], body["prompt_logprobs"])
            else:
                torch.manual_seed(body["seed"])
                output = self.model.generate(
                    ids, max_new_tokens=body["max_tokens"], do_sample=True, temperature=body["temperature"],
                    top_p=body["top_p"], eos_token_id=body["stop_token_ids"], pad_token_id=0,
                )  # fmt: skip
                choice["token_ids"] = output[0, ids.shape[1] :].tolist()
        return {"choices": [choice]}

    def _listed(self, ids: list[int], k: int) -> list[dict[str, Any] | None]:
        log_p_TV = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        listed: list[dict[str, Any] | None] = [None]
        for place, token in enumerate(ids[1:]):
            top = log_p_TV[place].topk(min(k, log_p_TV.shape[1]))
            found = {token: float(log_p_TV[place, token])}
            found |= dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
            listed.append(
                {str(each): {"logprob": max(value, -9999.0), "decoded_token": self.tokenizer.decode([each])}
                 for each, value in found.items()}
            )  # fmt: skip
        return listed


class _Handler(BaseHTTPRequestHandler):
    served: TeacherServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self._allowed():
            return
        if self.path == "/v1/models":
            cards = [{"id": name, "max_model_len": self.served.length} for name in self.served.names]
            self._answer(200, {"data": cards})
        else:
            self._answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        served = self.served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        with served.lock:
            served.asked.append(body)
            fault = served.faults.pop(0) if served.faults else None
            served.at_once += 1
            served.most_at_once = max(served.most_at_once, served.at_once)
        try:
            self._post(body, fault)
        finally:
            with served.lock:
                served.at_once -= 1

    def _post(self, body: dict[str, Any], fault: int | str | None) -> None:
        served = self.served
        served.before(body)
        if isinstance(fault, int):
            self._answer(fault, {"error": {"message": f"injected {fault}"}}, {"Retry-After": "0"})
        elif fault is not None:
            self._answer(200, served.complete(body), cut=True)
        elif body.get("prompt_logprobs", 0) > served.max_logprobs:
            asked = body["prompt_logprobs"]
            said = f"Requested prompt logprobs of {asked}, which is greater than max allowed: {served.max_logprobs}"
            self._answer(400, {"error": {"message": said}})
        else:
            answer = served.complete(body)
            served.change(answer)
            self._answer(200, answer)

    def _allowed(self) -> bool:
        served, given = self.served, self.headers.get("Authorization")
        served.keys.append((self.path, given))
        if served.redirect:
            self._answer(307, {}, {"Location": served.redirect + self.path})
            return False
        if served.key and given != f"Bearer {served.key}":
            self._answer(401, {"error": {"message": f"Unauthorized: {given}"}})
            return False
        return True

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None, cut: bool = False):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


def main() -> None:
    """Serve the model in a folder until killed, each answer after so many seconds; prints the address."""
    import sys
    import time

    folder, delay = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    with TeacherServer(folder) as server:
        server.before = lambda body: time.sleep(delay)
        print(server.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()

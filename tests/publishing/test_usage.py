"""Code for using a student: it runs on the embedded student, and names the right repository for every program."""

import json
import shlex
import subprocess
import sys

import pytest

from app.publish.usage import UsagePanel
from simct import demo
from simct.publishing.usage import PublishedStudent, gguf_repo, ollama_command, transformers_code, vllm_commands
from tests.support.hub_runs import finished_run

PROMPT = 'Say it plainly: "The constable\'s key" \\ costs 5 €.'


def test_the_transformers_code_runs_on_an_embedded_student():
    code = transformers_code(PublishedStudent(str(demo.STUDENT), chat=True), PROMPT)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(repr(messages[0]['content']))"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer, _, asked = done.stdout.strip().rpartition("\n")
    assert answer.strip() and asked == repr(PROMPT)


def test_a_student_without_a_chat_template_completes_a_text():
    code = transformers_code(PublishedStudent("me/x", chat=False), PROMPT)
    assert "apply_chat_template" not in code and "tokenizer(" in code
    compile(code, "snippet", "exec")
    assert "/v1/completions" in vllm_commands(PublishedStudent("me/x", chat=False), PROMPT)


def test_the_vllm_request_is_json_that_a_shell_passes_on():
    commands = vllm_commands(PublishedStudent("me/x", chat=True), PROMPT).splitlines()
    assert "vllm serve me/x" in commands
    words = shlex.split(commands[-1])
    body = json.loads(words[words.index("-d") + 1])
    assert body["model"] == "me/x" and body["messages"] == [{"role": "user", "content": PROMPT}]
    assert words[1] == "http://localhost:8000/v1/chat/completions"


@pytest.mark.parametrize(("rank", "served"), [(2, 8), (8, 8), (40, 64), (600, 600)])
def test_an_adapter_is_served_on_its_base(rank, served):
    student = PublishedStudent("me/x", True, base="acme/base", base_revision="abc", rank=rank)
    commands = vllm_commands(student)
    serve = f"vllm serve acme/base --revision abc --enable-lora --max-lora-rank {served} --lora-modules me/x=me/x"
    assert serve in commands.splitlines()
    code = transformers_code(student)
    assert (
        'from_pretrained("acme/base", revision="abc")' in code and "PeftModel.from_pretrained(base, model_id)" in code
    )


def test_ollama_runs_what_the_space_makes():
    assert gguf_repo("me/x") == "me/x-Q4_K_M-GGUF" and ollama_command("me/x") == "ollama run hf.co/me/x-Q4_K_M-GGUF"


def test_the_page_fills_in_the_repository(tmp_path):
    import gradio as gr

    with gr.Blocks():
        panel = UsagePanel()
    run = finished_run(tmp_path / "run")
    shown = panel.show(run, "me/x", False)
    assert 'model_id = "me/x"' in shown[panel.transformers] and "vllm serve me/x" in shown[panel.vllm]
    assert shown[panel.repository].value == "me/x" and "me/x-Q4_K_M-GGUF" in shown[panel.steps]
    assert "your-name/model-name" in panel.show(run, "", False)[panel.transformers]
    alone = panel.show(run, "me/x", True)
    assert not alone[panel.ollama].visible and "merged model" in alone[panel.steps]
    assert "<b>" not in panel.show(run, "me/<b>", False)[panel.steps]

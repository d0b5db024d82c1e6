"""Modules import only what stands above them in this list, so that the library can be read from the top."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORDER = """
errors config jobs.run_folder hub.errors_from_hub clients
byte_encoders token_bytes bridge_cache alignment tokenizer_pair units divergence
losses.head losses.chunked losses.strings losses.units_merged losses.strict losses.simct losses.marginal
losses.bpm losses.uld losses.gold losses.alm losses.diagnostics losses
text_kinds verdict coverage report_charts report_html prompts prompt_report corpus
rollout models sharding vllm_rollouts side_by_side candidates optimization checkpoints memory_estimate
cost_estimate samples
reliability compare_pairs collapse
trainer sandbox_child sandbox checkers lm_eval_tasks fine_tuning warmup demo evaluate presets
jobs.local_job jobs.queue jobs.supervise train hub.client hub.licences hub.dataset_rows hub.search
hub.method_words hub.curve hub.card hub.card_edit hub.upload_progress hub.publish hub.publish_job
jobs.hf_retry jobs.hf_hardware jobs.hf_inputs jobs.hf_job jobs.hf_history jobs.hf_job_runner jobs.actions
tour cli_common cli_inspect cli_jobs cli
""".split()  # noqa: SIM905
# scripts that rebuild committed files; nothing imports them
SCRIPTS = {
    "demo.build", "demo.exercises", "demo.numbers", "demo.plain_words", "demo.sft", "demo.tokenizer_texts",
    "demo.vocabularies", "presets.build_data",
}  # fmt: skip


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "simct").with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, known: set[str]) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "simct":
            base = node.module.removeprefix("simct").removeprefix(".")
            for name in node.names:
                full = f"{base}.{name.name}".removeprefix(".")
                found.add(full if full in known else base)
        elif isinstance(node, ast.Import):
            found |= {name.name.removeprefix("simct.") for name in node.names if name.name.startswith("simct.")}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: imports are absolute here"
    return found - {"", "__init__"}


def test_imports_go_upwards_only():
    files = {module_name(path): path for path in (ROOT / "simct").rglob("*.py")}
    files = {name: path for name, path in files.items() if name and name not in ("__init__", "jobs", "hub")}
    unlisted = set(files) - set(ORDER) - SCRIPTS
    assert not unlisted, f"give these a place in ORDER: {sorted(unlisted)}"
    wrong = [
        f"{name} imports {dependency}"
        for name, path in files.items()
        if name in ORDER
        for dependency in imported(path, set(files))
        if dependency in SCRIPTS or ORDER.index(dependency) >= ORDER.index(name)
    ]
    assert not wrong, wrong


def test_the_library_never_imports_the_studio():
    for path in (ROOT / "simct").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import app" not in text and "from app" not in text and "import gradio" not in text, path


def test_no_shell_and_no_code_from_repositories():
    for folder in ("simct", "app", "spaces"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "shell=True" not in text and "os.system" not in text, path
            assert "trust_remote_code=True" not in text, path

"""The environment of a visitor's training process: nothing of the Space except what the process needs."""

from simct.jobs.local import job as local_job
from simct.jobs.local.environment import visitors_environment

SECRETS = {
    "OAUTH_CLIENT_SECRET": "x", "OAUTH_CLIENT_ID": "x", "HF_TOKEN": "x", "HF_TOKEN_PATH": "x",
    "HUGGING_FACE_HUB_TOKEN": "x",
    "WANDB_API_KEY": "x", "AWS_SECRET_ACCESS_KEY": "x", "SIMCT_TEACHER_KEY": "x", "SECRET_OF_OWNER": "x",
    "DATABASE_URL": "x", "PYTHON_SECRET": "x", "GRADIO_TEMP_DIR": "x",
}  # fmt: skip
NEEDED = {"PATH": "p", "HOME": "h", "PYTHONPATH": "y", "CUDA_VISIBLE_DEVICES": "0", "HF_ENDPOINT": "e", "LC_ALL": "C",
          "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "SIMCT_DEVICES": "0", "OMP_NUM_THREADS": "2"}  # fmt: skip


def test_only_what_is_listed_is_passed_on():
    # next to it, where uploads are, which the run must not read
    assert visitors_environment({**SECRETS, **NEEDED}) == {**NEEDED, "SIMCT_HIDDEN": "x"}


def test_on_a_space_every_run_is_a_visitor_s(monkeypatch):
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "x")
    monkeypatch.setenv("SPACE_ID", "acme/studio")
    assert "OAUTH_CLIENT_SECRET" not in local_job._environment(None, ["cpu"], 3, ())


def test_a_visitor_s_run_gets_its_own_token_or_none(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with_token = local_job._environment("hf_ann", ["cpu"], 3, (), "ann")
    assert with_token["HF_TOKEN"] == "hf_ann" and not (SECRETS.keys() - {"HF_TOKEN"}) & with_token.keys()
    without = local_job._environment(None, ["cpu"], 3, (), "ann")
    assert not SECRETS.keys() & without.keys() and without["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"
    assert local_job._environment(None, ["cpu"], 3, ())["WANDB_API_KEY"] == "x"  # one's own machine


def test_a_log_is_written_as_utf_8_in_every_locale(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    for owner in (None, "ann"):
        assert local_job._environment(None, ["cpu"], 3, (), owner)["PYTHONIOENCODING"] == "utf-8:replace"

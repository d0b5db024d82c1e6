"""What only the Hub knows: access, licenses, the token's permissions, and the machines of Jobs."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from simct.config import config_from_dict
from simct.preflight import account, models, tokenizers
from simct.preflight.checklist import run_checks
from simct.preflight.planned import Place, PlannedRun
from simct.preflight.records import OK, PROBLEM, WARNING
from tests.support.hub_server import TOKEN

READING = "hf_readreadreadreadread"


def card(license):
    return {"README.md": f"---\nlicense: {license}\n---\n".encode()}


@pytest.fixture
def filled(hub, folders):
    hub.add_model("acme/teacher", folders[0], files=card("apache-2.0"))
    hub.add_model("acme/student", folders[1], files=card("mit"))
    hub.add_model("acme/locked", folders[0], gated="manual")
    hub.add_model("acme/noncommercial", folders[0], files=card("cc-by-nc-4.0"))
    hub.add_user("reader", READING, role="read")
    return hub


def planned(teacher="acme/teacher", student="acme/student", token=TOKEN, **place):
    config = config_from_dict(
        {"teacher": teacher, "student": student, "data": {"prompts": "acme/data"}, "rollout": {"max_new_tokens": 16}}
    )
    return PlannedRun(config, token, Place(**place))


def test_models_that_can_be_read(filled):
    assert [each.state for each in models.check_models(planned())] == [OK, OK]


@pytest.mark.parametrize(("teacher", "words"), [("acme/locked", "gated"), ("acme/nothing", "acme/nothing")])
def test_models_that_are_gated_or_absent_hide_neither_side(filled, teacher, words):
    run = planned(teacher)
    found = models.check_models(run)
    assert [each.state for each in found] == [PROBLEM, OK]
    assert words in found[0].text and found[0].setting == "teacher.model" and found[0].kind == "ModelError"
    assert tokenizers.check_tokenizers(run)[-1].message.startswith("Student's")
    texts = [each.text for each in run_checks(planned(teacher)).problems]
    assert sum(words in text for text in texts) == 1, texts


def test_weights_that_are_missing_on_the_hub_are_found_by_the_header(filled, folders, tmp_path):
    folder = shutil.copytree(folders[1], tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.self_attn.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    filled.add_model("acme/torn", folder)
    found = models.check_models(planned(student="acme/torn"))
    assert [each.state for each in found] == [OK, PROBLEM] and "model.layers.0.self_attn.q_proj" in found[1].message


def test_a_hub_that_does_not_answer_is_a_warning(filled, folders):
    filled.fail("/api/models", status=503, times=100)
    found = models.check_models(planned(folders[0], folders[1]))
    assert {each.state for each in found} == {OK}
    found = models.check_models(planned())
    assert [each.state for each in found] == [WARNING, OK, WARNING, OK]
    assert all("having problems" in each.text for each in found if each.state == WARNING)


def test_licenses(filled):
    assert [each.state for each in models.check_licenses(planned())] == [OK]
    [found] = models.check_licenses(planned("acme/noncommercial"))
    assert found.state == WARNING and "commercial" in found.message


def test_a_job_needs_somebody_who_may_write(filled, monkeypatch):
    def check(**options):
        [found] = account.check_account(planned(on_jobs=True, **options))
        return found

    assert check().state == OK
    assert "can only read" in check(token=READING).message
    assert check(token=False).state == PROBLEM and "sign in" in check(token=False).remedy.lower()
    assert "refused the access token" in check(token="hf_nobodynobodynobody").message
    other = check(namespace="acme")
    assert "may not write to 'acme'" in other.message and other.setting == "namespace" and "tester" in other.remedy
    assert check(namespace="tester").state == OK


def test_what_is_pushed_at_the_end_needs_permission(filled):
    assert account.check_account(planned()) == []
    [fine] = account.check_account(planned(push_to=("tester/answers",)))
    [wrong] = account.check_account(planned(push_to=("acme/answers",)))
    assert (fine.state, wrong.state) == (OK, PROBLEM)


def test_where_the_student_is_published(filled):
    run = planned()
    assert account.check_publishing(run) == []
    for name, state in (("tester/new", OK), ("acme/new", PROBLEM)):
        run.config.publish.repo_id = name
        [found] = account.check_publishing(run)
        assert found.state == state and name in found.text
    assert found.setting == "publish.repo_id"


def test_the_machine_of_a_job(filled, folders):
    def check(flavor):
        [found] = account.check_job_machine(planned(*folders, on_jobs=True, flavor=flavor))
        return found

    assert check("cpu-basic").state == OK
    wrong = check("cray-1")
    assert wrong.state == PROBLEM and wrong.setting == "flavor" and "cpu-basic" in wrong.remedy
    huge = planned(*folders, on_jobs=True, flavor="t4-small")
    huge.config.training.max_length, huge.config.rollout.max_new_tokens = 200_100, 200_000
    [small] = account.check_job_machine(huge)
    assert small.state == PROBLEM and "does not fit t4-small" in small.message

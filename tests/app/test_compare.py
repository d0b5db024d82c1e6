"""Compare: what is offered, answers side by side, the chat, the blind test and the prompt set, without a browser."""

import csv
import io
import json
import shutil
from html import unescape

import gradio as gr
import pytest

from app import projects
from app.compare import answers, models, prompt_set, view
from app.compare.answers import Answer, Question, Sampling
from app.compare.models import RunModels
from app.compare.tab import CompareTab
from app.runs.tab import RunsTab
from app.server.memory import MOST_ANSWERING
from app.server.work import Work
from app.train import form
from simct import demo
from simct.config import RunConfig
from simct.errors import DataError, ModelError
from simct.evaluation.votes import Vote, votes_of
from simct.runs.folder import RunFolder
from tests.support.hostile import HOSTILE
from tests.support.run_folders import made_up_run

PROMPT = "Say it plainly: The constable may sell the light key on Saturday."


@pytest.fixture
def run(local) -> RunFolder:
    return RunFolder.create(local.runs_dir, form.starting_config())


@pytest.fixture
def tab(local) -> CompareTab:
    with gr.Blocks():
        return CompareTab(local, RunsTab(local, projects.field()))


def ended(updates) -> dict:
    """All updates of a handler that yields them, the later ones over the earlier ones."""
    found: dict = {}
    for each in updates:
        found |= each
    return found


# what is offered


def test_only_models_that_are_there_are_offered(local, run):
    config = run.config()
    assert [side for _, side in models.offered_sides(local, run, config, None)] == ["before", "teacher"]
    run.model_dir.mkdir()
    (run.model_dir / "config.json").write_text("{}")
    for step, got in ((24, "Student after"), (80, "Student after 24 steps")):
        run.set_status(step=step, model_step=24)
        offered = dict(map(reversed, models.offered_sides(local, run, config, None)))
        assert offered["after"] == got
    for step in (40, 8):
        folder = run.checkpoints_dir / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer.json").write_text(json.dumps({"step": step}))
    # the weights of one are missing, so it is not offered
    (folder / "trained.safetensors").write_bytes((demo.STUDENT / "model.safetensors").read_bytes())
    offered = models.offered_sides(local, run, config, None)
    assert [side for _, side in offered] == ["before", "step-8", "after", "teacher"]
    assert dict(map(reversed, offered))["step-8"] == "Student at step 8"


def test_sides_are_in_the_order_of_training():
    assert models.in_order(["teacher", "step-40", "after", "step-8", "before", "step-8"]) == [
        "before", "step-8", "step-40", "after", "teacher",
    ]  # fmt: skip


def test_a_checkpoint_that_is_gone_is_said_to_be(local, run):
    with pytest.raises(ModelError, match="Student at step 8 is no longer there"):
        models.load(local, "step-8", run, run.config(), None, Work())


def test_only_decimal_digits_name_a_step():
    assert [models.checkpoint_step(side) for side in ("step-8", "step-²", "step-", "after")] == [8, None, None, None]


# side by side


def test_answers_are_written_colored_and_stopped(local, run):
    state: dict[str, Answer] = {}
    asked = RunModels.of(local, run, None, ["before", "teacher"])
    answers.write(asked, Question(PROMPT, ["before", "teacher"], Sampling(0.0, 32)), state, Work())
    assert state["teacher"].ended and "officer" in state["teacher"].text
    assert b"".join(unit["bytes"] for unit in state["before"].units).decode() == state["before"].text
    assert 0 < len(local.models.answering) <= MOST_ANSWERING
    html = view.cards(state)
    assert html.count("<section") == 2 and 'class="ag-' in html
    stopped, task = {}, Work()
    task.stop()
    with pytest.raises(Exception, match="Canceled"):
        answers.write(asked, Question(PROMPT, ["before"], Sampling(0.0, 32)), stopped, task)
    assert stopped["before"].ids == []


def test_a_model_that_refuses_a_conversation_says_so_and_the_others_answer(local, tab, tmp_path):
    """Its template's refusal ended everything, and did not say what to do."""
    template = shutil.copytree(demo.TEACHER, tmp_path / "teacher") / "chat_template.jinja"
    refusal = "{% if 'constable' in messages[0]['content'] %}{{ raise_exception('never') }}{% endif %}"
    template.write_text(refusal + template.read_text())
    config = form.starting_config()
    config.teacher.model = str(template.parent)
    run = RunFolder.create(local.runs_dir, config)
    shown = ended(tab.side_by_side._answer(local.nobody, run.id, ["before", "teacher"], PROMPT, 0, 8))
    why = f"refuses a conversation: never. {models.ASK_ELSE}"
    _, before, teacher = shown[tab.side_by_side.answers].split("<section")
    assert "officer" not in before and "8 tokens" in before and why in unescape(teacher)
    assert "1 of 2 answers could not be written" in shown[tab.side_by_side.note]

    found = ended(tab.prompt_set._answer(local.nobody, run.id, f"{PROMPT}\nSay it", ["teacher", "before"], 0, 8))
    html = unescape(found[tab.prompt_set.table])
    assert html.count(why) == 1 and "1 of 4 answers" in found[tab.prompt_set.note]
    [_, *rows] = csv.reader(io.StringIO(prompt_set.answers_csv(found[tab.prompt_set.found]).content))
    assert [[bool(each) for each in row] for row in rows] == [[True, True, False], [True, True, True]]


def test_answers_are_escaped():
    units = [{"bytes": HOSTILE.encode(), "student": 1, "teacher": 2, "probability": 0.2}]
    vote = Vote(HOSTILE, "before", "after", "left", HOSTILE, HOSTILE)
    turns = [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE, "by": HOSTILE}]
    shown = [
        view.cards({"after": Answer([1], HOSTILE)}),
        view.cards({"after": Answer([1], "x", units=units)}),
        view.conversation(turns),
        view.blind(vote.left_answer, vote.right_answer),
        view.prompt_table(["before"], [HOSTILE], {(0, "before"): Answer([1], HOSTILE)}),
    ]
    for html in shown:
        assert "&lt;img" in html and "<img" not in html and "<script" not in html


def test_likely_units_are_counted_and_each_says_how_likely_it_is():
    shades = {"likely": 0.5, "fair": 0.49, "rare": 0.05, "never": 1e-9}
    units = [{"bytes": b"a", "student": 2, "teacher": 1, "probability": value} for value in shades.values()]
    html = view.cards({"before": Answer([1], "aaaa", units=units)})
    assert "1 of 4 units likely" in html and "49.00% per token, 2×1 tokens" in html
    assert all(html.count(f'<i class="ag-{shade}" title') == 1 for shade in shades)


# chat


def asked(run, side, **more):
    return {"run_id": run.id, "side": side, "system": "", "temperature": 0, "length": 12, **more}


def test_a_conversation_continues_with_another_model(local, run, tab, monkeypatch):
    chat, read = tab.chat, []
    prompt_ids = RunModels.prompt_ids

    def listening(self, side, messages, room=0):
        read.append((side, [(each["role"], each["content"]) for each in messages]))
        return prompt_ids(self, side, messages, room)

    monkeypatch.setattr(RunModels, "prompt_ids", listening)
    first = ended(chat._send(local.nobody, [], PROMPT, **asked(run, "teacher", length=40)))
    turns = first[chat.turns]
    assert [(turn["role"], turn.get("by")) for turn in turns] == [("user", None), ("assistant", "Teacher")]
    assert first[chat.message] == "" and "officer" in first[chat.talk] and "tokens" in first[chat.note]
    second = ended(chat._send(local.nobody, turns, "And now?", **asked(run, "before", system="Be short.")))
    assert [turn.get("by") for turn in second[chat.turns]] == [None, "Teacher", None, "Student before"]
    said = turns[1]["content"]
    expected = [("system", "Be short."), ("user", PROMPT), ("assistant", said), ("user", "And now?")]
    assert read == [("teacher", [("user", PROMPT)]), ("before", expected)]
    again = ended(chat._again(local.nobody, second[chat.turns], **asked(run, "teacher")))
    assert [turn.get("by") for turn in again[chat.turns]] == [None, "Teacher", None, "Teacher"]
    assert read[-1][1][-1] == ("user", "And now?")


def test_the_next_message_may_be_written_while_a_model_answers(local, run, tab, monkeypatch):
    """Every part of the answer emptied the field again."""
    monkeypatch.setattr("app.server.work.EVERY_SECONDS", 0.01)
    chat = tab.chat
    updates = list(chat._send(local.nobody, [], PROMPT, **asked(run, "teacher", length=40)))
    assert len(updates) > 2 and [each[chat.message] for each in updates if chat.message in each] == [""]


def test_what_cannot_be_sent_leaves_the_conversation_as_it_was(local, run, tab):
    chat, turns = tab.chat, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "by": "Teacher"}]
    for text, side, got in (
        ("  ", "before", "no message"),
        ("x" * 20_001, "before", "at most 20,000"),
        ("hi", None, "Choose a model"),
    ):
        updates = ended(chat._send(local.nobody, turns, text, **asked(run, side)))
        assert got in updates[chat.note] and chat.turns not in updates
    assert "nothing to answer yet" in ended(chat._again(local.nobody, [], **asked(run, "before")))[chat.note]
    # more than the model can read: what was typed is still there to be shortened
    long = "word " * 3000
    updates = ended(chat._send(local.nobody, turns, long, **asked(run, "before")))
    assert "reads at most" in updates[chat.note] and updates[chat.turns] == turns
    assert updates[chat.message] == long.strip()


def test_a_model_that_cannot_answer_is_not_shown_as_if_it_still_would(local, run, tab):
    """It said "Loading…" and "Waiting…" for ever."""
    page, long = tab.side_by_side, "word " * 3000
    sides = {"sides": ["before", "teacher"], "temperature": 0, "length": 12}
    updates = ended(page._answer(local.nobody, run.id, text=long, **sides))
    assert "2 of 2 answers could not be written" in updates[page.note]
    for side in ("Student before", "Teacher"):
        assert f"“{side}” reads at most" in updates[page.answers]
    assert "…" not in updates[page.answers]
    updates = ended(page._answer(local.nobody, run.id, text="hi", **{**sides, "temperature": -1}))
    assert "“Temperature” is -1" in updates[page.note] and page.answers not in updates


def test_an_answer_that_was_begun_is_cut_off(local, run, tab):
    begun, whole, waiting = Answer(ids=[5], text="x", state="writing"), Answer(state="done"), Answer()
    answers.end([begun, whole, waiting])
    assert [each.state for each in (begun, whole, waiting)] == ["cut", "done", "none"]


# blind test


def test_a_blind_test_hides_who_answers_until_the_vote(local, run, tab):
    blind = tab.blind
    fields = {"run_id": run.id, "one": "before", "other": "teacher", "text": PROMPT, "temperature": 0, "length": 24}
    seen = list(blind._answer(local.nobody, **fields))
    shown = seen[-1]
    for updates in seen:
        for html in (updates.get(blind.note), updates.get(blind.answers)):
            assert not html or ("Teacher" not in html and "Student" not in html)
    pending = shown[blind.open]
    assert {pending["left"], pending["right"]} == {"before", "teacher"} and pending["left_answer"]
    right = pending["right"]
    voted = blind._vote(local.nobody, run.id, pending, "right")
    assert f"Right: {models.title(right)}" in voted[blind.answers] and voted[blind.open] is None
    [vote] = votes_of(run)
    assert vote.winner == right and vote.prompt == PROMPT and vote.at > 0
    assert "No clear preference yet." in voted[blind.tally]
    content = json.loads(blind_file(voted[blind.report]))
    assert content["tallies"][0]["p_value"] == 1.0 and content["votes"][0]["choice"] == "right"
    assert "Press Answer first" in blind._vote(local.nobody, run.id, None, "tie")[blind.note]
    same = ended(blind._answer(local.nobody, **{**fields, "other": "before"}))
    assert "two different models" in same[blind.note]


def blind_file(report) -> str:
    from app.compare.blind import votes_json

    with pytest.raises(DataError, match="no votes yet"):
        votes_json({"votes": []})
    return votes_json(report).content


def test_either_model_can_be_on_the_left(local, run, tab, monkeypatch):
    fields = {"run_id": run.id, "one": "before", "other": "teacher", "text": PROMPT, "temperature": 0, "length": 2}
    lefts = []
    for draw in (0, 1):
        monkeypatch.setattr("app.compare.blind.secrets.randbelow", lambda n, draw=draw: draw)
        lefts.append(ended(tab.blind._answer(local.nobody, **fields))[tab.blind.open]["left"])
    assert lefts == ["teacher", "before"]


# prompt set


def test_a_set_of_prompts_is_answered_by_all_and_saved_as_csv(local, run, tab):
    tab = tab.prompt_set
    text = f"{PROMPT}\n\nSay it plainly: one\\ntwo."
    fields = {"run_id": run.id, "text": text, "sides": ["teacher", "before"], "temperature": 0, "length": 16}
    updates = ended(tab._answer(local.nobody, **fields))
    found = updates[tab.found]
    assert found.sides == ["before", "teacher"] and found.prompts == [PROMPT, "Say it plainly: one\ntwo."]
    assert set(found.answers) == {(at, side) for at in (0, 1) for side in found.sides}
    rows = list(csv.reader(io.StringIO(prompt_set.answers_csv(found).content)))
    assert rows[0] == ["prompt", "Student before", "Teacher"] and rows[2][0] == "Say it plainly: one\ntwo."
    assert rows[1][2] == found.answers[0, "teacher"].text and "officer" in rows[1][2]
    with pytest.raises(DataError, match="no answers yet"):
        prompt_set.answers_csv(None)


def test_prompts_are_one_per_line_and_come_back_as_written():
    texts = ["plain", "two\nlines", "a \\n that is no break", "\\"]
    assert prompt_set.prompts_in("\n".join(map(prompt_set.as_line, texts))) == texts
    for text, got in (("", "no prompts"), ("x\n" * 51, "at most 50"), ("x" * 100_001, "at most 100,000 are read")):
        with pytest.raises(DataError, match=got):
            prompt_set.prompts_in(text)


def test_prompts_can_be_uploaded(local, tab, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for name, content in (("a.txt", "one\n\ntwo\n"), ("b.jsonl", '{"prompt": "one"}\n{"prompt": "two"}\n')):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / name).write_text(content)
        updates = tab.prompt_set._upload(local.nobody, str(tmp_path / "x" / name))
        assert updates[tab.prompt_set.prompts] == "one\ntwo", name
    outside = tab.prompt_set._upload(local.nobody, str(demo.EVAL))
    assert tab.prompt_set.prompts not in outside and "note-error" in outside[tab.prompt_set.note]
    for name, line in (("empty.txt", "has no prompts"), ("prompts", "has no ending"), ("book.xlsx", "is not JSONL")):
        (tmp_path / "x" / name).write_text("\n")
        refused = tab.prompt_set._upload(local.nobody, str(tmp_path / "x" / name))
        assert tab.prompt_set.prompts not in refused and line in refused[tab.prompt_set.note], name


def test_a_chosen_run_that_is_gone_is_not_replaced_by_another(local, run, tab):
    begun = made_up_run(local.runs_dir)
    assert tab._refresh(local.nobody, None, None)[tab.run].value == begun.id
    assert tab._refresh(local.nobody, "gone", "gone")[tab.run].value is None
    assert "no longer here" in tab._show(local.nobody, None)[tab.side_by_side.answers]
    begun.delete()
    assert "Launch one under Train" in tab._show(local.nobody, None)[tab.side_by_side.answers]


def test_the_views_follow_the_run(local, run, tab):
    updates = tab._show(local.nobody, run.id)
    assert updates[tab.chat.model].value == "teacher" or updates[tab.chat.model].value == "before"
    assert [side for _, side in updates[tab.blind.one].choices] == ["before", "teacher"]
    assert updates[tab.prompt_set.sides].value == ["before", "teacher"]
    assert isinstance(run.config(), RunConfig)


def test_the_models_of_a_run_stop_answering_when_another_run_is_chosen(local, run, tab, monkeypatch):
    """Their answers would be shown, and voted on, as those of the other run."""
    monkeypatch.setattr("app.server.work.EVERY_SECONDS", 0.01)
    fields = {"run_id": run.id, "text": PROMPT, "temperature": 0, "length": 200}
    side_by_side, blind, prompts = tab.side_by_side, tab.blind, tab.prompt_set
    for name, part, sides, place in (
        ("asked", side_by_side, {"sides": ["before", "teacher"]}, side_by_side.answers),
        ("blind", blind, {"one": "before", "other": "teacher"}, blind.answers),
        ("several", prompts, {"sides": ["before", "teacher"]}, prompts.table),
    ):
        answering = part._answer(local.nobody, **fields, **sides)
        work = next(answering)[part.work.task]
        shown = tab._show(local.nobody, run.id, **{name: work})
        assert shown[part.work.task] is None and not shown[part.work.cancel].interactive and shown[part.note] == ""
        # the last update is not about the previous run either, in whatever order they arrive
        last = list(answering)
        assert work.should_stop() and len(last) == 1, name
        assert last[0][part.work.task] is None and last[0][part.note] == "" and last[0][place] == shown[place]

"""The Data step: prompts that are written, what is excluded, and that the command trains on what the step shows."""

import json

import gradio as gr
import pytest

from app.data import choice, prompt_source, view, written
from app.data.hub_dataset import HubDataset
from app.server import paths
from app.studio import StudioPage
from app.train.checklist_view import FIELDS
from simct import demo
from simct.config import config_from_brief, load_config, save_config
from simct.config.sections import DataConfig
from simct.data.held_out import split_of_run
from simct.data.prompts import load_prompts
from simct.data.samples import prepare_prompts
from simct.errors import ConfigError, DataError
from simct.runs.folder import RunFolder
from tests.support.hostile import HOSTILE
from tests.support.random_pair import TEMPLATE, random_model, student_tokenizer

PAIR = str(demo.TEACHER), str(demo.STUDENT)


def chosen(studio, before, source, **fields):
    return choice.chosen(studio, before, {}, choice.Fields(source, **fields))


def prompts_of(studio, text: str) -> list[str]:
    data = chosen(studio, {"source": choice.WRITTEN}, choice.WRITTEN, text=text)
    assert "error" not in data, data
    return [prompt.text for prompt in load_prompts(prompt_source.data_config(data))]


def test_a_text_becomes_a_prompt_a_line_or_a_paragraph_or_the_rows_of_a_file(local):
    assert prompts_of(local, " One?\r\nTwo?\n") == ["One?", "Two?"]
    assert prompts_of(local, "One\nmore?\n\nTwo?\n\n\n\nThree?") == ["One\nmore?", "Two?", "Three?"]
    assert prompts_of(local, '{"question": "One?", "answer": "1"}\n{"question": "Two?"}') == ["One?", "Two?"]
    assert prompts_of(local, '[{"prompt": "One?"}]') == ["One?"]
    # copied from a spreadsheet, where a cell may have several lines
    assert prompts_of(local, 'Question\tanswer\nOne?\t1\n"Two\n\nlines?"\t2') == ["One?", "Two\n\nlines?"]
    assert prompts_of(local, "One?\tor two?\nThree?") == ["One?\tor two?", "Three?"]
    assert prompts_of(local, HOSTILE) == [line.strip() for line in HOSTILE.split("\n") if line.strip()]


@pytest.mark.parametrize(
    "text",
    [
        "One?\nTwo?", "One\nmore?\n\nTwo?", '{"question": "One?", "answer": "1"}', "prompt\tanswer\nOne?\t1", "{broken",
    ],
)  # fmt: skip
def test_a_text_comes_back_as_it_was_written(local, text):
    path = written.keep_text(local, text)
    shown = written.text_of_file(local, path, local.nobody)
    if text == "{broken":
        assert shown == ""
    else:
        assert shown == text and written.keep_text(local, shown) == path


def test_only_the_visitors_own_text_is_shown_again(local, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"prompt": "secret"}\n')
    assert written.text_of_file(local, str(tmp_path / "other.jsonl"), local.nobody) == ""
    assert written.text_of_file(local, "docs/data.md", local.nobody) == ""


def test_a_text_that_is_empty_or_too_long_is_refused(local):
    assert "no prompts" in chosen(local, {"source": choice.WRITTEN}, choice.WRITTEN, text=" \n").get(
        "error", "no prompts"
    )
    with pytest.raises(DataError, match="at most 200,000"):
        written.keep_text(local, "a" * 200_001)
    data = chosen(local, {}, choice.WRITTEN, text="a" * 200_001)
    assert data["prompts"] == "" and "Upload a file" in data["error"]


def test_prompts_can_be_edited_as_the_text_they_would_be_read_from(local, tmp_path):
    rows = [
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi\n\nyou"}]},
        {"prompt": "One?", "answer": "1"},
    ]
    path = tmp_path / "rows.jsonl"
    for each in rows:
        path.write_text(json.dumps(each) + "\n")
        before = load_prompts(DataConfig(prompts=str(path)))
        text, count = written.text_of_prompts(before)
        again = load_prompts(DataConfig(prompts=written.keep_text(local, text)))
        assert count == 1 and [(p.messages, p.answer) for p in again] == [(p.messages, p.answer) for p in before]
    many = load_prompts(DataConfig(prompts=str(demo.PROMPTS)))
    text, count = written.text_of_prompts(many)
    assert count == written.MOST_EDITED
    again = load_prompts(DataConfig(prompts=written.keep_text(local, text)))
    assert [p.text for p in again] == [p.text for p in many[:count]]


def test_excluding_adds_to_what_is_excluded_already(local):
    before = {"source": choice.UPLOAD, "prompts": "x.jsonl", "exclude_rows": ["3-5"]}
    data = choice.with_change(before, {"exclude_rows": ["6", "9"], "deduplicate": "exact"})
    assert data["exclude_rows"] == ["3-6", "9"] and prompt_source.data_config(data).deduplicate == "exact"
    assert choice.selection(data)["excluded"] == "3-6, 9"
    assert choice.with_change({**before, "system": "Be kind."}, {"system": ""})["system"] in (None, "")
    for wrong in ({"prompts": "/etc/passwd"}, {"held_out": 0}, {"max_tokens": "many"}, {"deduplicate": "all"}):
        with pytest.raises(ConfigError):
            choice.with_change(before, wrong)


def test_excluded_rows_belong_to_their_rows(local, tmp_path):
    data = chosen(local, {"source": choice.WRITTEN}, choice.WRITTEN, text="One?\nTwo?\nThree?")
    data = chosen(local, data, choice.WRITTEN, text="One?\nTwo?\nThree?", excluded="2", deduplicate="exact")
    assert data["exclude_rows"] == ["2"] and data["deduplicate"] == "exact"
    other = chosen(local, data, choice.WRITTEN, text="Zero?\nOne?\nTwo?", excluded="2", deduplicate="exact")
    assert "exclude_rows" not in other and other["deduplicate"] == "exact"


def test_what_a_run_yaml_says_about_data_comes_back_as_it_was(local):
    data = DataConfig(
        prompts="a/b", template="{q}", checker_column="kind", teacher_column="who", exclude_rows=["3"],
        deduplicate="normalized", max_tokens=90, held_out=7, held_out_seed=2, held_out_split="test",
    )  # fmt: skip
    kept = choice.kept(data)
    assert prompt_source.data_config(kept) == data
    shown = {name: value for name, value in choice.restored(kept).items() if name in choice.SELECTION}
    again = chosen(
        local, kept, choice.HUB, dataset="a/b", template="{q}", checker="kind", excluded="3", config=None, **shown
    )
    assert prompt_source.data_config(again) == data


def test_the_command_trains_on_the_rows_that_the_step_shows(local, tmp_path, pair):
    """The yaml that the studio writes, read by what trains: same rows, same order, same rows held out."""
    path = tmp_path / "rows.csv"
    lines = [f"Say {n % 70} plainly.,{'Please. ' * (n % 7)},{n}" for n in range(150)]
    path.write_text("text,how,reply\n" + "\n".join([*lines, "SAY 1  plainly.,Please. ,1"]) + "\n")
    before = {"source": choice.UPLOAD, "prompts": str(path), "name": "rows.csv"}
    fields = {
        "template": "{how}\n\n{text}", "answer": "reply", "deduplicate": "normalized", "excluded": "2-4, 77",
        "longest": 42, "held_out": 6, "held_out_seed": 5, "system": "Be kind.", "limit": 62,
    }  # fmt: skip
    data = chosen(local, before, choice.UPLOAD, **fields)
    wanted = paths.check_data(local, local.nobody, prompt_source.data_config(data))
    described = {"teacher": {"model": PAIR[0]}, "student": {"model": PAIR[1]}, "training": {"steps": 1}}
    config = config_from_brief(described)
    config.data = wanted
    source, report = prompt_source.report(local, *PAIR, wanted, config, None)

    save_config(config, tmp_path / "run.yaml")
    config = load_config(tmp_path / "run.yaml")
    run = RunFolder.create(tmp_path / "runs", config)
    split = split_of_run(run, config.data, load_prompts(config.data))
    trained, _ = prepare_prompts(split.trained, pair, config, [])
    assert [each.prompt.row for each in trained] == report.trained_rows
    assert 15 < len(trained) < 56 and report.held_out == len(split.held_out) == 6
    shown = view.line(source, report, wanted)
    assert f"trains on {len(trained):,} of them" in shown and "it holds out 6" in shown
    assert "excluded rows" in shown and report.filtered > 0
    [first, *_] = prompt_source.preview(local, wanted, None)
    assert first.row == 1 and first.text.endswith("Say 0 plainly.") and first.answer == "0"


def test_findings_have_buttons_and_parts_their_alternatives(local, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"question": "One?", "problem": HOSTILE, "answer": "1", "solution": "2"}] * 2 + [{"question": " "}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig(prompts=str(path))
    source, report = prompt_source.report(local, *PAIR, data, config_from_brief({}), None)
    html = view.notices(source, report, FIELDS)
    assert html.count('data-testid="exclude"') == 2
    assert "&quot;exclude_rows&quot;: [&quot;3&quot;]" in html and "&quot;deduplicate&quot;" in html
    assert "are read here" not in html
    # text that nothing uses can be added to the prompt
    assert "Add problem to the prompt" in html and "{question}\\n\\n{problem}" in html
    assert "“Prompt template”" in html and "data.template" not in html
    table = view.parts_table(source)
    assert "problem" in table and "solution" in table
    template = data.model_copy(update={"template": "{problem} ({question})"})
    assert HOSTILE.split("\n")[0].strip() in prompt_source.preview(local, template, None)[0].text
    assert "<img" not in view.preview(prompt_source.preview(local, template, None))
    with pytest.raises(DataError, match="names a column"):
        prompt_source.preview(local, data.model_copy(update={"template": "{nothing}"}), None)


def test_what_the_buttons_exclude_is_limited_to_the_rows_that_were_read(local, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": " "}\n' + "".join(f'{{"prompt": "Say {n}."}}\n' for n in range(2_100)))
    source, report = prompt_source.report(local, *PAIR, DataConfig(prompts=str(path)), config_from_brief({}), None)
    html = view.notices(source, report, FIELDS)
    assert html.count('data-testid="exclude"') == 1 and "Only the first 2,000 of 2,101 rows are read here" in html


def test_leaving_the_configuration_unchanged_keeps_the_split(local):
    """Gradio reports that as a choice, and the split went back to `train`."""
    with gr.Blocks():
        fields = HubDataset(local)
    facts = {"id": "acme/rows", "configs": {"one": {"train": 3, "test": 2}, "two": {"dev": 1}}, "config": "one"}
    assert fields.show_splits(facts, "one") == {}
    assert fields.show_splits(facts, "two")[fields.split].value == "dev"


def test_a_dataset_without_a_license_leads_to_its_author():
    [(kind, text)] = choice.license_notes({"source": choice.HUB, "prompts": "acme/rows", "license": None})
    assert kind == "warn" and text.endswith("/datasets/acme/rows/discussions.")
    [(_, text)] = choice.license_notes({"source": choice.HUB, "prompts": "acme/rows", "license": "cc-by-nc-4.0"})
    assert "cc-by-nc-4.0" in text and text.endswith("/datasets/acme/rows.")
    assert choice.license_notes({"source": choice.HUB, "prompts": "acme/rows", "license": "mit"}) == []


def test_a_warning_that_leaves_nothing_out_leads_to_a_fix(local, tmp_path):
    """A template that folds system texts: rows of their own are excluded, the step's own text is removed."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "One?", "system": "Be brief."}\n' + '{"prompt": "Two?"}\n' * 2)
    tokenizer = student_tokenizer()
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE
    tokenizer.save_pretrained(tmp_path / "student")
    random_model(tokenizer, 1).save_pretrained(tmp_path / "student")
    student = str(tmp_path / "student")

    def shown(data: DataConfig) -> str:
        source, report = prompt_source.report(local, PAIR[0], student, data, config_from_brief({}), None)
        more = [("warn", "75% are left out. Set student.enable_thinking to false.")]
        return view.notices(source, report, FIELDS, more)

    html = shown(DataConfig(prompts=str(path)))
    assert "no place for a system text" in html and "&quot;exclude_rows&quot;: [&quot;1&quot;]" in html
    assert "Set “Student thinking” to false" in html and 'data-field="student-enable-thinking"' in html
    html = shown(DataConfig(prompts=str(path), system="Be kind."))
    assert "Remove the system text" in html and "&quot;system&quot;: &quot;&quot;" in html


def test_a_field_that_is_left_with_a_click_on_a_warnings_button_counts(local):
    """The click's change was made to the choice before that field was read, and undid what was typed there."""
    data_tab = StudioPage(local).data
    fields = {**vars(choice.Fields(choice.EMBEDDED)), "limit": 100}
    asked = {"described": {}, "emptied": "", "number": "7", **fields}
    event = gr.EventData(None, {"change": {"exclude_rows": ["3"]}})
    updates = data_tab._change(local.nobody, event, before=dict(choice.START), **asked)
    assert updates[data_tab.chosen]["limit"] == 100 and updates[data_tab.chosen]["exclude_rows"] == ["3"]
    assert 'data-edit="7"' in updates[data_tab.answered] and updates[data_tab.selection.fields["excluded"]] == "3"

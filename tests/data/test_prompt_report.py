"""What is told about prompts before a run, on tokenizers with and without templates."""

from simct import demo
from simct.config.sections import DataConfig
from simct.data.prompt_report import describe_prompts, system_handling
from simct.data.prompts import Prompt, load_prompts
from simct.data.templates import prompt_ids
from simct.tokenization.pair import TokenizerPair

PAIR = TokenizerPair.from_pretrained(str(demo.TEACHER), str(demo.STUDENT))


def said(*texts: str, system: str | None = None) -> list[Prompt]:
    head = [{"role": "system", "content": system}] if system else []
    return [Prompt((*head, {"role": "user", "content": text})) for text in texts]


class Template:
    """A tokenizer as far as a template goes."""

    name_or_path = "stand-in"

    def __init__(self, template):
        self.chat_template = template

    def apply_chat_template(self, messages, **_):
        import jinja2

        if self.chat_template == "refuses" and messages[0]["role"] == "system":
            raise jinja2.TemplateError("System role not supported")
        kept = messages if self.chat_template == "keeps" else [m for m in messages if m["role"] != "system"]
        return " ".join(message["content"] for message in kept)


def test_lengths_are_those_the_run_will_see():
    prompts = load_prompts(DataConfig(prompts=str(demo.PROMPTS), limit=30))
    report = describe_prompts(prompts, PAIR, 400)
    for side, tokens in (("student", PAIR.student), ("teacher", PAIR.teacher)):
        assert report.lengths[side] == [len(prompt_ids(tokens.tokenizer, prompt.messages)) for prompt in prompts]
    assert report.longest == max(map(max, report.lengths.values())) and report.answers == 30
    assert report.problems == [] and report.warnings == []


def test_repeated_empty_and_long_prompts_are_counted():
    report = describe_prompts(said("one two three", "one two three", "word " * 300), PAIR, 60, empty=2)
    assert (report.duplicates, report.empty, report.too_long) == (1, 2, 1)
    assert report.longest <= 60
    assert "1 prompt longer than the 60 tokens" in report.problems[0]
    told = " ".join(report.warnings)
    assert "2 empty rows are left out" in told and "1 prompt is there more than once" in told


def test_what_templates_do_with_a_system_text_is_told():
    (prompt,) = said("hello", system="Be kind.")
    handled = {kind: system_handling(Template(kind), prompt.messages) for kind in ("keeps", "drops", "refuses", None)}
    assert handled == {"keeps": "kept", "drops": "dropped", "refuses": "folded", None: "refused"}
    assert system_handling(Template("keeps"), said("hello")[0].messages) == "none given"


def test_a_prompt_that_cannot_be_rendered_is_a_problem(monkeypatch):
    monkeypatch.setattr(PAIR.teacher.tokenizer, "chat_template", None)
    report = describe_prompts(said("hello", system="Be kind."), PAIR, 60)
    assert report.lengths["teacher"] == [None] and "no chat template" in report.problems[0]
    assert describe_prompts(said("hello"), PAIR, 60).problems == []
    assert "plain text" in " ".join(describe_prompts(said("hello"), PAIR, 60).warnings)

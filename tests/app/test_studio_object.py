"""One Studio and its handlers: two studios share nothing, handlers get values by name and the visitor as a Visitor."""

import ast
import asyncio
import re
from pathlib import Path

import gradio as gr
import pytest

from app.server import model_facts, weights, work
from app.server.handler import Handler, as_gradio_calls_it
from app.server.imports import Page
from app.server.studio import Studio
from app.server.visitor import Visitor
from app.server.work import Work, follow
from simct import demo

APP = Path(model_facts.__file__).parents[1]
PAIR = (str(demo.TEACHER), str(demo.STUDENT))
# what has a state of its own
STATEFUL = {
    "Lock",
    "RLock",
    "Event",
    "Thread",
    "OrderedDict",
    "lru_cache",
    "cache",
    "ThreadPoolExecutor",
    "defaultdict",
}


@pytest.fixture
def local(tmp_path):
    return Studio(tmp_path / "runs", public=False)


# One studio


def test_two_studios_in_one_process_share_nothing(tmp_path):
    one, other = Studio(tmp_path / "one", public=False), Studio(tmp_path / "two", public=True)
    weights.load(one, *PAIR, None, work.Work())
    assert one.models.pair_of(*PAIR, None) and other.models.pair_of(*PAIR, None) is None
    assert model_facts.pair_of(one, *PAIR, None) is model_facts.pair_of(one, *PAIR, None)
    assert model_facts.pair_of(one, *PAIR, None) is not model_facts.pair_of(other, *PAIR, None)
    one.imported.clear()
    assert other.imported.is_set()
    one.background.meet(Visitor("hf_ann", "ann"))
    assert other.background.tokens == {}
    with one.models.turn:
        assert other.models.turn.acquire(timeout=1)


def stateful(path: Path) -> list[str]:
    """Names outside of functions and classes that are changed later, or could be."""
    module = ast.parse(path.read_text())
    found = []
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [ast.unparse(each) for each in node.decorator_list]
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            found += [ast.unparse(each.func) for each in ast.walk(node.value) if isinstance(each, ast.Call)]
    changed = {name for node in ast.walk(module) if isinstance(node, ast.Global) for name in node.names}
    return sorted(changed | {name for name in found if re.split(r"[.(]", name)[-1] in STATEFUL or "lru_cache" in name})


def test_no_module_of_the_studio_keeps_anything_for_itself():
    assert {str(path): stateful(path) for path in APP.rglob("*.py") if stateful(path)} == {}


# Its visitors


def signed_in(name: str) -> tuple[gr.OAuthToken, gr.OAuthProfile]:
    about = dict.fromkeys(("name", "preferred_username", "profile", "picture"), name)
    return gr.OAuthToken(f"hf_{name}", "", 0), gr.OAuthProfile(about)


def test_a_visitor_acts_with_their_own_token_and_nobody_with_the_machine_s_in_public(local, tmp_path):
    public = Studio(tmp_path, public=True)
    for studio in (local, public):
        ann = studio.visitor(*signed_in("ann"))
        assert (ann.token, ann.owner, ann.own_token) == ("hf_ann", "ann", "hf_ann")
    assert (public.nobody.token, public.nobody.owner, public.nobody.own_token) == (False, None, None)
    assert (local.nobody.token, local.nobody.owner, local.nobody.own_token) == (None, None, None)


# Its handlers


def answer(page: gr.Blocks, number: int, *values) -> list:
    return asyncio.run(page.process_api(number, list(values)))["data"]


def test_values_reach_a_handler_by_name_and_answers_their_component(local):
    seen = []

    def handle(visitor: Visitor, second: str, first: str, **rest: str):
        seen.append((visitor, first, second, rest))
        return {upper: first.upper()}

    with Page(local) as page:
        first, second, third, upper, untouched = (gr.Textbox() for _ in range(5))
        inputs = {"first": first, "a.dotted.name": third, "second": second}
        Handler(local, handle, inputs, [untouched, upper]).on(first.change, second.change)
    [number] = page.fns
    assert answer(page, number, "one", "three", "two") == [gr.skip(), "ONE"]
    assert seen == [(local.nobody, "one", "two", {"a.dotted.name": "three"})]


def test_no_updates_change_nothing_once_or_again_and_again(local):
    def one_by_one(visitor: Visitor):
        yield {}
        yield {text: "second"}

    with Page(local) as page:
        text, button = gr.Textbox("first"), gr.Button()
        Handler(local, lambda: {}, {}, [text]).on(button.click)
        Handler(local, one_by_one, {}, [text]).on(button.click)
    assert answer(page, 0) == [gr.skip()]

    async def follow() -> list[list]:
        first = await page.process_api(1, [])
        second = await page.process_api(1, [], iterator=first["iterator"])
        return [first["data"], second["data"]]

    assert asyncio.run(follow()) == [[gr.skip()], ["second"]]


def test_a_name_that_the_handler_does_not_have_is_refused_when_the_page_is_built(local):
    with gr.Blocks():
        text = gr.Textbox()
        with pytest.raises(ValueError, match="nmae"):
            Handler(local, lambda visitor, name: {}, {"nmae": text}, [text]).on(text.change)


def test_gradio_sees_who_has_signed_in_and_the_handler_a_visitor(local):
    called = as_gradio_calls_it(local, lambda visitor, model: (visitor, model))
    assert called(*signed_in("ann"), "a/model") == (Visitor("hf_ann", "ann"), "a/model")
    for path in APP.rglob("*.py"):
        assert "OAuth" not in path.read_text() or path.name in ("studio.py", "handler.py"), path


def test_javascript_stands_in_its_own_files():
    for path in APP.rglob("*.py"):
        text = path.read_text()
        assert "addEventListener" not in text and ("=>" not in text or path.name == "scripts.py"), path
        assert not re.search(r"js(_on_load)?\s*=\s*f?[\"']", text), path


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_a_library_ends_by_a_panic_is_reported_as_failed():
    class Panic(BaseException):
        """As pyo3's PanicException, which is not an Exception."""

    def panic(work: Work) -> None:
        raise Panic("called unwrap on None")

    *_, work = follow(panic)
    assert "ended unexpectedly (Panic)" in work.error

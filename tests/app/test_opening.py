"""The page's HTML with the module that lets it open sooner, and Gradio's code as that module takes it to be."""

import re
from collections.abc import Iterator
from pathlib import Path

import gradio
from jinja2 import Environment, FileSystemLoader

from app.page import scripts
from app.server import assets, opening
from app.server.imports import FOR_SERVER
from app.server.studio import Studio
from app.studio import build

ROOT = Path(opening.__file__).parents[2]
HTML = "frontend/index.html"


def module_with(words: str) -> str:
    """The one of Gradio's first modules that has these words."""
    return next(each for name in assets.modules() if words in (each := assets.text(name)))


def rendered(environment: Environment) -> str:
    config = {"title": "SimCT Studio", "root": "", "body_css": {}}
    environment.filters["toorjson"] = str
    return environment.get_template(HTML).render(config=config, gradio_api_info={})


def environments() -> tuple[Environment, Environment]:
    """Gradio's templates, and the studio's."""
    files = FileSystemLoader(assets.FRONTEND.parent)
    return Environment(loader=files), Environment(loader=opening.loader(files))


def test_the_module_is_written_for_the_gradio_that_the_studio_installs():
    assert gradio.__version__ == opening.GRADIO
    assert re.search(rf"^gradio\[oauth\]=={re.escape(opening.GRADIO)}$", (ROOT / "requirements.txt").read_text(), re.M)


def test_the_page_is_gradios_with_one_module_after_the_one_that_starts_it():
    gradios, ours = map(rendered, environments())
    [module] = re.findall(r'<script type="module">.*?</script>\n', ours, re.S)
    assert ours.replace(module, "") == gradios
    assert gradios.index('type="module"') < ours.index(module) < ours.index("<body")
    [imported] = re.findall(r"from '\./assets/(.*?)'", module)
    assert imported == assets.tree(assets.modules())
    written = (scripts.STATIC / "opening.mjs").read_text(encoding="utf-8")
    assert module == f'<script type="module">{written.replace("CORE", imported)}</script>\n'


def test_another_gradio_gets_its_own_page(monkeypatch):
    monkeypatch.setattr(gradio, "__version__", "6.32.0")
    gradios, ours = map(rendered, environments())
    assert ours == gradios and opening.page() is None


def test_gradio_does_what_the_module_does_in_its_place():
    """Looks up the events of each component, looks for its state in the whole tree, and builds a new tree twice."""
    tree, blocks = assets.text(assets.tree(assets.modules())), module_with("dispatch_load_events()")
    assert re.search(
        r"find_attached_events\((\w),(\w)\)\{let (\w)=\2\.filter\((\w)=>\4\.targets\.find\(\(\[\4\]\)=>\4===\1\.id\)\)"
        r"\.map\((\w)=>\{let \3=\5\.targets\.find\(\(\[\5\]\)=>\5===\1\.id\);return \3\?\3\[1\]:null\}\)"
        r"\.filter\(Boolean\);return \1\.props\.shared_props\.attached_events=\3,\1\}",
        tree,
    )
    assert re.search(
        r"async get_state\(\w\)\{let (\w)=this\.#\w\.get\(\w\),(\w)=\w\(this\.root,\w\);"
        r"return!\1&&!\2\?null:\1\?await \1\(\):\2\?Promise\.resolve\(\{value:\2\.props\.props\.value\}\):null\}",
        tree,
    )
    arguments = r"\(r\.components,r\.layout,r\.dependencies,\{root:r\.root,.*?fill_height:r\.fill_height\}"
    assert re.search(rf"(\w)=new \w+{arguments}.*?\{{\w+\(\),\w+\(\(\)=>\{{\1\.reload{arguments}", blocks, re.S)
    built = r"this\.root\.children=this\.#\w\.children\.map.*?this\.postprocess\(this\.root\)"
    assert len(re.findall(built, tree)) == 2


def test_no_file_of_gradio_in_the_browser_reads_what_is_left_out():
    words = re.compile(rf"\b(?:{'|'.join((*FOR_SERVER, 'skip_api'))})\b")
    assert [
        file.name for file in (assets.FRONTEND / "assets").glob("*.js") if words.search(file.read_text("utf-8"))
    ] == []


def mounted(config: dict, node: dict) -> Iterator[str]:
    """The types of the components that a new page draws: not those of later steps, of folded groups and hidden ones."""
    component = next((each for each in config["components"] if each["id"] == node["id"]), {"type": "page", "props": {}})
    kind, props = component["type"], component["props"]
    if props.get("visible") is False:
        return
    yield kind
    children = node.get("children") or []
    if kind == "accordion" and not props["open"]:
        return
    for child in children[:1] if kind == "tabs" else children:
        yield from mounted(config, child)


def test_a_page_names_the_files_of_what_its_first_step_draws(tmp_path):
    config = build(Studio(tmp_path / "runs", public=False)).get_config_file()
    drawn = set(mounted(config, config["layout"])) - {"page", "api"}
    assert drawn == set(assets.FIRST)
    frame = assets.modules()
    files = assets.first_components(frame)
    assert all((assets.FRONTEND / "assets" / each).is_file() for each in files)
    # their own, and whatever these import
    assert all(each in {*frame, *files} for name in files if name.endswith(".js") for each in imported(name))
    named = re.findall(r"<\./assets/(.*?)>", assets.LINK)
    assert named == [*frame, *(each for each in files if each not in frame)]


def imported(name: str) -> list[str]:
    return assets.IMPORT.findall(assets.text(name))


def test_without_gradios_files_a_page_names_none(monkeypatch):
    for pattern in ("ENTRY", "LATER", "DEPENDENCIES"):
        with monkeypatch.context() as patch:
            patch.setattr(assets, pattern, re.compile("(nowhere)"))
            assert assets._link() == ""


def test_every_component_of_the_page_comes_with_gradio(tmp_path):
    """They are found by their types, without the names of their classes."""
    known = set(re.findall(r"(\w+):\{(?:base|example|component):\(\)=>", assets.text(assets.tree(assets.modules()))))
    config = build(Studio(tmp_path / "runs", public=False)).get_config_file()
    types = {each["type"] for each in config["components"]} - {"api"}
    assert len(types) > 20 and types <= known
    assert not any("component_class_id" in each for each in config["components"])

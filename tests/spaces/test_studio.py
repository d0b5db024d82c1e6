"""The studio's Space: put together from its own folder, started as a Space would be, deployed to the loopback Hub."""

import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from simct.cli.main import build_parser
from tests.support.hub_server import HubServer
from tests.support.servers import free_port, serving

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "spaces" / "studio" / "deploy.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("space") / "studio"
    subprocess.run([sys.executable, DEPLOY, "--folder", target], check=True, timeout=60)
    return target


def test_the_front_matter_names_files_that_are_there_and_asks_for_sign_in(folder):
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert front["sdk"] == "gradio" and (folder / front["app_file"]).is_file() and front["hf_oauth"] is True
    pinned = re.search(r"^gradio\S*==(\S+)$", (folder / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned and front["sdk_version"] == pinned[1]


def test_it_starts_from_its_own_folder_and_refuses_what_a_public_page_must(folder, tmp_path):
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHONPATH"))}
    environment |= {
        "SYSTEM": "spaces",
        "SPACE_ID": "acme/studio",
        "SPACE_HOST": "acme-studio.hf.space",
        "OAUTH_CLIENT_ID": "id",
        "OAUTH_CLIENT_SECRET": "secret",
        "OAUTH_SCOPES": "openid profile",
        "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
        "GRADIO_SERVER_PORT": str(port),
        "RUNS_DIR": str(tmp_path / "runs"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    with serving([sys.executable, "main.py"], port, environment, folder) as (url, process):
        with urllib.request.urlopen(url, timeout=5) as answer:
            page = answer.read().decode()
        assert "Sign in" in page
        loaded = Path(f"/proc/{process.pid}/cwd").resolve() if Path("/proc").is_dir() else folder
        assert loaded == folder.resolve()
        from gradio_client import Client

        client = Client(url, verbose=False)
        error, report = client.predict("/etc", "/etc", "some text", api_name="/inspect")
        assert "Hub only" in error and report == {}
        secret = f"teacher: {tmp_path}\nstudent: {tmp_path}\ndata: {{prompts: /etc/passwd}}"
        with pytest.raises(Exception, match="Hub only"):
            client.predict(secret, api_name="/estimate")
        names = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        # Gradio adds one of its own for each page
        assert {name for name in names if not name.startswith("/_check_login")} == {"/inspect", "/estimate"}


def documented() -> list[list[str]]:
    """The commands of each block of spaces/README.md, `your-name` being the user of the loopback Hub."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "spaces" / "README.md").read_text(), flags=re.S)
    return [block.replace("your-name", "tester").strip().splitlines() for block in blocks]


def test_each_space_is_deployed_by_two_commands_that_exist():
    studio, student = documented()
    assert studio[0] == student[0] == "hf auth login" and len(studio) == len(student) == 2
    options = build_parser().parse_args(shlex.split(student[1])[1:])
    assert options.space and options.repo_id == "tester/my-student"


def test_it_is_deployed_by_the_documented_command():
    with HubServer() as hub:
        command = [sys.executable, *shlex.split(documented()[0][1])[1:]]
        subprocess.run(command, env=hub.env(), check=True, timeout=120, capture_output=True, cwd=ROOT)
        files = set(hub.repos["spaces/tester/simct-studio"].files)
        assert {
            "README.md",
            "main.py",
            "requirements.txt",
            "simct/inspection/coverage.py",
            "app/page/static/studio.css",
        } <= files
        assert not any("__pycache__" in name for name in files)
        refused = subprocess.run(
            [sys.executable, DEPLOY, "somebody-else/studio"], env=hub.env(), timeout=120, capture_output=True, text=True
        )
        assert refused.returncode == 2 and refused.stderr.strip().count("\n") == 0

"""Put the studio on the Hub as a Space: `python spaces/studio/deploy.py owner/name [--private]`.

A Space is built from its own folder only, so that folder is assembled first: the files next to this one, the packages
`simct` and `app`, the documentation that the studio shows, and the requirements. `--folder DIR` only assembles it.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OWN_FILES = ("README.md", "main.py")
FOLDERS = ("simct", "app", "docs")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def assemble(folder: Path) -> Path:
    """Write everything the Space needs into `folder`, which must be absent or empty."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(f"deploy: {str(folder)!r} is not empty. Choose another folder.")
    for name in OWN_FILES:
        shutil.copyfile(HERE / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
    shutil.copyfile(ROOT / "requirements.txt", folder / "requirements.txt")
    return folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo_id", nargs="?", help="owner/name of the Space")
    parser.add_argument("--private", action="store_true")
    parser.add_argument("--folder", type=Path, help="only assemble the Space in this folder")
    options = parser.parse_args(argv)
    if options.folder:
        print(assemble(options.folder))
        return 0
    if not options.repo_id:
        parser.error("give the Space as owner/name, or --folder DIR")
    sys.path.insert(0, str(ROOT))
    from simct.errors import SimCTError
    from simct.hub.errors import hub_error
    from simct.hub.search import hub_api

    try:
        api = hub_api()
        with tempfile.TemporaryDirectory() as folder:
            assemble(Path(folder))
            api.create_repo(
                options.repo_id, repo_type="space", space_sdk="gradio", private=options.private, exist_ok=True
            )
            api.upload_folder(repo_id=options.repo_id, repo_type="space", folder_path=folder, commit_message="Deploy")
    except Exception as error:
        if not isinstance(error, SimCTError):
            error = hub_error(error, options.repo_id, kind="space", writing=True)
        print(f"deploy: {error}", file=sys.stderr)
        return 2
    print(f"https://huggingface.co/spaces/{options.repo_id}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The first program of a Job, which installs what the run needs and starts the runner."""

# The Job's Python runs this before anything is installed; its settings come from the environment.
BOOTSTRAP = """\
import os, subprocess, sys, tempfile, time, zipfile
os.environ["SIMCT_STARTED"] = str(time.time())
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
subprocess.check_call([*pip, *os.environ["SIMCT_PACKAGES"].split()])
from huggingface_hub import hf_hub_download
folder = tempfile.mkdtemp()
zipfile.ZipFile(hf_hub_download(os.environ["SIMCT_RUN_REPO"], "simct-src.zip")).extractall(folder)
os.environ["PYTHONPATH"] = folder
os.execv(sys.executable, [sys.executable, "-m", "simct.jobs.hf.runner"])
"""

"""Damaged checkpoints of every kind are noticed and passed over, old ones without a manifest included."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from simct.runs.checkpoints import MANIFEST, damage, newest_whole, seal


def write(folder, step, manifest=True):
    path = folder / f"step-{step}"
    path.mkdir(parents=True)
    save_file({"a": torch.arange(100.0)}, path / "trained.safetensors")
    torch.save({"state": torch.arange(50.0)}, path / "optimizer.bin")
    (path / "trainer.json").write_text(json.dumps({"step": step}))
    if manifest:
        seal(path)
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "weights cut": lambda path: cut(path / "trained.safetensors"),
    "weights empty": lambda path: (path / "trained.safetensors").write_bytes(b""),
    "weights flipped": lambda path: flip(path / "trained.safetensors"),
    "weights missing": lambda path: (path / "trained.safetensors").unlink(),
    "optimizer cut": lambda path: cut(path / "optimizer.bin"),
    "optimizer flipped": lambda path: flip(path / "optimizer.bin"),
    "step missing": lambda path: (path / "trainer.json").unlink(),
    "step is text": lambda path: (path / "trainer.json").write_text('{"step": "20"}'),
    "all missing": lambda path: (shutil.rmtree(path), path.mkdir()),
    "a folder for a file": lambda path: ((path / "trainer.json").unlink(), (path / "trainer.json").mkdir()),
}
MANIFEST_DAMAGES = {
    "manifest empty": b"",
    "manifest a list": b"[]",
    "manifest null": b"null",
    "manifest cut": b'{"files": {"trai',
    "manifest without files": b'{"files": {}}',
    "manifest of another shape": b'{"files": {"trained.safetensors": 3}}',
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("manifest", [True, False], ids=["sealed", "old"])
def test_a_damaged_checkpoint_is_passed_over_with_the_reason(tmp_path, name, manifest):
    whole, newest = write(tmp_path, 10, manifest), write(tmp_path, 20, manifest)
    assert newest_whole(tmp_path, thorough=True) == (newest, [])
    DAMAGES[name](newest)
    found, reasons = newest_whole(tmp_path, thorough=True)
    if name == "weights flipped" and not manifest:
        assert found == newest  # safetensors has no checksums of its own: this is what manifests are for
        return
    assert found == whole and len(reasons) == 1
    assert "\n" not in reasons[0] and reasons[0].startswith("Checkpoint step-20 is damaged (")


@pytest.mark.parametrize("name", MANIFEST_DAMAGES)
def test_a_damaged_manifest_is_damage(tmp_path, name):
    whole, newest = write(tmp_path, 10), write(tmp_path, 20)
    (newest / MANIFEST).write_bytes(MANIFEST_DAMAGES[name])
    assert newest_whole(tmp_path)[0] == whole
    assert "manifest.json cannot be read" in damage(newest, 20, thorough=True)


def test_every_single_byte_of_a_sealed_checkpoint_counts(tmp_path):
    newest = write(tmp_path, 20)
    for path in [each for each in newest.iterdir() if each.name != MANIFEST]:
        data = path.read_bytes()
        for place in {0, 7, len(data) // 3, len(data) - 1}:
            path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
            assert damage(newest, 20, thorough=True) == f"the checksum of {path.name} differs"
            assert damage(newest, 20, thorough=False) is None
        path.write_bytes(data)
    assert damage(newest, 20, thorough=True) is None


def test_stray_folders_and_files_are_no_checkpoints(tmp_path):
    whole = write(tmp_path, 10)
    for name in ("step-999", "step-x", "step-", "step-٣", "step-07", "step-" + "9" * 100, ".step-11", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-12").write_text("")
    shutil.copytree(write(tmp_path / "elsewhere", 3, manifest=False), tmp_path / "step-998")
    found, reasons = newest_whole(tmp_path)
    assert found == whole and [reason.split()[1] for reason in reasons] == ["step-999", "step-998"]
    assert newest_whole(tmp_path / "absent") == (None, [])

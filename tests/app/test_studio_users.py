"""Fifty people on one studio at the same time: nobody's run is lost, and nobody sees, touches or trains with
another's."""

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from simct.runs.listing import list_statuses
from tests.support.shared_studio import Refused, SharedStudio, Visitor
from tests.support.stand_in_runs import most_at_once, turns, weights_after
from tests.support.waiting import until

USERS = 50


def visit(url: str, launched: list[str], number: int) -> tuple[str, str, bool]:
    """One person's visit: launch, watch, try another's run, and, every fifth, stop their own."""
    chance = random.Random(number)
    me = Visitor(url, f"user-{number}", f"hf_tokenofuser{number}")
    stops = number % 5 == 0
    mine = me.launch(**{"Steps": 100_000 if stops else 4, "Learning rate": 0.01, "Checkpoint every": 2, "Seed": number})
    launched.append(mine)
    ids, html = me.look()
    assert ids == [mine] and mine in html
    others = [run_id for run_id in launched if run_id != mine]
    if others:
        theirs = chance.choice(others)
        for button in ("stop", "resume", "delete"):
            with pytest.raises(Refused, match="not in the list of choices"):
                me.press(button, theirs)
    if stops:
        if chance.random() < 0.5:
            until(lambda: "running" in me.look()[1], 200, every=1.0)
        assert "note-ok" in me.press("stop", mine)
        until(lambda: "pill-stopped" in me.look()[1], 200, every=1.0)
    else:
        until(lambda: "pill-finished" in me.look()[1], 200, every=1.0)
    return me.name, mine, stops


@pytest.mark.long
def test_fifty_people_submit_watch_and_stop_their_own_runs(tmp_path):
    launched: list[str] = []
    runs_dir = tmp_path / "runs"
    with SharedStudio(runs_dir, devices="0,1,2,3") as studio, ThreadPoolExecutor(USERS) as people:
        visits = list(people.map(partial(visit, studio.url, launched), range(USERS)))

    found = {run.id: (run, status) for run, status in list_statuses(runs_dir)}
    assert len(found) == USERS and set(found) == {run_id for _, run_id, _ in visits}
    began = {turn["run"]: turn for turn in turns(runs_dir)}
    assert len(turns(runs_dir)) == len(began)  # none was started twice
    for name, run_id, stopped in visits:
        run, status = found[run_id]
        assert status.owner == name and status.state == ("stopped" if stopped else "finished")
        number = int(name.removeprefix("user-"))
        if run_id in began:
            assert began[run_id]["owner"] == name and began[run_id]["token"] == f"hf_tokenofuser{number}"
        if not stopped:
            assert (run.model_dir / "weights").read_text() == weights_after(4, seed=number)
            assert {record["prompt"] for record in run.rollouts()} == {run_id}
    devices = {turn["visible"] for turn in turns(runs_dir)}
    assert devices == {"0", "1", "2", "3"}
    assert all(most_at_once(runs_dir, device) == 1 for device in devices)
    for path in runs_dir.rglob("*"):
        if path.is_file() and path.name != ".turns.jsonl":
            assert b"hf_tokenofuser" not in path.read_bytes(), path


@pytest.mark.long
def test_a_studio_that_was_killed_finds_its_runs_again_and_a_visitor_lends_their_token_anew(tmp_path):
    with SharedStudio(tmp_path / "runs", devices="0") as studio:
        ann, bob = Visitor(studio.url, "ann", "hf_tokenofann"), Visitor(studio.url, "bob", "hf_tokenofbob")
        first = ann.launch(**{"Steps": 100_000, "Learning rate": 0.01})
        second = bob.launch(**{"Steps": 3, "Learning rate": 0.01})  # waits behind it
        studio.kill()
        studio.start()
        assert ann.look()[0] == [first]
        assert "note-ok" in ann.press("stop", first)
        until(lambda: "pill-stopped" in ann.look()[1], 200, every=1.0)
        until(lambda: "pill-finished" in bob.look()[1], 200, every=1.0)
    assert {got["run"]: got["token"] for got in turns(tmp_path / "runs")} == {
        first: "hf_tokenofann", second: "hf_tokenofbob"
    }  # fmt: skip

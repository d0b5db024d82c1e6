"""Votes in blind tests: the sign test against counting every outcome, the tally, and files that are damaged."""

from fractions import Fraction
from itertools import product

import pytest

from simct.errors import RunError
from simct.evaluation.votes import Vote, add_vote, sign_test, tallies, votes_of, votes_report
from tests.support.hub_runs import finished_run


def counted(wins: int, losses: int) -> Fraction:
    """The share of all equally likely outcomes that are as uneven or more."""
    n = wins + losses
    uneven = [abs(2 * sum(flips) - n) >= abs(wins - losses) for flips in product((0, 1), repeat=n)]
    return Fraction(sum(uneven), 2**n)


@pytest.mark.parametrize("wins", range(7))
@pytest.mark.parametrize("losses", range(6))
def test_the_sign_test_is_the_share_of_outcomes_as_uneven(wins, losses):
    assert sign_test(wins, losses) == pytest.approx(float(counted(wins, losses)), abs=1e-12)


def test_votes_are_kept_and_counted_whichever_side_they_were_on(tmp_path):
    run = finished_run(tmp_path / "run")
    cast = [("before", "after", "right"), ("after", "before", "left"), ("before", "after", "left"),
            ("after", "before", "tie"), ("step-8", "teacher", "right")]  # fmt: skip
    for left, right, choice in cast:
        add_vote(run, Vote("p", left, right, choice, "l", "r"))
    votes = votes_of(run)
    assert [(vote.left, vote.right, vote.choice) for vote in votes] == cast
    first, second = tallies(votes)
    assert (first.one, first.other, first.wins, first.losses, first.ties) == ("after", "before", 2, 1, 1)
    assert (second.one, second.wins, second.losses) == ("step-8", 0, 1)
    assert votes_report(votes)["tallies"][0]["p_value"] == first.p_value == 1.0


def test_damaged_lines_are_left_out(tmp_path):
    run = finished_run(tmp_path / "run")
    add_vote(run, Vote("p", "before", "after", "tie"))
    with open(run.path / "votes.jsonl", "a", encoding="utf-8") as file:
        file.write('{"prompt": 3}\n[]\n{"prompt": "p", "left": "a", "right": "b", "choice": "both", "at": 1}\ncut')
    assert len(votes_of(run)) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    run = finished_run(tmp_path / "run")
    (run.path / "votes.jsonl").mkdir()
    with pytest.raises(RunError, match="cannot be saved"):
        add_vote(run, Vote("p", "before", "after", "tie"))

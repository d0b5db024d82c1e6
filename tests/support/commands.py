"""The simct command in the test's own process."""

from simct.cli.main import main


def refused(capsys, *arguments: object) -> str:
    """The one line that the command ends with; its exit status must be 2."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("simct: "), err
    assert "Traceback" not in out + err
    return lines[0]

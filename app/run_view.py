"""One run as HTML, from its run folder alone."""

from collections import Counter
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from app import charts, markup
from app.models import display_name
from simct.errors import SimCTError
from simct.jobs.run_folder import ACTIVE_STATES, RunFolder

FILES = ("status.json", "metrics.jsonl", "rollouts.jsonl", "evaluation.json", "log.txt", "run.yaml")
SAMPLES = 6
LOG_LINES = 200
SIGNS = {"queued": "◌", "running": "●", "stopping": "◐", "stopped": "■", "failed": "✕", "finished": "✓"}


def label(run: RunFolder) -> str:
    """One line of the list: state, method, step, when, which pair."""
    status = run.status()
    state = status.get("state", "unknown")
    when = datetime.fromtimestamp(status.get("created_at", 0)).strftime("%d %b %H:%M")
    steps = f"{status.get('step', 0)}/{status.get('total_steps', '?')}"
    told = _kind(run.path, stamp(run, "run.yaml"))
    return f"{SIGNS.get(state, '?')} {state} · {steps}\n{told} · {when}"


@lru_cache(maxsize=1024)
def _kind(path: Path, changed: tuple[int, int] | None) -> str:
    """Method and student; read again only when run.yaml has changed."""
    try:
        config = RunFolder(path).config()
    except SimCTError:
        return "unreadable run.yaml"
    return f"{config.method} · {display_name(config.student.model)}"


def stamp(run: RunFolder, name: str) -> tuple[int, int] | None:
    """Time and size of a file of the run, None while it is absent."""
    try:
        found = (run.path / name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def panels(run: RunFolder) -> list[str]:
    """[head, results, charts, samples, log, run.yaml] as HTML."""
    metrics = run.metrics()
    return [head(run, metrics), results(run), curves(metrics), samples(run), log(run), config(run)]


def head(run: RunFolder, metrics: list[dict]) -> str:
    """State, pair, progress, times, and the message or error."""
    status = run.status()
    state, step, total = status.get("state", "unknown"), status.get("step", 0), status.get("total_steps", 0)
    try:
        settings = run.config()
        pair = f"{display_name(settings.teacher.model)} → {display_name(settings.student.model)}"
        method = settings.method
    except SimCTError as error:
        pair, method = str(error), "?"
    told = [method, f"step {step:,} of {total:,}"]
    seconds = [record["seconds"] for record in metrics[-20:] if record.get("seconds")]
    if seconds:
        mean = sum(seconds) / len(seconds)
        told.append(f"{mean:.2f} s a step")
        if state == "running" and total > step:
            told.append(f"about {duration(mean * (total - step))} left")
    if state not in ACTIVE_STATES and status.get("finished_at"):
        told.append(f"took {duration(status['finished_at'] - status.get('created_at', status['finished_at']))}")
    line = status.get("error") or status.get("message") or ""
    kind = {"failed": "error", "finished": "ok"}.get(state, "busy" if state in ACTIVE_STATES else "quiet")
    return (
        f'<div class="run-title">{markup.pill(state)}<b>{markup.escape(pair)}</b>'
        f"<code>{markup.escape(run.id)}</code></div>"
        f'<p class="run-facts">{markup.escape(" · ".join(told))}</p>'
        f"{markup.progress(step, total)}{markup.note(kind, line)}"
    )


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def results(run: RunFolder) -> str:
    """Scores before and after, where the run measured them."""
    evaluation = run.evaluation()
    tasks = sorted({task for scores in evaluation.values() if isinstance(scores, dict) for task in scores})
    columns = [name for name in ("before", "after", "teacher") if name in evaluation]
    if not tasks or not columns:
        return ""

    def score(column: str, task: str) -> str:
        found = evaluation[column].get(task)
        return f"{found['score']:.1%} (n = {found['n']})" if found else "–"

    names = {"before": "Student before", "after": "Student after", "teacher": "Teacher"}
    rows = [(task, *(score(column, task) for column in columns)) for task in tasks]
    return "<h3>Scores</h3>" + markup.table(("Task", *(names[column] for column in columns)), rows)


def curves(metrics: list[dict]) -> str:
    """Loss, divergence by kind of unit, coverage, and how the student writes."""
    if not metrics:
        return markup.empty("Curves appear with the first step.")

    def series(*names: tuple[str, str]) -> dict[str, list[tuple[float, float]]]:
        return {
            told: [(record["step"], record[name]) for record in metrics if isinstance(record.get(name), int | float)]
            for told, name in names
        }

    whole = (0.0, 1.0)
    drawn = [
        charts.line_chart("Loss", series(("loss", "loss"))),
        charts.line_chart("KL by kind of unit", series(("shared", "kl_shared"), ("recovered", "kl_recovered"))),
        charts.line_chart(
            "Tokens covered",
            series(("exact", "coverage_strict"), ("recovered", "coverage_recovered")),
            charts.percent,
            whole,
        ),
        charts.line_chart(
            "Answers", series(("ended", "eos_rate"), ("canonical", "canonical_rate")), charts.percent, whole
        ),
        charts.line_chart("Answer length, tokens", series(("length", "response_length"))),
        charts.line_chart("Gradient norm", series(("norm", "grad_norm"))),
    ]
    return f'<div class="charts">{"".join(drawn)}</div>{left_out(metrics)}'


def left_out(metrics: list[dict]) -> str:
    """How many answers could not be supervised, by reason, over the whole run."""
    counts: Counter = Counter()
    for record in metrics:
        counts.update(record.get("excluded") or {})
    if not counts:
        return markup.note("quiet", "Every answer could be supervised.")
    told = "; ".join(f"{count:,} × {reason}" for reason, count in counts.most_common())
    return markup.note("warn", f"Answers left out or cut: {told}.")


def samples(run: RunFolder) -> str:
    """The newest rollouts, newest first."""
    found = run.rollouts(SAMPLES)[::-1]
    if not found:
        return ""
    rows = [
        (
            f"{sample.get('step', '')}",
            str(sample.get("prompt", "")),
            str(sample.get("completion", "")) + ("" if sample.get("ended") else " …"),
        )
        for sample in found
    ]
    return "<h3>What the student writes</h3>" + markup.table(("Step", "Prompt", "Completion"), rows, numeric=(0,))


def log(run: RunFolder) -> str:
    text = run.log_tail(LOG_LINES)
    return f'<pre class="log">{markup.escape(text)}</pre>' if text else markup.empty("Nothing has been written yet.")


def config(run: RunFolder) -> str:
    try:
        text = (run.path / "run.yaml").read_text(encoding="utf-8")
    except OSError:
        return markup.empty("run.yaml cannot be read.")
    return f'<pre class="log">{markup.escape(text)}</pre>'

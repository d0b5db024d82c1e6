"""One run as HTML, from its run folder alone."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

from app.page import line_charts as charts
from app.page import markup
from app.page.markup import duration
from app.runs.evaluations import results
from app.runs.names import names
from simct.files import tail
from simct.hub.redact import redact
from simct.jobs import actions
from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus

FILES = (
    "status.json", "metrics.jsonl", "rollouts.jsonl", "evaluation.json", "log.txt", "job_log.txt", "run.yaml",
)  # fmt: skip
SAMPLES = 6
LOG_LINES = 200


def panels(run: RunFolder, place: str | None = None, trouble: str | None = None) -> list[str]:
    """[head, results, charts, samples, log, run.yaml] as HTML. `place` is the place in the queue of a run that waits,
    `trouble` the last error of the Hub about Jobs."""
    metrics = run.metrics()
    return [
        head(run, metrics, place, trouble), results(run), curves(metrics), samples(run), log(run), config(run)
    ]  # fmt: skip


def head(run: RunFolder, metrics: list[dict], place: str | None = None, trouble: str | None = None) -> str:
    """State, pair, progress, times, and the reason if it failed."""
    status = run.status()
    _, teacher, student = names(run, status)
    extra = ""
    quiet = actions.silence(run, status)
    if quiet is not None:
        extra = markup.note("warn", f"No update from it for {duration(quiet)}. Look at the log, or force it to stop.")
    if trouble and status.remote and status.active:
        extra += markup.note("warn", trouble)
    return (
        f'<div class="run-title">{markup.pill(status.state)}<b>{markup.escape(f"{teacher} → {student}")}</b>'
        f"<code>{markup.escape(run.id)}</code></div>"
        f'<p class="run-facts">{markup.escape(" · ".join(facts(run, status, metrics)))}{rented(status)}</p>'
        f"{markup.progress(status.step, status.total_steps or 0)}{message_note(status, place)}{extra}"
    )


def facts(run: RunFolder, status: RunStatus, metrics: list[dict]) -> list[str]:
    """Method, steps, speed, and how long it took or will take."""
    step, total = status.step, status.total_steps or 0
    found = [names(run, status)[0], f"step {step:,} of {total:,}"]
    seconds = [record["seconds"] for record in metrics[-20:] if record.get("seconds")]
    if seconds:
        mean = sum(seconds) / len(seconds)
        found.append(f"{mean:.2f} s a step")
        if status.state == "running" and total > step:
            found.append(f"about {duration(mean * (total - step))} left")
    begun = status.started_at or status.created_at
    if not status.active and status.finished_at and begun:
        found.append(f"took {duration(status.finished_at - begun)}")
    return found


def message_note(status: RunStatus, place: str | None) -> str:
    """The run's message, or its place in the queue, or the reason why it failed."""
    line = status.error or place or status.message or ""
    if status.state == "queued" and place:
        line = f"{place}. It starts by itself."
    notes = {"failed": "error", "unreadable": "error", "finished": "ok"}
    return markup.note(notes.get(status.state, "busy" if status.active else "quiet"), line)


def rented(status: RunStatus) -> str:
    """The machine of a run on Jobs, the most it can have cost so far, and its page on the Hub."""
    if not status.remote:
        return ""
    text = f" · {status.machine} of {status.namespace}"
    if status.price and status.hours and status.started_at:
        until = time.time() if status.active else status.finished_at or status.started_at
        spent = status.price * min(status.hours, max(0.0, until - status.started_at) / 3600)
        text += f" · at most ${spent:.2f} of ${status.price * status.hours:.2f}"
    url = status.job_url or ""
    link = f' · <a href="{markup.escape(url)}" target="_blank" rel="noopener">its page</a>'
    return markup.escape(text) + (link if url.startswith(("https://", "http://")) else "")


def curves(metrics: list[dict]) -> str:
    """Loss, divergence by kind of unit, coverage, and how the student writes."""
    if not metrics:
        return markup.empty("Curves appear with the first step.")

    def series(*names: tuple[str, str]) -> dict[str, list[tuple[float, float]]]:
        return {
            label: [(record["step"], record[name]) for record in metrics if isinstance(record.get(name), int | float)]
            for label, name in names
        }

    whole = (0.0, 1.0)
    drawn = [
        charts.line_chart("Loss", series(("loss", "loss"))),
        *_by_teacher(series, metrics),
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


def _by_teacher(series: Callable[..., dict[str, list[tuple[float, float]]]], metrics: list[dict]) -> Iterator[str]:
    """The loss against each of several teachers, and its share of the rows."""
    names = dict.fromkeys(
        key.removeprefix("share_") for record in metrics for key in record if key.startswith("share_")
    )
    if names:
        yield charts.line_chart("Loss by teacher", series(*((name, f"loss_{name}") for name in names)))
        shares = series(*((name, f"share_{name}") for name in names))
        yield charts.line_chart("Rows by teacher", shares, charts.percent, (0.0, 1.0))


def left_out(metrics: list[dict]) -> str:
    """How many answers could not be supervised, by reason, over the whole run."""
    counts: Counter = Counter()
    for record in metrics:
        counts.update(record.get("excluded") or {})
    if not counts:
        return markup.note("quiet", "Every answer could be supervised.")
    reasons = "; ".join(f"{count:,} × {reason}" for reason, count in counts.most_common())
    return markup.note("warn", f"Answers left out or cut: {reasons}.")


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
    """What the trainer printed, or before that what its Job printed."""
    text = run.log_tail(LOG_LINES) or tail(run.path / "job_log.txt", LOG_LINES)
    return (
        f'<pre class="log">{markup.escape(redact(text))}</pre>'
        if text
        else markup.empty("Nothing has been written yet.")
    )


def config(run: RunFolder) -> str:
    try:
        text = (run.path / "run.yaml").read_text(encoding="utf-8")
    except OSError:
        return markup.empty("run.yaml cannot be read.")
    return f'<pre class="log">{markup.escape(text)}</pre>'

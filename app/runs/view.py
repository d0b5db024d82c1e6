"""One run as HTML, from its run folder alone."""

from collections import Counter

from app.page import markup
from app.page.publishing import publishing_line
from app.runs import machine
from app.runs.evaluations import results
from app.runs.names import names
from simct.errors import SimCTError
from simct.files import tail
from simct.hub.redact import redact
from simct.jobs import actions
from simct.publishing.push import publishing_state
from simct.publishing.when_finished import not_improved
from simct.report.formats import at_most, duration
from simct.report.progress import progress_line
from simct.runs.folder import RunFolder
from simct.runs.labels import read_label
from simct.runs.progress import Progress
from simct.runs.status import RunStatus

FILES = (
    "status.json", "metrics.jsonl", "rollouts.jsonl", "evaluation.json", "log.txt", "job_log.txt", "run.yaml",
    "label.json", "publish.json", machine.ESTIMATE_FILE,
)  # fmt: skip
SAMPLES = 6
LOG_LINES = 500


def panels(run: RunFolder, place: str | None = None, trouble: str | None = None) -> list[str]:
    """[head, machine, results, what was left out, samples, run.yaml] as HTML.

    `place` is the place in the queue of a run that waits, `trouble` the last error of the Hub about Jobs.
    """
    metrics = run.metrics()
    used = machine.panel(run, run.status(), metrics)
    top = head(run, metrics, place, trouble) + published(run)
    return [top, used, results(run), left_out(metrics), samples(run), config(run)]


def head(run: RunFolder, metrics: list[dict], place: str | None = None, trouble: str | None = None) -> str:
    """State, pair, progress, times, and the reason if the run failed."""
    status = run.status()
    _, teacher, student = names(run, status)
    extra = ""
    quiet = actions.silence(run, status)
    if quiet is not None:
        extra = markup.note("warn", f"No update for {duration(quiet)}. Check the log, or force the run to stop.")
    if trouble and status.remote and status.active:
        extra += markup.note("warn", trouble)
    return (
        f'<div class="run-title">{markup.pill(status.state)}{_title(run, f"{teacher} → {student}")}'
        f"<code>{markup.escape(run.id)}</code></div>{_note(run)}"
        f'<p class="run-facts">{markup.escape(" · ".join(facts(run, status, metrics)))}{rented(status)}</p>'
        f"{markup.progress(status.step, status.total_steps or 0)}"
        f"{message_note(status, place)}{stage_bar(status)}{extra}"
    )


def published(run: RunFolder) -> str:
    """Where the student was published; for a run that publishes by itself, what it will do or why it did not
    publish.
    """
    record = publishing_state(run)
    if record.state != "none":
        return publishing_line(record)
    try:
        wanted = run.config().publish
    except SimCTError:
        return ""  # shown with the settings
    if wanted.repo_id is None:
        return ""
    if run.status().state != "finished":
        return markup.note("quiet", f"When it has finished, it publishes its student to {wanted.repo_id}.")
    reason = not_improved(run) if wanted.only_if_improved else None
    return markup.note("quiet", f"Not published: {reason}" if reason else "")


def _title(run: RunFolder, pair: str) -> str:
    """The run's name, if it has one, its pair, and its tags."""
    label = read_label(run)
    name = f"<b>{markup.escape(label.name)}</b><span>{markup.escape(pair)}</span>" if label.name else ""
    return (name or f"<b>{markup.escape(pair)}</b>") + (markup.chips(label.tags) if label.tags else "")


def _note(run: RunFolder) -> str:
    note = read_label(run).note
    return f'<p class="remark">{markup.escape(note)}</p>' if note else ""


def facts(run: RunFolder, status: RunStatus, metrics: list[dict]) -> list[str]:
    """Method, steps, speed, the time it took or will take, and the project."""
    step, total = status.step, status.total_steps or 0
    found = [names(run, status)[0], f"step {step:,} of {total:,}"]
    seconds = [record["seconds"] for record in metrics[-20:] if record.get("seconds")]
    if seconds:
        mean = sum(seconds) / len(seconds)
        found.append(f"{mean:.2f} s per step")
        if status.state == "running" and total > step:
            found.append(f"about {duration(mean * (total - step))} left")
    begun = status.started_at or status.created_at
    if not status.active and status.finished_at and begun:
        found.append(f"took {duration(status.finished_at - begun)}")
    if status.project:
        found.append(f"project {status.project}")
    return found


def message_note(status: RunStatus, place: str | None) -> str:
    """The run's message, or its place in the queue, or the reason why it failed."""
    line = status.error or place or progress_line(status) or status.message or ""
    if status.state == "queued" and place:
        line = f"{place}. It will start automatically."
    notes = {"failed": "error", "unreadable": "error", "finished": "ok"}
    return markup.note(notes.get(status.state, "busy" if status.active else "quiet"), line)


def stage_bar(status: RunStatus) -> str:
    """The progress of a stage other than training, if it can be counted."""
    stage = Progress.of(status)
    if stage is None or not stage.total:
        return ""
    return markup.progress(stage.done, stage.total, stage.text)


def rented(status: RunStatus) -> str:
    """The machine of a run on Jobs, the most it can have cost so far, and its page on the Hub."""
    if not status.remote:
        return ""
    text = f" · {status.machine} of {status.namespace}"
    spent = machine.spent_so_far(status)
    if spent is not None and status.price and status.hours:
        text += f" · at most {at_most(spent)} of {at_most(status.price * status.hours)}"
    url = status.job_url or ""
    link = f' · <a href="{markup.escape(url)}" target="_blank" rel="noopener">Job page</a>'
    return markup.escape(text) + (link if url.startswith(("https://", "http://")) else "")


def left_out(metrics: list[dict]) -> str:
    """How many answers could not be supervised, by reason, over the whole run."""
    if not metrics:
        return ""
    counts: Counter = Counter()
    for record in metrics:
        counts.update(record.get("excluded") or {})
    if not counts:
        return markup.note("quiet", "Every answer could be supervised.")
    reasons = "; ".join(f"{count:,} × {reason}" for reason, count in counts.most_common())
    return markup.note("warn", f"Answers left out or cut off: {reasons}.")


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
    """The output of the trainer, or, before there is any, that of its Job, as text."""
    return redact(run.log_tail(LOG_LINES) or tail(run.path / "job_log.txt", LOG_LINES), run.status().owner)


def config(run: RunFolder) -> str:
    try:
        text = (run.path / "run.yaml").read_text(encoding="utf-8")
    except OSError:
        return markup.empty("run.yaml cannot be read.")
    return f'<pre class="log">{markup.escape(text)}</pre>'

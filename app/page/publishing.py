"""The state of publishing as HTML: one line, the progress of the upload, and links to what was created."""

from app.page import hub_notes, markup
from simct.report.formats import human_size
from simct.runs.status import PublishingStatus

WITH_IT = (("adapter_url", "adapter"), ("rollouts_url", "rollouts"), ("space_url", "chat demo"))


def publishing_line(status: PublishingStatus) -> str:
    """The state of publishing as HTML, with the links."""
    name = status.repo_id or ""
    if status.state == "published":
        return hub_notes.note_with("ok", f"Published: {hub_notes.link(status.url, name)}") + _made(status)
    if status.state == "publishing":
        line, bar = f"{status.stage or 'Publishing'}, for {name}.", ""
        if status.total:
            sent = status.sent or 0
            line += f" {human_size(sent)} of {human_size(status.total)}."
            bar = markup.progress(sent, status.total)
        return bar + markup.note("busy", f"{line} It continues if you close this page.")
    if status.state == "failed":
        line = hub_notes.linked_note("error", status.error or "Publishing failed.")
        before = f"Published before and still there: {hub_notes.link(status.url, name)}" if status.url else ""
        return line + hub_notes.note_with("quiet", before)
    return markup.note("quiet", "")


def _made(status: PublishingStatus) -> str:
    """Links to what was published with the model."""
    links = [hub_notes.link(getattr(status, field), name) for field, name in WITH_IT if getattr(status, field)]
    return hub_notes.note_with("quiet", f"With it: {', '.join(links)}." if links else "")

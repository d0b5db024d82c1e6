"""ZeroGPU: such a Space lends its visitors a GPU for one call at a time, in a separate process. Elsewhere, this is
unused.

On such a Space, PyTorch sees a GPU that the studio's own process cannot use, so its models stay on the CPU. The call
that measures a pair gets the GPU and loads the models itself, from files that were downloaded before.
"""

from collections.abc import Iterator

import gradio as gr

from app.server.studio import ZERO_GPU
from app.server.work import Work, follow
from simct.config import RunConfig
from simct.errors import RunError
from simct.inspection.records import Reliability

# the most bytes of the GPU that two models may use
MEMORY = 60_000_000_000
# seconds to request: for loading two models, for each answer, and at most, within the quota of most visitors
LOADING, EACH_ANSWER, MOST = 40, 2, 240


def seconds(config: RunConfig, answers: int, token: str | bool | None) -> int:
    """The number of seconds to request the GPU for."""
    return min(MOST, LOADING + EACH_ANSWER * answers)


def measuring(
    config: RunConfig, answers: int, token: str | bool | None
) -> Iterator[tuple[int, int | None, Reliability | None, str]]:
    """Measure the pair; yields the number of measured answers, the number of all answers, the final report, and the
    error, if any.
    """
    from simct.inspection.reliability import measure_pair
    from simct.models.loading import device_for_training

    def measure(task: Work) -> Reliability:
        # called here, in the process that has the GPU
        return measure_pair(config, answers, token, device_for_training(), task.progress, task.should_stop)

    for work in follow(measure):
        yield work.done, work.total, work.result, work.error


def measure_pair(config: RunConfig, answers: int, token: str | bool | None, task: Work) -> Reliability:
    """The report of simct.inspection.reliability.measure_pair, computed on the lent GPU. Raises RunError."""
    task.step("Waiting for a GPU…")
    report = None
    try:
        for done, total, report, wrong in measuring(config, answers, token):  # noqa: B007
            if wrong:
                raise RunError(wrong)
            task.step("Measuring on a GPU, answers:")
            task.progress(done, total)
    except gr.Error as error:
        # for example an exhausted quota; some errors give their reason only in the title
        raise RunError(f"No GPU was lent: {error.message!s} ({error.title}).") from error
    if report is None:
        raise RunError("The GPU was taken back before the pair was measured. Choose fewer or shorter answers.")
    return report


if ZERO_GPU:
    import spaces

    measuring = spaces.GPU(duration=seconds)(measuring)  # type: ignore[attr-defined]

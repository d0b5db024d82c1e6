"""Where a run trains: this machine, or a rented one of Hugging Face Jobs, with its price and a confirmed limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.server.settings import Settings
from simct.config import RunConfig
from simct.errors import ConfigError, HubError, RunError, SimCTError
from simct.jobs import actions
from simct.jobs.backend import Rental
from simct.report import formats
from simct.runs.folder import RunFolder

HERE, JOBS = "This machine", "Hugging Face Jobs"
NOT_SIGNED_IN = "Sign in first: a Job is charged to your own account."
NO_HARDWARE = (
    "This Space has no hardware to train on. Choose Hugging Face Jobs, or take run.yaml to a machine that has."
)


@dataclass(frozen=True)
class WhereForm:
    """`components` hold what was chosen; their values, in this order, are what `start` takes."""

    where: gr.Radio
    flavor: gr.Dropdown
    namespace: gr.Dropdown
    timeout: gr.Number
    limit: gr.Number
    confirmed: gr.Checkbox
    rented: gr.Column
    prices: gr.State
    machines: gr.HTML
    note: gr.HTML

    @property
    def components(self) -> list[gr.components.Component]:
        return [self.where, self.flavor, self.namespace, self.timeout, self.limit, self.confirmed]

    def connect(
        self, settings: Settings, changed: Sequence, inputs: Sequence[gr.components.Component], config_of: Callable
    ) -> None:
        """List the machines that fit whenever `changed` (events) or the choice of where says so.

        `config_of(*values of inputs)` gives the RunConfig and how many prompts there are (None where not known).
        """

        def offer(
            visitor: gr.OAuthToken | None, where: str, flavor: str | None, namespace: str | None, *values
        ) -> list:
            if where != JOBS:
                return [gr.Column(visible=False), *[gr.skip()] * 5]
            try:
                config, n_prompts = config_of(*values)
                return [gr.Column(visible=True), *_offered(settings, config, n_prompts, visitor, flavor, namespace)]
            except SimCTError as error:
                told = markup.note("error", one_line(error))
                return [gr.Column(visible=True), *[gr.skip()] * 4, told]

        told = [self.rented, self.flavor, self.namespace, self.prices, self.machines, self.note]
        asked = [self.where, self.flavor, self.namespace, *inputs]
        self.where.change(offer, asked, told, trigger_mode="always_last", **settings.private)
        if changed:
            gr.on(changed, offer, asked, told, **settings.in_turn("machines"))
        amounts = [self.flavor, self.timeout, self.limit, self.prices]
        for component in amounts[:3]:
            component.change(_to_confirm, amounts, self.confirmed, **settings.quiet)


def build(settings: Settings) -> WhereForm:
    """Lay the choice out; what is rented shows only when it is."""
    choices = [HERE, JOBS] if settings.trains_here else [JOBS]
    where = gr.Radio(choices, value=choices[0], label="Where it trains", elem_id="where-form")
    with gr.Column(visible=choices[0] == JOBS, elem_id="rented") as rented:
        flavor = gr.Dropdown([], label="Machine", info="Those the run fits, by the estimate", elem_id="flavor")
        with gr.Row():
            namespace = gr.Dropdown([], label="Paid by", allow_custom_value=True, min_width=130, elem_id="namespace")
            timeout = gr.Number(4, label="End after, hours", min_width=130, elem_id="timeout")
            limit = gr.Number(5, label="Spend at most, $", min_width=130, elem_id="spend-limit")
        prices = gr.State({})
        confirmed = gr.Checkbox(False, label="Choose a machine first", interactive=False, elem_id="confirm-spending")
        note = markup.panel(markup.note("quiet", "Machines and prices are asked from the Hub."), elem_id="where-note")
        with gr.Accordion("All machines", open=False):
            machines = markup.panel(elem_id="machines")
    return WhereForm(where, flavor, namespace, timeout, limit, confirmed, rented, prices, machines, note)


def _offered(settings: Settings, config: RunConfig, n_prompts: int | None, visitor, flavor, namespace) -> list:
    """Choices of machines and of who pays, the table of all machines, and the line under them."""
    # torch and transformers take seconds to import
    from simct.jobs.hf.hardware import offers

    token = settings.token(visitor)
    offered = offers(config, token, n_prompts)
    fitting = [offer for offer in offered if offer.fits is not False]
    names = [offer.machine.name for offer in fitting]
    chosen = flavor if flavor in names else (names[0] if names else None)
    payers, told = _payers(token)
    if not fitting:
        told = markup.note("error", "The run fits no machine of Hugging Face Jobs. Lower micro-batch or lengths.")
    elif fitting[0].fits is None:
        told = markup.note("warn", f"Whether it fits could not be estimated: {fitting[0].why}")
    rows = [
        (
            offer.machine.name,
            f"{offer.machine.gpus} × {offer.machine.gpu}" if offer.machine.gpus else "CPU",
            f"{offer.machine.gpu_memory or offer.machine.memory:.0f} GB",
            f"${offer.machine.price:.2f}",
            "?" if offer.cost is None else f"${offer.cost:.2f}",
            {True: "fits", None: "not known", False: offer.why}[offer.fits],
        )
        for offer in offered
    ]
    headers = ("Machine", "GPUs", "Memory", "An hour", "This run, about", "")
    return [
        gr.Dropdown(choices=[(offer.line(), offer.machine.name) for offer in fitting], value=chosen),
        gr.Dropdown(choices=payers, value=namespace or (payers[0] if payers else None)),
        {offer.machine.name: offer.machine.price for offer in fitting},
        markup.table(headers, rows, numeric=(2, 3, 4)),
        told,
    ]


def _payers(token: str | bool | None) -> tuple[list[str], str]:
    """Accounts that a Job can be charged to, or a line on why none is known."""
    from huggingface_hub import get_token

    from simct.jobs.hf.history import namespaces_of

    if token is False or not (token or get_token()):
        return [], markup.note("warn", NOT_SIGNED_IN if token is False else "Sign in with `hf auth login` first.")
    try:
        return namespaces_of(token), ""
    except HubError as error:
        return [], markup.note("warn", one_line(error))


def _to_confirm(flavor: str | None, timeout: float | None, limit: float | None, prices: dict):
    """The line to tick, which is unticked whenever what it says has changed."""
    price = (prices or {}).get(flavor)
    if price is None or not limit or limit <= 0 or not timeout or timeout <= 0:
        return gr.Checkbox(value=False, interactive=False, label="Choose a machine, and what it may cost")
    hours = min(timeout, limit / price) if price else timeout
    told = f"It may cost up to ${hours * price:.2f}: {flavor} for at most {formats.hours(hours)}"
    return gr.Checkbox(value=False, interactive=True, label=told)


def start(
    settings: Settings,
    config: RunConfig,
    values: Sequence,
    visitor: gr.OAuthToken | None = None,
    profile: gr.OAuthProfile | None = None,
) -> RunFolder:
    """Start the run (checked, models pinned) where `values` say; it may have to wait. Raises a one-line SimCTError."""
    where, flavor, namespace, timeout, limit, confirmed = values
    owner = settings.owner(profile)
    if settings.public and owner is None:
        raise RunError(NOT_SIGNED_IN if where == JOBS else "Sign in first: a run belongs to who started it.")
    token = settings.token(visitor) or None
    if where != JOBS:
        if not settings.trains_here:
            raise RunError(NO_HARDWARE)
        return actions.start_here(settings.runs_dir, config, owner, token=token)
    return actions.start_on_jobs(
        settings.runs_dir, config, rental(config, flavor, namespace, timeout, limit, confirmed, token), token, owner
    )


def rental(config: RunConfig, flavor, namespace, timeout, limit, confirmed, token: str | None) -> Rental:
    """What was chosen, checked against what the Hub offers now. Raises ConfigError or HubError."""
    from simct.jobs.hf.hardware import chosen_hours, offers

    offer = next((each for each in offers(config, token) if each.machine.name == flavor), None)
    if offer is None:
        raise ConfigError("Choose a machine under Where it trains.")
    if offer.fits is False:
        raise ConfigError(f"The run does not fit {flavor}: it {offer.why}.")
    hours = chosen_hours(offer.machine, timeout or None, limit)
    if not confirmed:
        raise ConfigError("Confirm what it may cost, under Where it trains.")
    return Rental(flavor, hours, offer.machine.price, (namespace or "").strip() or None)

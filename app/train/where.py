"""Where a run trains: on this machine, or on a rented one of Hugging Face Jobs, with its price and a confirmed
limit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.projects import checked_name
from app.reading.setup import explicit_token
from app.server import paths
from app.server.handler import Component, Handler, Updates, in_turn
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.config import RunConfig
from simct.errors import ConfigError, HubError, RunError, SimCTError
from simct.jobs import actions
from simct.jobs.backend import Rental
from simct.jobs.hf.spending import MAX_HOURS
from simct.report import formats
from simct.runs.folder import RunFolder

if TYPE_CHECKING:
    from simct.jobs.hf.hardware import Offer

HERE, JOBS = "This machine", "Hugging Face Jobs"
NOT_SIGNED_IN = "Sign in first: a Job is charged to your own account."
NO_HARDWARE = "This Space has no hardware to train on. Choose Hugging Face Jobs, or take run.yaml to another machine."
HEADERS = ("Machine", "GPUs", "Memory", "An hour", "This run, about", "")
CHOOSE_FIRST = "Choose a machine first"
END_AFTER, SPEND = "End after, hours", "Spend at most, $"


@dataclass(frozen=True)
class Place:
    """The values of a PlaceForm: the place, and the rented machine with its time and spending limits."""

    where: str
    flavor: str | None = None
    namespace: str | None = None
    timeout: float | None = None
    limit: float | None = None
    confirmed: bool = False


class PlaceForm:
    """The choice of a place; the fields for a rented machine are shown only if one is chosen. `fields` have the names
    of Place.

    After `connect`, `config_of(visitor, described)` returns the RunConfig to train and the number of prompts (None if
    unknown).
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        choices = [HERE, JOBS] if studio.trains_here else [JOBS]
        self.where = gr.Radio(choices, value=choices[0], label="Where it trains", elem_id="where-form")
        with gr.Column(visible=choices[0] == JOBS, elem_id="rented") as self.rented:
            flavor = gr.Dropdown([], label="Machine", info="Machines large enough for the run", elem_id="flavor")
            with gr.Row():
                namespace = gr.Dropdown(
                    [],
                    label="Paid by",
                    allow_custom_value=True,
                    min_width=130,
                    elem_classes="takes-text",
                    elem_id="namespace",
                )
                timeout = gr.Number(4, label=END_AFTER, min_width=130, elem_id="timeout")
                limit = gr.Number(5, label=SPEND, min_width=130, elem_id="spend-limit")
            confirmed = gr.Checkbox(False, label=CHOOSE_FIRST, interactive=False, elem_id="confirm-spending")
            asking = markup.note("quiet", "Machines and prices come from the Hub.")
            self.note = markup.panel(asking, elem_id="where-note")
            with gr.Accordion("All machines", open=False):
                self.machines = markup.panel(elem_id="machines")
        self.prices = gr.State({})
        self.flavor, self.namespace, self.confirmed = flavor, namespace, confirmed
        self.fields: dict[str, Component] = {
            "where": self.where,
            "flavor": flavor,
            "namespace": namespace,
            "timeout": timeout,
            "limit": limit,
            "confirmed": confirmed,
        }
        amounts = {"flavor": flavor, "timeout": timeout, "limit": limit, "prices": self.prices}
        confirm = Handler(studio, self._ask_to_confirm, amounts, [confirmed])
        confirm.on(flavor.change, timeout.change, limit.change)

    def connect(
        self,
        read: Any,
        described: Component,
        config_of: Callable[[Visitor, str], tuple[RunConfig, int | None]],
    ) -> None:
        """List the machines that fit whenever a version of the form was `read`. When a machine is then chosen for the
        first time, another version begins.
        """
        self.config_of = config_of
        inputs: dict[str, Component] = {"where": self.where, "flavor": self.flavor, "namespace": self.namespace}
        inputs["described"] = described
        outputs = [self.rented, self.flavor, self.namespace, self.prices, self.machines, self.note]
        Handler(self.studio, self._offer, inputs, outputs, in_turn("machines")).on(read)

    def _offer(
        self, visitor: Visitor, where: str, flavor: str | None, namespace: str | None, described: str
    ) -> Updates:
        """Choices of machines and of who pays, the table of all machines, and the line under them."""
        if where != JOBS:
            return {self.rented: gr.Column(visible=False)}
        try:
            config, n_prompts = self.config_of(visitor, described)
            offered = offers(self.studio, config, visitor.token, n_prompts)
        except SimCTError as error:
            return {self.rented: gr.Column(visible=True), self.note: markup.note("error", one_line(error))}
        fitting = [offer for offer in offered if offer.fits is not False]
        names = [offer.machine.name for offer in fitting]
        payers, note = _payers(visitor)
        if not fitting:
            note = markup.note(
                "error", "No machine on Jobs is large enough for this run. Lower micro-batch tokens or lengths."
            )
        elif fitting[0].fits is None:
            note = markup.note("warn", f"Could not estimate whether the run fits: {fitting[0].why}")
        lines = [(each.line(), each.machine.name) for each in fitting]
        # the chosen values are not sent again, because the visitor may have changed them in the meantime
        kept: dict[str, Any] = {} if flavor in names else {"value": next(iter(names), None)}
        payer: dict[str, Any] = {} if namespace else {"value": next(iter(payers), None)}
        return {
            self.rented: gr.Column(visible=True),
            self.flavor: gr.Dropdown(choices=lines, **kept),
            self.namespace: gr.Dropdown(choices=payers, **payer),
            self.prices: {offer.machine.name: (offer.machine.price, offer.hours) for offer in fitting},
            self.machines: markup.table(HEADERS, _machine_rows(offered), numeric=(2, 3, 4)),
            self.note: note,
        }

    def _ask_to_confirm(
        self,
        flavor: str | None,
        timeout: float | None,
        limit: float | None,
        prices: dict[str, tuple[float, float | None]] | None,
    ) -> Updates:
        """The line to tick, or what is missing before it can be; it is unticked whenever its text changes."""
        found = (prices or {}).get(flavor or "")
        reason = CHOOSE_FIRST if found is None else _refused(timeout, limit)
        if found is None or timeout is None or limit is None or reason:
            return {self.confirmed: gr.Checkbox(value=False, interactive=False, label=reason)}
        price, needed = found
        hours = min(timeout, limit / price) if price else timeout
        label = f"It may cost up to {formats.at_most(hours * price)}: {flavor} for at most {formats.hours(hours)}"
        if needed is not None and needed > hours:
            label += f". That is too short: the run takes about {formats.hours(needed)}"
        return {self.confirmed: gr.Checkbox(value=False, interactive=True, label=label)}


def _refused(timeout: float | None, limit: float | None) -> str:
    """Why these limits of a Job cannot be used; empty if they can."""
    for name, value in ((END_AFTER, timeout), (SPEND, limit)):
        if value is None:
            return f"Enter “{name}” first"
        if value <= 0:
            return f"“{name}” is {value:g}; it must be above 0"
    return f"“{END_AFTER}” is {timeout:g}; it must be at most {MAX_HOURS:g}" if (timeout or 0) > MAX_HOURS else ""


def _machine_rows(offered: Sequence["Offer"]) -> list[tuple[str, ...]]:
    return [
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


def _payers(visitor: Visitor) -> tuple[list[str], str]:
    """Accounts that a Job can be charged to, or a line that says why none is known."""
    from huggingface_hub import get_token

    from simct.jobs.hf.history import namespaces_of

    if visitor.token is False or not (visitor.token or get_token()):
        reason = NOT_SIGNED_IN if visitor.token is False else "Sign in with `hf auth login` first."
        return [], markup.note("warn", reason)
    try:
        return namespaces_of(visitor.token), ""
    except HubError as error:
        return [], markup.note("warn", one_line(error))


def start(studio: Studio, config: RunConfig, place: Place, visitor: Visitor, project: str | None = None) -> RunFolder:
    """Start the run (checked, with models pinned) at `place`, in a named project; it may have to wait.

    Raises a one-line SimCTError.
    """
    name = checked_name(project)
    if studio.public and visitor.owner is None:
        raise RunError(NOT_SIGNED_IN if place.where == JOBS else "Sign in first: a run belongs to an account.")
    token = visitor.own_token
    paths.check_run(studio, visitor, config, here=place.where != JOBS)
    if place.where != JOBS:
        if not studio.trains_here:
            raise RunError(NO_HARDWARE)
        run = actions.start_here(studio.runs_dir, config, visitor.owner, token=token)
    else:
        rented = rental(studio, config, place, token)
        run = actions.start_on_jobs(studio.runs_dir, config, rented, token, visitor.owner)
    if name:
        run.set_status(project=name)
    return run


def offers(studio: Studio, config: RunConfig, token: str | bool | None, n_prompts: int | None = None) -> "list[Offer]":
    """Every machine of Jobs with the estimate of the run. Raises a one-line SimCTError."""
    # torch and transformers take seconds to import
    from app.reading import runs

    asked = (config, explicit_token(token), n_prompts)
    near = ("offers", *(model.model for model in config.models))
    return studio.workers.run(runs.offered, *asked, what="The estimate", near=near)


def rental(studio: Studio, config: RunConfig, place: Place, token: str | None) -> Rental:
    """The chosen machine, checked against the Hub's current offers. Raises ConfigError or HubError."""
    from simct.jobs.hf.spending import chosen_hours

    offer = next((each for each in offers(studio, config, token) if each.machine.name == place.flavor), None)
    if offer is None:
        raise ConfigError("Choose a machine under Where it trains.")
    if offer.fits is False:
        raise ConfigError(f"The run does not fit {offer.machine.name}: it {offer.why}.")
    hours = chosen_hours(offer.machine, place.timeout or None, place.limit or 0.0)
    if not place.confirmed:
        raise ConfigError("Confirm what it may cost, under Where it trains.")
    return Rental(offer.machine.name, hours, offer.machine.price, (place.namespace or "").strip() or None)

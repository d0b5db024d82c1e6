"""The card of a run as it will be published: generated, or edited by a person and kept in the run folder.

An edited card is in card.md, with PLACEHOLDER for the repository's name, so that it stays correct when another name is
chosen.
"""

import re

import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from simct.config.yaml_text import check_shape
from simct.errors import ConfigError, HubError, RunError, brief
from simct.files import write_atomically
from simct.hub.redact import redact
from simct.publishing.card import model_card
from simct.runs.folder import RunFolder

CARD_FILE = "card.md"
PLACEHOLDER = "your-name/model-name"
CARD_CHARACTERS = 200_000
RELATIONS = ("finetune", "adapter", "merge", "quantized", "new_version")
# the ids that the Hub accepts as `license`; https://huggingface.co/docs/hub/repositories-licenses
LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c
    ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa
    unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
    llama3.2 llama3.3 llama4 grok2-community gemma unknown other
    """.split()  # noqa: SIM905
)


def card_of(run: RunFolder, repo_id: str, license: str | None = None, adapter: bool = False) -> str:
    """The README as it would be published in `repo_id`: the edited one if there is one, else the generated one.

    `adapter`: the repository holds the LoRA weights alone.
    """
    edited = edited_card(run)
    return model_card(run, repo_id, license, adapter) if edited is None else edited.replace(PLACEHOLDER, repo_id)


def edited_card(run: RunFolder) -> str | None:
    """The edited card, with PLACEHOLDER for the repository, or None."""
    try:
        return (run.path / CARD_FILE).read_text(encoding="utf-8")
    except OSError:
        return None


def save_card(run: RunFolder, text: str, repo_id: str | None = None) -> None:
    """Save an edited card unchecked (see check_card). Raises RunError if it is too long or cannot be written."""
    if len(text) > CARD_CHARACTERS:
        raise RunError(f"The card has {len(text):,} characters; at most {CARD_CHARACTERS:,} can be saved. Shorten it.")
    text = text.replace("\r\n", "\n")
    try:
        write_atomically(run.path / CARD_FILE, text.replace(repo_id, PLACEHOLDER) if repo_id else text)
    except OSError as error:
        raise RunError(f"Cannot save the card in the run folder of {run.id}: {error.strerror}.") from error


def reset_card(run: RunFolder) -> None:
    """Go back to the generated card."""
    (run.path / CARD_FILE).unlink(missing_ok=True)


def card_parts(text: str) -> tuple[str, str]:
    """(metadata as YAML, body) of a card; the metadata is empty if the card has none."""
    parts = re.match(r"\s*---[ \t]*\n(.*?)\n---[ \t]*(?:\n|$)", text, re.DOTALL)
    return (parts[1], text[parts.end() :]) if parts else ("", text)


def check_card(text: str, license: str | None = None, owner: str | None = None) -> dict:
    """The card's metadata. Raises a one-line HubError that names the field the Hub would refuse or misread.

    The student's own `license`, as the Hub has it, is also accepted. `owner`: the account whose card it is, and whose
    keys it must not contain.
    """
    front, body = card_parts(text)
    try:
        check_shape(front, "The card's metadata")
        data = yaml.safe_load(front) or {}
    except ConfigError as error:
        raise HubError(str(error)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark else ""
        raise HubError(
            f"The card's metadata is not YAML{where}: {getattr(error, 'problem', None) or error}."
        ) from error
    except Exception as error:  # a constructor may raise anything, for example for 2024-99-99
        raise HubError("The card's metadata is not YAML: a value in it cannot be read.") from error
    if not isinstance(data, dict):
        raise HubError("The card's metadata must be `name: value` lines between two lines of ---.")
    if not front:
        raise HubError("The card has no metadata: begin it with a line of ---, `name: value` lines, and another ---.")
    if not body.strip():
        raise HubError("The card has no text below its metadata. Write some, or reset the card.")
    if redact(text, owner) != text:
        raise HubError("The card contains what looks like an access token. Remove it before you publish.")
    _check_license(data, license)
    _check_ids(data)
    _check_words(data)
    try:
        ModelCardData(**data)
    except Exception as error:
        raise HubError(f"The card's model-index is malformed: {brief(error)}") from error
    return data


def _check_license(data: dict, known: str | None) -> None:
    license = data.get("license")
    if license is None:
        return
    if not isinstance(license, str) or license not in LICENSES | {known}:
        raise HubError(
            f"license is {license!r}, which is not a license id on the Hub. Use one such as apache-2.0, or "
            "`other` with a"
            " license_name."
        )
    if license == "other" and not isinstance(data.get("license_name"), str):
        raise HubError("license is `other`: say which with license_name.")


def _check_ids(data: dict) -> None:
    for name in ("base_model", "datasets", "teacher_model"):
        for repo_id in _listed(data.get(name)):
            try:
                validate_repo_id(repo_id)
            except HFValidationError as error:
                raise HubError(f"{name} is {repo_id!r}, which is not a repository id. Write owner/name.") from error
    relation = data.get("base_model_relation")
    if relation is not None and relation not in RELATIONS:
        raise HubError(f"base_model_relation is {relation!r}; it can be {', '.join(RELATIONS)}.")
    if relation is not None and not data.get("base_model"):
        raise HubError("base_model_relation is given without a base_model. Name the model, or take it out.")


def _check_words(data: dict) -> None:
    for name in ("library_name", "pipeline_tag", "license_name", "license_link"):
        if name in data and not isinstance(data[name], str):
            raise HubError(f"{name} is {data[name]!r}; it must be one word of text.")
    for name in ("tags", "language"):
        if not all(isinstance(each, str) for each in _listed(data.get(name))):
            raise HubError(f"{name} must be a list of words, such as `- distillation`.")


def _listed(value: object) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]

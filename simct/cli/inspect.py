"""`simct inspect`: where two tokenizers disagree, what SimCT recovers, and with weights whether to trust it."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simct.cli import arguments
from simct.cli.common import check_output_file, prepare_hub, read_text, write_json
from simct.cli.terminal import progress, stoppable
from simct.config import RunConfig, config_from_dict
from simct.config.precision import AUTO
from simct.config.sections import DTYPES, DataConfig
from simct.errors import ConfigError, DataError
from simct.files import expanded

if TYPE_CHECKING:
    import torch

    from simct.inspection.records import PairReport, PairRow, Reliability, UnitScore
    from simct.tokenization.pair import TokenizerPair

ShouldStop = Callable[[], bool]
SHOWN_CHARACTERS = 200_000  # the most characters of the text for the HTML report and --at
LARGE_TEXT = 2**22  # the most characters of a file that is read as a whole; a longer one is read in pieces
COMPARED_TEXTS = 1_000
PROMPTS_READ = 500  # the most prompts of --prompts that are used as the text


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    inspect = commands.add_parser("inspect", help="where two tokenizers disagree and what SimCT recovers (no weights)")
    add_pair(inspect)
    text = inspect.add_argument_group("the text (by default the prompts of --prompts, or a small balanced sample)")
    text.add_argument("--text", metavar="FILE", help="a UTF-8 text file, or - for standard input")
    text.add_argument("--dataset", metavar="ID", help="a Hub dataset, or a JSONL, CSV, Parquet or text file; streamed")
    text.add_argument("--column", metavar="C", help="with --dataset: the column; by default one with text")
    text.add_argument("--split", default="train", metavar="S", help="with --dataset (default: %(default)s)")
    text.add_argument("--subset", metavar="NAME", help="with --dataset: its configuration, if it has several")
    text.add_argument("--dataset-revision", metavar="REV", help="with --dataset: a branch, tag or commit")
    text.add_argument("--limit", type=arguments.rows, metavar="N", help="with --dataset: only the first N texts")
    weights = inspect.add_argument_group("with weights (by default only tokenizers are downloaded)")
    weights.add_argument(
        "--weights",
        type=arguments.rows_or_none,
        metavar="N",
        help="load both models and measure the pair on N answers (0: load them only)",
    )
    weights.add_argument("--prompts", help="prompts to answer; by default the embedded pair's")
    weights.add_argument("--teacher-server", metavar="URL", help="the teacher is on this server; see docs/running.md")
    weights.add_argument(
        "--top-logprobs", type=arguments.at_once, metavar="K", help="tokens that the server lists at each position"
    )
    weights.add_argument("--teacher-system", metavar="TEXT", help="a system text that only the teacher reads")
    weights.add_argument(
        "--dtype", default=AUTO, choices=DTYPES, help="number format of the weights (default: %(default)s)"
    )
    weights.add_argument(
        "--at", metavar="PLACE", help="the candidates at a byte of the text (120), or at a unit of it (u7)"
    )
    weights.add_argument(
        "--before", metavar="PROMPT", help="a prompt that both models read before the text, in their chat templates"
    )
    others = inspect.add_argument_group("other pairs in one table")
    others.add_argument(
        "--compare", action="append", default=[], metavar="STUDENT", help="another student (ID or ID@REVISION); repeat"
    )
    others.add_argument("--compare-teacher", action="append", default=[], metavar="TEACHER", help="another teacher")
    others.add_argument("--sort", default="strict", choices=("strict", "jaccard", "verdict"))
    written = inspect.add_argument_group("output")
    written.add_argument(
        "--top", type=arguments.rows_or_none, default=20, metavar="N", help="disagreements shown (default: %(default)s)"
    )
    written.add_argument("--json", metavar="FILE", help="the report as JSON")
    written.add_argument("--html", metavar="FILE", help="the report as one self-contained page")
    written.add_argument("--csv", metavar="FOLDER", help="the report's tables as CSV files")
    inspect.set_defaults(run=run_inspect)


def add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--teacher", required=True, help="Hub id or local folder")
    parser.add_argument("--student", required=True, help="Hub id or local folder")
    parser.add_argument("--teacher-revision")
    parser.add_argument("--student-revision")
    for side in ("teacher", "student"):
        help_text = f"which of several chat templates of the {side} (default: the one called default)"
        parser.add_argument(f"--{side}-chat-template", metavar="NAME", help=help_text)


def run_inspect(options: argparse.Namespace) -> int:
    from simct.inspection.corpus import inspect_corpus
    from simct.report.text import format_report
    from simct.tokenization.pair import TokenizerPair

    _check(options)
    prepare_hub(options.teacher, options.student, *options.compare, *options.compare_teacher, options.dataset)
    skipped: Counter[str] = Counter()
    texts, total = _texts(options, skipped)
    sample = _Sample()
    pair = TokenizerPair.from_pretrained(
        options.teacher,
        options.student,
        teacher_revision=options.teacher_revision,
        student_revision=options.student_revision,
        teacher_template=options.teacher_chat_template,
        student_template=options.student_chat_template,
    )
    scores: list[UnitScore] = []
    with stoppable() as should_stop:
        with progress("Reading", "texts") as on_progress:
            counted = inspect_corpus(pair, sample.watch(texts), on_progress, should_stop, top=options.top, total=total)
        excluded = dict(counted.excluded) | skipped
        report = replace(counted, teacher=options.teacher, student=options.student, excluded=excluded)
        print(format_report(report))
        if not should_stop():
            report, scores = _look_closer(options, pair, sample.text, report, texts, should_stop)
        stopped = should_stop()
    _write(options, pair, report, sample.text, scores)
    return 130 if stopped else 0


def _check(options: argparse.Namespace) -> None:
    if options.text and options.dataset:
        raise ConfigError("Give --text or --dataset, not both.")
    for name in ("column", "subset", "dataset_revision", "limit"):
        if getattr(options, name) is not None and not options.dataset:
            raise ConfigError(f"--{name.replace('_', '-')} needs --dataset, which was not given.")
    if options.at is not None and not re.fullmatch(r"u?[0-9]{1,18}", options.at):
        raise ConfigError(f"--at takes a byte offset such as 120, or a unit such as u7, got {options.at!r}.")
    if options.csv and expanded(options.csv).is_file():
        raise ConfigError(f"--csv takes a folder, and {options.csv!r} is a file.")
    check_output_file(options.json)
    check_output_file(options.html)


class _Sample:
    """Keeps the beginning of a stream of texts, to show it."""

    def __init__(self) -> None:
        self.text = ""

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            room = SHOWN_CHARACTERS - len(self.text)
            if room > 0:
                self.text += ("\n" if self.text and not self.text.endswith("\n") else "") + text[:room]
            yield text


def _texts(options: argparse.Namespace, skipped: Counter[str] | None = None) -> tuple[Iterable[str], int | None]:
    """The texts to count (a list, or a stream that is read once), and their number, if known.

    Rows of a dataset without text are counted by reason in `skipped`.
    """
    from simct.data.prompts import load_prompts
    from simct.inspection.corpus import dataset_texts, pieces_of, sample_texts

    if options.dataset:
        stream = dataset_texts(
            options.dataset,
            options.column,
            options.split,
            options.limit,
            config_name=options.subset,
            revision=options.dataset_revision,
            skipped=skipped,
        )
        first = next(stream)  # report an unreadable dataset before anything else is loaded
        return chain([first], stream), options.limit
    if options.text:
        text = sys.stdin.read() if options.text == "-" else read_text(options.text)
        if not text:
            raise DataError("There is no text on standard input.")
        texts = [text] if len(text) <= LARGE_TEXT else list(pieces_of(text))
    elif options.prompts:
        prompts = load_prompts(DataConfig(prompts=options.prompts, limit=PROMPTS_READ))
        texts = [f"{prompt.text} {prompt.answer or ''}".strip() for prompt in prompts]
    else:
        texts = sample_texts()
    return texts, len(texts)


def _look_closer(
    options: argparse.Namespace,
    pair: TokenizerPair,
    text: str,
    report: PairReport,
    texts: Iterable[str],
    should_stop: ShouldStop,
) -> tuple[PairReport, list[UnitScore]]:
    """The report with the other requested parts (a position, reliability, other pairs), and all scores."""
    from simct.models.loading import device_for_training

    device = device_for_training()
    report, scores = _read_with_models(options, pair, text, report, device, should_stop)
    if options.weights and not should_stop():
        report = replace(report, reliability=_measure(options, device, should_stop))
    if (options.compare or options.compare_teacher) and not should_stop():
        report = replace(report, comparison=_compare(options, report, texts, device, should_stop))
    return report, scores


def _read_with_models(
    options: argparse.Namespace,
    pair: TokenizerPair,
    text: str,
    report: PairReport,
    device: torch.device,
    should_stop: ShouldStop,
) -> tuple[PairReport, list[UnitScore]]:
    """The candidates at a position and, for the HTML report, the scores of all units. Models are loaded only if
    requested.
    """
    from simct.inspection.candidates import candidates_at, score_units
    from simct.losses.head import check_head
    from simct.models.loading import load_model
    from simct.report.text import format_candidates

    place = None if options.at is None else _unit_at(pair, text, options.at)
    teacher = student = None
    if options.weights is not None and (place is not None or options.html):
        config = _config(options)
        if not config.teacher.server:
            teacher, student = (load_model(model, device).eval() for model in (config.teacher, config.student))
            for loaded in (teacher, student):
                check_head(loaded)
    if options.teacher_system and not options.before and (place is not None or (options.html and options.weights)):
        raise ConfigError("The teacher reads --teacher-system before a prompt, so give --before PROMPT too.")
    read_first = {"prompt": options.before, "teacher_system": options.teacher_system}
    if place is not None:
        found = candidates_at(pair, teacher, student, text, place, **read_first)
        print(f"\n{format_candidates(found)}")
        report = replace(report, candidates=found)
    scores: list[UnitScore] = []
    if teacher is not None and student is not None and options.html:
        with progress("Scoring", "units") as on_progress:
            scores = score_units(
                pair, teacher, student, text, **read_first, on_progress=on_progress, should_stop=should_stop
            )
    return report, scores


def _measure(options: argparse.Namespace, device: torch.device, should_stop: ShouldStop) -> Reliability:
    from simct.data.prompts import read_prompts
    from simct.inspection.reliability import measure_pair
    from simct.report.text import format_reliability

    config = _config(options)
    if options.prompts:
        print("", *read_prompts(config.data).summary.lines(), sep="\n")
    with progress("Measuring", "answers") as on_progress:
        measured = measure_pair(
            config, options.weights, device=device, on_progress=on_progress, should_stop=should_stop
        )
    print(f"\n{format_reliability(measured)}")
    return measured


def _compare(
    options: argparse.Namespace,
    report: PairReport,
    texts: Iterable[str],
    device: torch.device,
    should_stop: ShouldStop,
) -> list[PairRow]:
    """This pair and the other named pairs in one table."""
    from simct.inspection.compare_pairs import compare_pairs
    from simct.report.text import format_pairs

    teacher = _at_revision(options.teacher, options.teacher_revision)
    student = _at_revision(options.student, options.student_revision)
    with progress("Comparing", "pairs") as on_progress:
        rows = compare_pairs(
            [teacher, *options.compare_teacher],
            [student, *options.compare],
            islice(texts if isinstance(texts, list) else _texts(options)[0], COMPARED_TEXTS),
            samples=options.weights or 0,
            prompts=_config(options).data.prompts,
            teacher_system=options.teacher_system,
            dtype=options.dtype,
            device=device,
            measured={(teacher, student): report.reliability} if report.reliability else None,
            sort=options.sort,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    print(f"\n{format_pairs(rows)}")
    return rows


def _config(options: argparse.Namespace) -> RunConfig:
    from simct.demo import PROMPTS

    return config_from_dict(
        {
            "teacher": {
                "model": options.teacher,
                "revision": options.teacher_revision,
                "chat_template": options.teacher_chat_template,
                "dtype": options.dtype,
                "system": options.teacher_system,
                "server": options.teacher_server,
                **({} if options.top_logprobs is None else {"top_logprobs": options.top_logprobs}),
            },
            "student": {
                "model": options.student,
                "revision": options.student_revision,
                "chat_template": options.student_chat_template,
                "dtype": options.dtype,
            },
            "data": {"prompts": options.prompts or str(PROMPTS)},
        }
    )


def _at_revision(name: str, revision: str | None) -> str:
    return f"{name}@{revision}" if revision else name


def _unit_at(pair: TokenizerPair, text: str, place: str) -> int:
    """The index of the unit at a byte offset, or of the unit with a given number."""
    import numpy as np

    from simct.inspection.coverage import spell

    units = spell(pair, text).units
    if place.startswith("u"):
        return int(place[1:])
    if not int(place) < int(units.byte_end[-1]):
        raise DataError(f"There is no byte {place}: the text that is shown has {units.byte_end[-1]:,}.")
    return int(np.searchsorted(units.byte_start, int(place), side="right")) - 1


def _write(
    options: argparse.Namespace,
    pair: TokenizerPair,
    report: PairReport,
    text: str,
    scores: Sequence[UnitScore],
) -> None:
    from simct.errors import AlignmentError
    from simct.inspection.coverage import show_units
    from simct.report.html import html_report

    write_json(options.json, report.to_dict())
    if options.html:
        try:
            units = show_units(pair, text)
        except AlignmentError:  # one side cannot spell the text, and the report says so
            units = []
        page = html_report(report, units, scores)
        expanded(options.html).write_text(page, encoding="utf-8", errors="replace")
        print(f"written: {options.html}")
    if options.csv:
        for path in write_tables(report, expanded(options.csv)):
            print(f"written: {path}")


def write_tables(report: PairReport, folder: Path) -> list[Path]:
    """The report's tables as CSV files in `folder`, which is created if necessary; returns their paths."""
    tables: dict[str, list[dict[str, Any]]] = {
        "by_kind": [{"kind": kind, **row.to_dict()} for kind, row in report.by_kind.items()],
        "unit_shapes": [
            dict(zip(("student_tokens", "teacher_tokens"), shape.split("x"), strict=True)) | {"units": count}
            for shape, count in report.unit_shapes.items()
        ],
        "disagreements": [
            row.to_dict()
            | {"student_tokens": " | ".join(row.student_tokens), "teacher_tokens": " | ".join(row.teacher_tokens)}
            for row in report.top_disagreements
        ],
        "candidates": [row.to_dict() for row in report.candidates.rows] if report.candidates else [],
        "comparison": [
            {name: value for name, value in row.to_dict().items() if name != "reliability"}
            for row in report.comparison or []
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in tables.items():
        if rows:
            paths.append(folder / f"{name}.csv")
            with open(paths[-1], "w", encoding="utf-8", errors="replace", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    return paths

"""python -m tests.fuzz.table [--examples N]: every family of bad input with how many were tried and how many failed."""

import argparse
import os
from collections import Counter

os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # no name that an example makes up is looked for on the Hub
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.support.attacked_command import what_is_wrong
from tests.support.bad_input import FAMILIES, Attack


def tried_and_failed(family: str, examples: int, number: int) -> tuple[int, Counter[str], dict[str, Attack]]:
    """How many examples of a family were tried, and the failures by what was wrong, each with an example."""
    failures: Counter[str] = Counter()
    shown: dict[str, Attack] = {}
    tried = 0

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(FAMILIES[family])
    def each(attack: Attack) -> None:
        nonlocal tried
        tried += 1
        wrong = what_is_wrong(attack)
        if wrong:
            failures[wrong[-400:]] += 1
            shown.setdefault(wrong[-400:], attack)

    each()
    return tried, failures, shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="of each family (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=tuple(FAMILIES), help="one family")
    parser.add_argument("--show", action="store_true", help="print what failed")
    options = parser.parse_args()
    print(f"{'family':24}{'tried':>8}{'failed':>8}")
    bad = 0
    for family in [options.only] if options.only else FAMILIES:
        tried, failures, shown = tried_and_failed(family, options.examples, options.seed)
        bad += sum(failures.values())
        print(f"{family:24}{tried:>8}{sum(failures.values()):>8}", flush=True)
        for wrong, count in failures.most_common() if options.show else ():
            attack = shown[wrong]
            files = {name: content[:200] for name, content in attack.files.items()}
            print(f"  {count} × {wrong}\n    {[each[:150] for each in attack.arguments]}\n    {files}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/python3
"""Compares the variants of a sweep with one of them, run by run with the same other parameters (seeds).

    scripts/compare_variants.py RESULTS.csv --baseline VARIANT [--column final_top1] [--margin 0.3]

For each variant: how many pairs, mean and standard deviation, the mean difference from the baseline with its 95 %
interval, and the one-sided 95 % lower bound (paired t). Accuracies are in percent. With --margin, a last column says
which bounds are above minus the margin. Runs that diverged count as 0.

Exit codes: 0, 2 usage or a file that cannot be read.
"""

import argparse
import csv
import math
import statistics
import sys
from pathlib import Path

PROGRAM = Path(sys.argv[0]).name  # compare_variants.py, or dcs3gd-compare-variants where it is installed
# Columns of results.csv that are results, not parameters.
RESULTS = ("rank", "run", "variant", "status", "best_top1", "final_top1", "eval_loss", "images_per_s", "wall_s")


def t_quantile(probability, freedom):
    """Of Student's t distribution, by bisection of its integral (Simpson)."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def below(value, pieces=2000):
        width = value / pieces
        heights = [(1 + (i * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(pieces + 1)]
        inner = sum(heights[i] * (4 if i % 2 else 2) for i in range(1, pieces))
        return 0.5 + scale * width / 3 * (heights[0] + inner + heights[-1])

    low, high = 0.0, 1000.0
    while high - low > 1e-6 * (1 + low):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return low


def read(path, column):
    """variant -> {the other parameters: value}"""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "variant" not in rows[0] or column not in rows[0]:
        raise ValueError(f"{path}: expected the columns variant and {column}")
    scale = 100 if column.endswith("top1") else 1
    values = {}
    for row in rows:
        if row["status"] not in ("done", "diverged"):
            continue
        key = tuple((name, row[name]) for name in row if name not in RESULTS)
        values.setdefault(row["variant"], {})[key] = scale * float(row[column] or 0)
    return values


def compare(values, baseline):
    """Rows of numbers, one a variant: variant, pairs, mean, deviation, difference, half interval, lower bound."""
    rows = []
    for variant, runs in values.items():
        pairs = [(runs[key], values[baseline][key]) for key in runs if key in values[baseline]]
        if not pairs:
            continue
        mean = statistics.fmean(own for own, _ in pairs)
        deviation = statistics.stdev(own for own, _ in pairs) if len(pairs) > 1 else math.nan
        differences = [own - base for own, base in pairs]
        difference = statistics.fmean(differences)
        half = bound = math.nan
        if len(pairs) > 1:
            error = statistics.stdev(differences) / math.sqrt(len(pairs))
            half = t_quantile(0.975, len(pairs) - 1) * error
            bound = difference - t_quantile(0.95, len(pairs) - 1) * error
        rows.append((variant, len(pairs), mean, deviation, difference, half, bound))
    return sorted(rows, key=lambda row: -row[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", metavar="RESULTS.csv")
    parser.add_argument("--baseline", required=True)
    parser.add_argument("--column", default="final_top1")
    parser.add_argument("--margin", type=float)
    arguments = parser.parse_args()
    try:
        values = read(arguments.results, arguments.column)
        if arguments.baseline not in values:
            raise ValueError(f"{arguments.results}: no finished run of {arguments.baseline}; there are "
                             f"{', '.join(values) or 'none'}")
    except (OSError, ValueError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    print(f"| variant | n | {arguments.column} | SD | less {arguments.baseline} | lower bound |"
          f"{f' above -{arguments.margin:g} |' if arguments.margin is not None else ''}")
    print(f"|---|---|---|---|---|---|{'---|' if arguments.margin is not None else ''}")
    for variant, count, mean, deviation, difference, half, bound in compare(values, arguments.baseline):
        last = ""
        if arguments.margin is not None:
            last = f" {'yes' if variant == arguments.baseline or bound > -arguments.margin else 'no'} |"
        print(f"| `{variant}` | {count} | {mean:.2f} | {deviation:.2f} | {difference:+.2f} ± {half:.2f} | {bound:+.2f} |"
              f"{last}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

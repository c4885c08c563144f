#!/usr/bin/python3
"""Makes one self-contained HTML page of what dcs3gd-bench scale predicts: curves over the number of ranks.

    dcs3gd-bench scale --network 25g --json > scale.json
    scripts/scale_report.py scale.json [-o scale.html]

The page needs no network and no other file.
Exit codes: 0 done, 1 the page cannot be written, 2 usage, or a file that is not of dcs3gd-bench scale --json.
"""

import argparse
import html
import json
import statistics
import sys
from pathlib import Path

from output_file import output_file
from report import STYLE, Table, cell

PROGRAM = Path(sys.argv[0]).name  # scale_report.py, or dcs3gd-scale-report where it is installed
HIDDEN = 0.9  # of the efficiency: below it, communication counts as not hidden

RULES = {
    "ssgd": "each layer waits for its own average",
    "ssgd_barrier": "synchronous, all waited for at the step's end",
    "dc_s3gd": "all stale; s3gd alike",
    "dc_s3gd_fresh": "a part of the parameters never stale",
    "ddp": "like DDP: buckets of 25 MiB, in order, waited for at the step's end",
}


class Predictions:
    """The inputs, and the predictions by rule, bits and ranks. Throws ValueError for anything else."""

    def __init__(self, text):
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        if not lines or any(line.get("bench") != "scale" for line in lines) or not lines[0].get("inputs"):
            raise ValueError("not a whole answer of dcs3gd-bench scale --json")
        self.inputs, self._lines = lines[0], lines[1:]
        if not self._lines or any(line.get("inputs") for line in self._lines):
            raise ValueError("expected one answer of dcs3gd-bench scale --json, to its end")
        self.rules = list(dict.fromkeys(line["rule"] for line in self._lines))
        self.bits = list(dict.fromkeys(line["bits"] for line in self._lines))
        self.replayed = max((line["ranks"] for line in self._lines if line["is_replayed"]), default=0)

    def of(self, rule, bits):
        return [line for line in self._lines if (line["rule"], line["bits"]) == (rule, bits)]

    def most_hidden(self, rule, bits):
        """The most ranks up to which the efficiency stays above HIDDEN."""
        most = 0
        for line in self.of(rule, bits):
            if line["efficiency"] < HIDDEN:
                break
            most = line["ranks"]
        return most


def curves(plots, name, title, unit, lines, *, logarithmic=False, level=None):
    """`lines`: (label, predictions, key), a curve each. `level`: (label, height) of a dashed line."""
    figure, axes = plots.plt.subplots(figsize=(6.3, 3.6))
    axes.set_title(title)
    axes.set_xscale("log")
    axes.set_xlabel("ranks, one on each host")
    axes.set_ylabel(unit)
    if logarithmic:
        axes.set_yscale("log")
    for index, (label, predictions, key) in enumerate(lines):
        shown = [line for line in predictions if line[key] > 0 or not logarithmic]
        axes.plot([line["ranks"] for line in shown], [line[key] for line in shown], color=plots.colour(index),
                  linewidth=1.5, label=label)
    if level:
        axes.axhline(level[1], color="#666666", linewidth=1, linestyle="--", label=level[0])
    if not logarithmic:
        axes.set_ylim(0, None)
    axes.legend(fontsize=7.5, frameon=False)
    return plots.svg_of(figure, name, title)


def drawings(plots, predictions):
    widest = predictions.bits[0]
    by_rule = [(rule, predictions.of(rule, widest)) for rule in predictions.rules]
    alone_ms = predictions.inputs["alone_ms"]

    def of_rules(name, title, unit, key, **options):
        return curves(plots, name, title, unit, [(rule, lines, key) for rule, lines in by_rule], **options)

    drawn = [
        (of_rules("efficiency", f"Efficiency ({widest:g} bits)", "of perfect scaling", "efficiency"),
         "A step of one rank alone, by a step of all."),
        (of_rules("step", f"Time of a step ({widest:g} bits)", "ms", "step_ms", logarithmic=True,
                  level=("one rank alone", alone_ms)),
         "Where a curve leaves the dashed line, communication and waiting for late ranks are no longer hidden."),
        (of_rules("all-reduce", f"All-reduces of a step ({widest:g} bits)", "ms", "all_reduce_ms", logarithmic=True,
                  level=("one rank alone", alone_ms)),
         "If all began at once. Above the dashed line nothing can hide them."),
        (of_rules("wait", f"Waited in a step ({widest:g} bits)", "ms", "wait_ms"),
         "For averages, and within them for late ranks; mean of all ranks."),
        (of_rules("images", f"Throughput ({widest:g} bits)", "images/s", "images_per_s", logarithmic=True), ""),
    ]
    for rule in ("ssgd", "dc_s3gd"):
        if rule in predictions.rules and len(predictions.bits) > 1:
            lines = [(f"{bits:g} bits", predictions.of(rule, bits), "efficiency") for bits in predictions.bits]
            drawn.append((curves(plots, f"wires-{rule}", f"What narrow wires change: {rule}", "efficiency", lines),
                          "32 bits are comm.wire: fp32, 16 are bf16."))
    return drawn


def hidden_table(predictions):
    table = Table([("rule", ' class="text"')] + [(f"{bits:g} bits", "") for bits in predictions.bits])
    for rule in predictions.rules:
        reach = [predictions.most_hidden(rule, bits) for bits in predictions.bits]
        name = f"{rule}: {RULES[rule]}" if rule in RULES else rule
        table.row([cell(name, "text")] + [cell(f"{most:,}" if most else "–") for most in reach])
    return table.html()


def numbers_table(predictions):
    table = Table([("rule", ' class="text"'), ("bits", ""), ("ranks", ""), ("step [ms]", ""), ("all-reduces [ms]", ""),
                   ("waited [ms]", ""), ("hidden", ""), ("images/s", ""), ("efficiency", ""), ("how", ' class="text"')])
    for rule in predictions.rules:
        for bits in predictions.bits:
            for line in predictions.of(rule, bits):
                table.row([cell(rule, "text"), cell(f"{bits:g}"), cell(f"{line['ranks']:,}"),
                           cell(f"{line['step_ms']:,.2f}"), cell(f"{line['all_reduce_ms']:,.2f}"),
                           cell(f"{line['wait_ms']:,.2f}"), cell(f"{100 * line['overlap']:.0f} %"),
                           cell(f"{line['images_per_s']:,.0f}"), cell(f"{line['efficiency']:.3f}"),
                           cell("replayed" if line["is_replayed"] else "one shared link", "text")])
    return f"<details><summary>All numbers</summary>{table.html()}</details>"


def page(predictions):
    import report_plots as plots  # takes a second

    inputs = predictions.inputs
    title = f"{inputs['model']}, {inputs['algorithm']} over {inputs['gbit_s']:g} Gbit/s"
    figures = "\n".join(f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"
                        for svg, caption in drawings(plots, predictions))
    samples = inputs["compute_ms"]
    late = (f"pause {inputs['pause_ms']:g} ms, random delay {100 * inputs['jitter']:g} % of a step, "
            f"{100 * inputs['straggler_share']:g} % of the steps {inputs['straggler_factor']:g} times as long, rank 0 "
            f"{inputs['slow_rank']:g} times as slow")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dcs3gd-bench scale: {html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Predicted: {html.escape(title)}</h1>
<main>
<p>{inputs['parameters']:,} parameters, {inputs['batch']} images a rank. A step computes for
{min(samples):.1f} … {max(samples):.1f} ms, median {statistics.median(samples):.1f} ms ({len(samples)} samples, drawn anew
for every rank and step); {late}. A message takes {inputs['latency_us']:.3g} µs beside its bytes
({html.escape(inputs['latency_source'])}) and {inputs['message_us']:.3g} µs of the processor; sums
{inputs['sum_gb_s']:.3g} GB/s.</p>
<h2>Up to how many ranks communication is hidden</h2>
<p>The most ranks with at least {100 * HIDDEN:.0f} % of perfect scaling.</p>
{hidden_table(predictions)}
<h2>Curves</h2>
<div class="plots">
{figures}
</div>
<h2>Numbers</h2>
<p>Up to {predictions.replayed} ranks every message is followed; beyond, an all-reduce begins when its last rank has come
and takes what one rank's lists say, on a link that all of a step share.</p>
{numbers_table(predictions)}
</main>
</body>
</html>
"""


def main():
    parser = argparse.ArgumentParser(description="Makes one HTML page of what dcs3gd-bench scale predicts.")
    parser.add_argument("file", help="what dcs3gd-bench scale --json printed")
    parser.add_argument("-o", "--output", metavar="FILE", default="scale.html", help="the page (scale.html)")
    arguments = parser.parse_args()
    try:
        predictions = Predictions(Path(arguments.file).read_text(encoding="utf-8"))
        with output_file(arguments.output) as file:
            file.write_text(page(predictions), encoding="utf-8")
    except (ValueError, KeyError) as error:
        print(f"{PROGRAM}: error: {arguments.file}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{PROGRAM}: error: {error.filename or arguments.output}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{PROGRAM}: {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

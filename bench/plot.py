"""Latency histograms from the samples of tables.py: plot.py SAMPLES.json PICTURE.svg (or .png)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def main() -> None:
    samples = json.loads(Path(sys.argv[1]).read_text())
    matplotlib.rcParams["svg.hashsalt"] = "nadofast"
    figure, axes = pyplot.subplots(len(samples), 1, figsize=(8, 2.6 * len(samples)), sharex=True)
    edges = [10 ** (exponent / 30) for exponent in range(15, 90)]  # 3 µs to 1 ms
    for axis, (rate, by_label) in zip(axes, samples.items(), strict=True):
        for label, delays in by_label.items():
            micros = [delay / 1000 for delay in delays]
            axis.hist(micros, bins=edges, histtype="step", label=label, density=False)
        axis.set_xscale("log")
        axis.set_title(f"{int(rate):,} messages/s", fontsize=9)
        axis.set_ylabel("messages")
    axes[0].legend(fontsize=7)
    axes[-1].set_xlabel("µs from send to callback")
    figure.tight_layout()
    figure.savefig(sys.argv[2], metadata={"Date": None} if sys.argv[2].endswith(".svg") else None)


if __name__ == "__main__":
    main()

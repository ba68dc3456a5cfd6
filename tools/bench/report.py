"""The results of the bench: a table for each suite, and two charts."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from streamlab.files import KiB, MiB, size_text

STANDARD = "nginx"

ABOUT = {
    "files": "nginx has one worker and sendfile on. Load-all is the bug of chapter 01. With many "
    "clients, the clients need most of the two CPUs. A server that keeps up with them is as fast "
    "as nginx, and the difference is in the server's own CPU time. A server that sends a large "
    "file in one piece to a client that keeps up does not answer others meanwhile: the rows with "
    "*beside* show it.",
    "frameworks": "The same clients and files as above, and apps of FastAPI and Starlette in one "
    "process of uvicorn.",
    "proxies": "Each passes on what an nginx beside it serves. nginx as a proxy has one worker and "
    "`proxy_max_temp_file_size 0`: otherwise it reads ahead of slow clients, onto the disk. "
    "Slow clients and the crowd that downloads to the end ask for a file of 65 MB.",
}

PUBLISHED = {"buffered": 3.9, "streamed": 2.6}
"""What a public gateway reported at 1000 concurrent downloads of 65 MB, before and after it
streamed, in GiB: the peak of the whole process."""

Found = dict[str, Any]


def read(folder: Path) -> dict[str, Found]:
    """The earlier results, by suite; empty if there are none."""
    file = folder / "bench.json"
    return json.loads(file.read_text()) if file.exists() else {}


def write(found: dict[str, Found], folder: Path) -> None:
    """Write readings, tables and charts into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "bench.md").write_text(as_markdown(found))
    if "files" in found:
        draw_files(found["files"], folder / "bench.png")
    if "proxies" in found:
        draw_proxies(found["proxies"], folder / "bench-proxies.png")


def median(suite: Found, workload: str, server: str) -> float | None:
    """The median of a server's readings; None if there are none."""
    values = suite["readings"].get(workload, {}).get(server)
    return statistics.median(values) if values else None


# The tables


def as_markdown(found: dict[str, Found]) -> str:
    """All results, as Markdown."""
    lines = [
        "# The solutions beside what one would pick instead",
        "",
        "Made by `make bench`. The first column of each table is nginx; the others are ratios to "
        "it. Every server is one process; clients run beside it on the same machine, over "
        "loopback, with the files in the page cache. Memory is private memory, above that of the "
        "idle server; each client's share of it.",
        "",
    ]
    for name, suite in found.items():
        machine = ", ".join(f"{what} {value}" for what, value in suite["machine"].items())
        lines += [f"## {suite['title']}", "", ABOUT[name], "", *_tables(suite)]
        if name == "files":
            lines += ["![The same as a chart](bench.png)", ""]
        if name == "proxies":
            lines += ["![Growth against the number of clients](bench-proxies.png)", ""]
            lines += _beside_the_published(suite)
        lines += [*_dashes(suite)]
        if any("| 0.00 |" in line for line in _tables(suite)):
            lines += ["0.00: hardly a byte had come when the time of the load was over.", ""]
        how = f"medians of {suite['repeats']} rounds, loads of {suite['seconds']:g} s"
        lines += [f"*{suite['date']}, {how}, on {machine}.*", ""]
    return "\n".join(lines)


def _tables(suite: Found) -> list[str]:
    servers = suite["servers"]
    others = [name for name in servers if name != STANDARD]
    lines = []
    for better, heading in (
        (True, "Speed, where more is better:"),
        (False, "Waiting and memory, where less is better:"),
    ):
        lines += [heading, ""]
        titles = " | ".join(servers[name] for name in others)
        lines += [f"| | {servers[STANDARD]} | {titles} |", "|---|--:|" + "--:|" * len(others)]
        lines += [
            _row(suite, workload, others)
            for workload in suite["workloads"]
            if workload["more_is_better"] is better
        ]
        lines += [""]
    return lines


def _row(suite: Found, workload: dict[str, Any], others: list[str]) -> str:
    standard = median(suite, workload["name"], STANDARD)
    once = " (once)" if workload["once"] else ""
    cells = [workload["title"] + once]
    cells += [f"{_short(standard)} {workload['unit']}" if standard else "–"]
    for name in others:
        value = median(suite, workload["name"], name)
        cells.append(f"{value / standard:.2f}" if value is not None and standard else "–")
    return "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _dashes(suite: Found) -> list[str]:
    """Why some servers were not run."""
    lines = []
    for name, rooms in suite["missing"].items():
        least, most = (size_text(end(rooms.values())) for end in (min, max))
        holds = least if least == most else f"{least} to {most}"
        lines += [f"A dash: not run, for {suite['servers'][name]} would hold {holds}.", ""]
    return lines


def _beside_the_published(suite: Found) -> list[str]:
    """Growth at 1000 downloads, and what LiteLLM reported."""
    lines = []
    for name, title in suite["servers"].items():
        value = median(suite, "whole-1000", name)
        if value is not None:
            lines.append(f"- {title}: {size_text(value * MiB)}")
    share = buffered_share(suite)
    if share is not None:
        at_thousand = size_text(1000 * share)
        lines.append(
            f"- buffered: {at_thousand}, computed: a thousand times a client's share above"
        )
    if not lines:
        return []
    return [
        "Growth at 1000 concurrent downloads of 65 MB, to the last byte. LiteLLM reported "
        "([pull request 25450](https://github.com/BerriAI/litellm/pull/25450)) "
        f"{PUBLISHED['buffered']} GiB buffered and {PUBLISHED['streamed']} GiB streamed, in chunks "
        "of 1 MiB.",
        "",
        *lines,
        "",
    ]


def buffered_share(suite: Found) -> float | None:
    """What each client costs the buffered proxy, in bytes, at the largest crowd measured."""
    shares = [
        (workload["clients"], value)
        for workload in suite["workloads"]
        if workload["kind"] == "slow"
        and (value := median(suite, workload["name"], "buffered")) is not None
    ]
    return max(shares)[1] * KiB if shares else None


# The charts


def draw_files(suite: Found, target: Path) -> None:
    """One panel for each group of workloads, ratios to nginx on a logarithmic scale."""
    groups = [
        ("large files: throughput", "pour-", "more is better"),
        ("small files: requests per second", "rate-", "more is better"),
        ("first byte at 50 clients", "first-", "less is better"),
        ("memory for each slow client", "slow-", "less is better"),
    ]
    servers = [name for name in suite["servers"] if name != STANDARD]
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), sharey=True, layout="constrained")
    for axis, (title, prefix, better) in zip(axes.flat, groups, strict=True):
        named = [each for each in suite["workloads"] if each["name"].startswith(prefix)]
        shades = plt.get_cmap("viridis")
        for number, workload in enumerate(named):
            standard = median(suite, workload["name"], STANDARD)
            points = [
                (median(suite, workload["name"], name), row) for row, name in enumerate(servers)
            ]
            points = [(value / standard, row) for value, row in points if value and standard]
            axis.plot(
                [value for value, _ in points],
                [row for _, row in points],
                "o",
                alpha=0.85,
                color=shades(0.1 + 0.75 * number / max(1, len(named) - 1)),
                label=workload["title"].rpartition(", ")[2]
                if prefix == "first-"
                else workload["title"],
            )
        axis.axvline(1, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(f"{title} ({better})", fontsize=10)
        axis.set_yticks(range(len(servers)), [suite["servers"][name] for name in servers])
        axis.invert_yaxis() if axis is axes.flat[0] else None
        axis.grid(axis="x", alpha=0.3)
        axis.tick_params(axis="x", labelsize=8)
        axis.set_xlabel("ratio to nginx", fontsize=9)
        axis.legend(
            fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.14), frameon=False
        )
    figure.savefig(target, dpi=110, metadata={"Software": None})
    plt.close(figure)


def draw_proxies(suite: Found, target: Path) -> None:
    """Growth against the number of slow clients, logarithmic; what is computed is dashed."""
    figure, axis = plt.subplots(figsize=(9, 5.5), layout="constrained")
    crowds = {
        each["name"]: each["clients"] for each in suite["workloads"] if each["kind"] == "slow"
    }
    for number, (name, title) in enumerate(suite["servers"].items()):
        points = [
            (clients, clients * value * KiB)
            for workload, clients in crowds.items()
            if (value := median(suite, workload, name)) is not None
        ]
        if not points:
            continue
        colour = f"C{number}"
        axis.plot(*zip(*points, strict=True), "o-", color=colour, label=title)
        if name == "buffered" and points[-1][0] < 1000:
            clients, held = points[-1]
            line = [(clients, held), (1000, held * 1000 / clients)]
            axis.plot(
                *zip(*line, strict=True), "--", color=colour, label=f"{title}: computed, not run"
            )
    for (what, gib), marker in zip(PUBLISHED.items(), ("v", "^"), strict=True):
        label = f"published by a public gateway, {what}"
        axis.plot([1000], [gib * 1024 * MiB], marker, color="black", label=label)
    axis.set_xscale("log")
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size_text(value)))
    axis.set_xticks(list(crowds.values()), [str(clients) for clients in crowds.values()])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("clients, each with a download of 65 MB under way")
    axis.set_ylabel("growth of the proxy")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    figure.savefig(target, dpi=110, metadata={"Software": None})
    plt.close(figure)

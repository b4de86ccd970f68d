# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures, files and judgement: what becomes of the rounds' results.

A result is the dict that rounds.Machine.measure() returns, with its round and
its key. All files can be made again from results.json (`--judge`).
"""
import csv
import json
import math
import os
import platform
import time
from html import escape

from platforms import can_lock_memory
from rounds import PHASES

COLORS = {
    "stop": "#8c564b", "save": "#d62728", "switch": "#ff7f0e",
    "kernel": "#7f7f7f", "restore": "#1f77b4", "application": "#2ca02c",
}
MEANING = {
    "stop": "last answer → application stopped",
    "save": "→ next kernel started",
    "switch": "→ next kernel's clock",
    "kernel": "→ its first program",
    "restore": "→ state readable",
    "application": "→ first answer",
}
COLUMNS = ["round", "key", "way", "size", "files", "changed", "blackout_ms", "whole_ms",
           "own_ms", "memcpy_ms", "others_percent", "busy"]


# --- figures ------------------------------------------------------------------------


def percentile(values, percent):
    """The nearest rank: a value that was measured. The median of an even
    number is the mean of the two in the middle."""
    ordered = sorted(values)
    if percent == 50 and len(ordered) % 2 == 0:
        middle = len(ordered) // 2
        return (ordered[middle - 1] + ordered[middle]) / 2
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def median(values):
    present = [v for v in values if v is not None]
    return percentile(present, 50) if present else None


def summarize(results):
    """{key: figures}, in the order in which the keys came."""
    summary = {}
    for key in dict.fromkeys(r["key"] for r in results):
        rows = [r for r in results if r["key"] == key]
        times = [r["blackout_ms"] for r in rows]
        phases = {p: median([r["phases_ms"].get(p) for r in rows]) for p in PHASES}
        summary[key] = {
            "way": rows[0]["way"], "size": rows[0]["size"], "files": rows[0]["files"],
            "changed": rows[0]["changed"], "rounds": len(rows),
            "p50_ms": percentile(times, 50), "p95_ms": percentile(times, 95),
            "least_ms": min(times), "most_ms": max(times),
            "whole_p50_ms": median([r["whole_ms"] for r in rows]),
            "own_p50_ms": median([r["own_ms"] for r in rows]),
            "client_p50_ms": median([r["blackout_ms"] - r["phases_ms"].get("application", 0)
                                     for r in rows]),
            "memcpy_p50_ms": median([r["memcpy_ms"] for r in rows]),
            "phases_p50_ms": {p: v for p, v in phases.items() if v is not None},
            "busy_rounds": sum(r["busy"] for r in rows),
        }
    return summary


def find(summary, way, **wanted):
    for figures in summary.values():
        if figures["way"] == way and all(figures[k] == v for k, v in wanted.items()):
            return figures
    return None


def most_telling(size, files):
    """Of several states the budgets are for the largest, in 1,000 files where it is in as many."""
    return size, files == 1000


def main_state(summary):
    """(fastboot's figures for that without a change, or None)"""
    plain = [f for f in summary.values() if f["way"] == "fastboot" and not f["changed"]]
    return max(plain, key=lambda f: most_telling(f["size"], f["files"]), default=None)


# --- budgets ------------------------------------------------------------------------


def read_budgets(path):
    """[(name, kind, limit, meaning)]; ValueError names the line."""
    budgets = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            words = line.split(None, 3)
            if not words or line.startswith("#"):
                continue
            try:
                name, kind, limit, meaning = words
                budgets.append((name, kind, float(limit), meaning.strip()))
            except ValueError:
                kind = ""
            if kind not in ("max", "min", "goal"):
                raise ValueError(f"{path}:{number}: wanted NAME max|min|goal LIMIT MEANING")
    return budgets


def ratio(a, b):
    return a / b if a is not None and b else None


def measured(summary, baseline):
    """{budget: value, or None where the run did not measure it}"""
    main = main_state(summary)
    kexec = find(summary, "kexec")
    if not main:
        return {}
    same = {"size": main["size"], "files": main["files"]}
    hand = find(summary, "hand", **same)
    changed = next((f for f in summary.values() if f["way"] == "fastboot" and f["changed"]
                    and f["size"] == main["size"] and f["files"] == main["files"]), None)
    small = min((f for f in summary.values() if f["way"] == "fastboot" and not f["changed"]
                 and f["files"] == main["files"] and f["size"] < main["size"]),
                key=lambda f: f["size"], default=None)
    own, client = main["own_p50_ms"], main["client_p50_ms"]
    return {
        "reboot/kexec": ratio(main["p50_ms"], kexec and kexec["p50_ms"]),
        "hand/reboot": ratio(hand and hand["p50_ms"], main["p50_ms"]),
        "large/small": ratio(main["p50_ms"], small and small["p50_ms"]),
        "changed/memcpy": changed and ratio(max(0.0, changed["p50_ms"] - main["p50_ms"]),
                                            changed["memcpy_p50_ms"]),
        "own/client": own and max(ratio(own, client), ratio(client, own)),
        "baseline": worst_drift(summary, baseline),
        "reboot": main["p50_ms"] / 1000,
    }


def judge(summary, budgets, baseline):
    """[(name, kind, limit, meaning, value, verdict)]"""
    values, lines = measured(summary, baseline), []
    for name, kind, limit, meaning in budgets:
        value = values.get(name)
        if value is None:
            verdict = "not measured"
        elif value >= limit if kind == "min" else value <= limit:
            verdict = "kept"
        else:
            verdict = "missed" if kind == "goal" else "EXCEEDED"
        lines.append((name, kind, limit, meaning, value, verdict))
    return lines


# --- the baseline: ratios to the same run's plain kexec ---------------------------------


def ratios(summary):
    kexec = find(summary, "kexec")
    if not kexec:
        return {}
    return {key: round(f["p50_ms"] / kexec["p50_ms"], 3)
            for key, f in summary.items() if f["way"] != "kexec"}


def worst_drift(summary, baseline):
    """By how much the worst of fastboot's own ratios exceeds its baseline."""
    now = ratios(summary)
    drifts = [now[key] / was for key, was in baseline.get("ratios", {}).items()
              if key in now and key.startswith("fastboot") and was]
    return max(drifts, default=None)


def read_baseline(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return {}


def save_baseline(path, run, summary):
    document = {
        "licence": "SPDX-License-Identifier: GPL-2.0-or-later",
        "about": "p50 of each way's blackout over that of a plain kexec in the same run; "
                 "written by scripts/bench --save-baseline",
        "kernel": run["kernel"], "emulator": run["emulator"], "rounds": run["rounds"],
        "busy_rounds": sum(f["busy_rounds"] for f in summary.values()),
        "ratios": ratios(summary),
    }
    with open(path, "w", encoding="utf-8") as f:
        json.dump(document, f, indent=1)
        f.write("\n")


# --- files ----------------------------------------------------------------------------------


def write_csv(path, results):
    with open(path, "w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(COLUMNS + [f"{p}_ms" for p in PHASES])
        for r in results:
            row = [r[c] for c in COLUMNS] + [r["phases_ms"].get(p) for p in PHASES]
            writer.writerow([f"{v:.1f}" if isinstance(v, float) else "" if v is None else v
                             for v in row])


def write_json(path, run, results, summary, judged):
    document = {
        "run": run, "summary": summary,
        "budgets": [dict(zip(("name", "kind", "limit", "meaning", "value", "verdict"), line))
                    for line in judged],
        "results": results,
    }
    with open(path, "w", encoding="utf-8") as f:
        json.dump(document, f, indent=1)
        f.write("\n")


def bar(summary, keys, top, scale_ms, width, left):
    """The stacked bars of some keys as lines of SVG."""
    lines, y = [], top
    for key in keys:
        figures = summary[key]
        label = f"{key} — {figures['p50_ms']:.0f} ms"
        lines.append(f'<text x="0" y="{y + 13}">{escape(label)}</text>')
        x = left
        for phase, took in figures["phases_p50_ms"].items():
            w = min(took / scale_ms * width, left + width - x)
            lines.append(f'<rect x="{x:.1f}" y="{y}" width="{max(0.0, w):.1f}" height="18" '
                         f'fill="{COLORS[phase]}"><title>{escape(key)}: {phase} {took:.1f} ms'
                         "</title></rect>")
            x += w
        y += 24
    return lines, y


def write_svg(path, run, summary):
    """Two panels: all on one scale; and without the longest, larger."""
    left, width = 330, 620
    quick = [k for k, f in summary.items() if f["way"] != "hand"]
    lines, y = [], 40
    panels = [("all", list(summary))]
    if len(quick) < len(summary) and quick:
        panels.append(("without the recipe by hand", quick))
    for title, keys in panels:
        scale = max(sum(summary[k]["phases_p50_ms"].values()) for k in keys) or 1
        lines.append(f'<text x="0" y="{y}" font-weight="bold">blackout, medians, {title}: '
                     f"{scale:.0f} ms to the right edge</text>")
        more, y = bar(summary, keys, y + 10, scale, width, left)
        lines += more
        y += 30
    for number, phase in enumerate(PHASES):
        at = y + 20 * (number // 2)
        x = (number % 2) * 420
        lines.append(f'<rect x="{x}" y="{at}" width="14" height="14" fill="{COLORS[phase]}"/>'
                     f'<text x="{x + 20}" y="{at + 12}">{phase}: {escape(MEANING[phase])}</text>')
    y += 20 * ((len(PHASES) + 1) // 2) + 10
    text = escape(f"{run['kernel']}, {run['emulator']}, {run['date']}")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 20}" '
                f'height="{y + 10}" font-family="sans-serif" font-size="12">\n'
                f'<rect width="100%" height="100%" fill="white"/>\n<text x="0" y="16">{text}</text>\n'
                + "\n".join(lines) + "\n</svg>\n")


def table(summary, judged, run):
    """What is printed at the end."""
    lines = [f"{'blackout, ms':44} {'rounds':>6} {'p50':>8} {'p95':>8} {'least':>8}  " +
             " ".join(f"{p:>11}" for p in PHASES)]
    for key, f in summary.items():
        phases = " ".join(f"{f['phases_p50_ms'].get(p, math.nan):11.1f}" for p in PHASES)
        lines.append(f"{key:44} {f['rounds']:6} {f['p50_ms']:8.0f} {f['p95_ms']:8.0f} {f['least_ms']:8.0f}  "
                     + phases.replace("nan", "  -"))
    lines.append("")
    for name, kind, limit, meaning, value, verdict in judged:
        shown = "-" if value is None else f"{value:.3f}"
        lines.append(f"{name:16} {kind:4} {limit:6g} {shown:>9}  {verdict:12}  {meaning}")
    if run["busy_rounds"]:
        lines.append(f"\nThe machine was busy with other work in {run['busy_rounds']} of "
                     f"{run['measured']} measurements: compare nothing with another run.")
    return "\n".join(lines)


def run_facts(settings, machine, results, kernel):
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": kernel, "rounds": settings.rounds,
        "emulator": machine.images.platform.title, "memory_locked": can_lock_memory(),
        "command_line": machine.line,
        "machine": platform.machine(), "processors": os.cpu_count(),
        "method": "from the last answer of the application to the first answer of the next "
                  f"one, seen by a client that asks every {1000 * 0.004:.0f} ms; every answer "
                  "was verified, and all of the state after each reboot that keeps it; ways "
                  "interleaved; p50 the median, p95 the nearest rank",
        "measured": len(results), "guests_lost": machine.lost, "answers": machine.answers,
        "busy_rounds": sum(r["busy"] for r in results),
    }

# SPDX-License-Identifier: BSD-3-Clause
"""Tables, the picture and the files of a run.

How it works: a result is {"about": ..., "peers": {name: {"title", "kind", "figures":
{figure: [value of each round, or None]}}}, "micro": ...}. Tables are Markdown, padded, so
that they read well in a terminal too. The middle of a cell's rounds is the median. Where
two peers are compared it is the median of each round's ratio: rounds are interleaved, so
what is divided comes from the same minutes.
"""
import json
import os
import statistics
from xml.sax.saxutils import escape

OURS = "tcpcrypt-ns"
NOISE_CPU = 0.05  # processors that others may use before it is worth a word


def keep(figures, figure, round_no, value):
    """Puts a value at its round's place; a round that failed has None."""
    values = figures.setdefault(figure, [])
    values += [None] * (round_no - len(values))
    values.append(value)


def rounds(result, peer, figure):
    """Return: the value of each round; None, or nothing at the end, where there is none."""
    return result["peers"].get(peer, {}).get("figures", {}).get(figure, [])


def present(values):
    return [v for v in values if v is not None]


def middle(values):
    """Return: the median of those there are, or None."""
    values = present(values)
    return statistics.median(values) if values else None


def median(result, peer, figure):
    return middle(rounds(result, peer, figure))


def middle_ratio(values, others):
    """Return: the median of the ratios within a round, or None."""
    return middle([v / o for v, o in zip(values, others) if v is not None and o])


def number(x):
    """Three significant digits, and never an exponent."""
    if x is None:
        return ""
    if x == 0:
        return "0"
    size = abs(x)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{x:,.{digits}f}"


def cell(result, peer, figure):
    values = present(rounds(result, peer, figure))
    if not values:
        return ""
    text = number(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({number(min(values))}..{number(max(values))})"


def ratio(result, peer, figure):
    if peer == OURS:
        return ""
    # Nearly nothing, divided, says nothing.
    return number(middle_ratio(rounds(result, OURS, figure), rounds(result, peer, figure)) or None)


def table(head, rows, text_columns=1):
    """The first text_columns are words, the others numbers."""
    rows = [head] + rows
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]

    def line(cells):
        padded = [c.ljust(w) if i < text_columns else c.rjust(w)
                  for i, (c, w) in enumerate(zip(cells, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i < text_columns else ":")
                          for i, w in enumerate(widths)) + "|"
    return "\n".join([line(rows[0]), rule] + [line(r) for r in rows[1:]]) + "\n"


# title, what stands in a cell, {figure: heading}
GROUPS = [
    ("Throughput", "Gbit/s",
     {"gbits_1_up": "1 stream, out", "gbits_1_down": "1 stream, in",
      "gbits_8_up": "8 streams, out", "gbits_8_down": "8 streams, in"}),
    ("Processor", "CPU seconds of the whole system per GB",
     {"cpu_1_up": "1 stream, out", "cpu_1_down": "1 stream, in",
      "cpu_8_up": "8 streams, out", "cpu_8_down": "8 streams, in"}),
    ("Latency", "microseconds from request to response, 64 bytes",
     {"rr_p50_us": "p50", "rr_p99_us": "p99"}),
    ("New connections", "connect, one request, close: per second",
     {"connect_1_per_s": "1 at a time", "connect_16_per_s": "16 at a time",
      "connect_1_resumed_percent": "resumed, 1, %",
      "connect_16_resumed_percent": "resumed, 16, %"}),
    ("Many open connections", "memory (PSS, but for RSS and the peak) of the processes at one end",
     {"idle_cnt": "connections", "idle_mb": "without any, MB", "idle_rss_mb": "RSS, MB",
      "idle_kb_each": "each adds, KB",
      "idle_setup_s": "set up in, s", "idle_cpu_percent": "idle CPU, %",
      "gbits_1_up_among_idle": "1 stream among them, Gbit/s",
      "among_idle_ratio": "of one without them",
      "peak_mb": "peak under full load, MB"}),
    ("A link of 1 Mbit/s", "128 KB are sent at once and echoed; milliseconds",
     {"narrow_first_ms": "first byte is back", "narrow_pause_ms": "longest pause"}),
]
# Where others hold another number of connections, or nearly nothing is divided by.
NOT_COMPARED = {"idle_cnt", "idle_setup_s", "idle_cpu_percent", "narrow_first_ms",
                "narrow_pause_ms", "connect_1_resumed_percent", "connect_16_resumed_percent",
                "among_idle_ratio"}
# Taken side by side with none of us: figure, figure + "_without", figure + "_ratio".
UNTOUCHED = {"udp_gbits": "UDP, Gbit/s", "udp_p50_us": "UDP latency, us",
             "icmp_p50_us": "ICMP latency, us", "loopback_gbits": "loopback, Gbit/s",
             "bypassed_gbits": "bypassed port, Gbit/s"}


def group_tables(result):
    text = ""
    for title, unit, figures in GROUPS:
        peers = [p for p in result["peers"]
                 if any(median(result, p, f) is not None for f in figures)]
        figures = {f: h for f, h in figures.items()
                   if any(median(result, p, f) is not None for p in peers)}
        if not peers:
            continue
        rows = [[p] + [cell(result, p, f) for f in figures] for p in peers]
        text += f"### {title}\n\n{unit}\n\n" + table([""] + list(figures.values()), rows) + "\n"
        compared = {f: h for f, h in figures.items() if f not in NOT_COMPARED and
                    any(ratio(result, p, f) for p in peers)}
        if compared:
            rows = [[p] + [ratio(result, p, f) for f in compared] for p in peers
                    if any(ratio(result, p, f) for f in compared)]
            text += (f"{OURS} divided by\n\n" +
                     table([""] + list(compared.values()), rows) + "\n")
    return text


def untouched_table(result):
    rows = [[heading] + [cell(result, OURS, figure + end) for end in ("_without", "", "_ratio")]
            for figure, heading in UNTOUCHED.items() if rounds(result, OURS, figure + "_ratio")]
    if not rows:
        return ""
    return ("### What is not TCP, or not ours\n\nside by side, in turn; latency from request to "
            "response, p50\n\n" + table(["", "without us", "with us", "ratio"], rows) + "\n")


# --- Targets -----------------------------------------------------------------------------

def best(result, figure, peers, better=max):
    """Return: the best of these peers in each round."""
    columns = [rounds(result, p, figure) for p in peers]
    in_rounds = ([c[i] for c in columns if i < len(c)] for i in range(max(map(len, columns))))
    return [better(present(values), default=None) for values in in_rounds]


def targets(result):
    """Return: (figure, target, ours, bound, ours by the bound, whether it is met) for what
    was measured."""
    rows = []

    def add(text, target, values, bounds, is_least):
        """bounds: of each round, or one for all."""
        bounds = bounds if isinstance(bounds, list) else [bounds] * len(values)
        share = middle_ratio(values, bounds)
        if share is not None:
            rows.append((text, target, middle(values), middle(bounds), share,
                         share >= 1 if is_least else share <= 1))

    def times(factor, values):
        return [None if v is None else factor * v for v in values]

    def at(figure, peer=OURS):
        return rounds(result, peer, figure)

    tls = ("stunnel", "haproxy-tls")
    for key, text in (("1_up", "1 stream out"), ("1_down", "1 stream in"),
                      ("8_up", "8 streams out"), ("8_down", "8 streams in")):
        add(f"Gbit/s, {text}", "2 x the better of stunnel and haproxy TLS", at("gbits_" + key),
            times(2, best(result, "gbits_" + key, tls)), True)
    for key, text in (("1_up", "1 stream out"), ("8_up", "8 streams out")):
        add(f"CPU s per GB, {text}", "half of stunnel's", at("cpu_" + key),
            times(0.5, at("cpu_" + key, "stunnel")), False)
    for key in ("p50", "p99"):
        add(f"latency {key}, us", "below stunnel and plain haproxy", at(f"rr_{key}_us"),
            best(result, f"rr_{key}_us", ("stunnel", "haproxy-plain"), min), False)
    add("latency p50, us", "pasta + 10 us", at("rr_p50_us"),
        [None if v is None else v + 10 for v in at("rr_p50_us", "pasta")], False)
    for n in (1, 16):
        add(f"connections/s fresh, {n} at a time", "above wireguard-go",
            at(f"connect_{n}_per_s", OURS + "-fresh"), at(f"connect_{n}_per_s", "wireguard-go"),
            True)
        add(f"connections/s resumed, {n} at a time", "above haproxy without TLS",
            at(f"connect_{n}_per_s"), at(f"connect_{n}_per_s", "haproxy-plain"), True)
    for n in (1, 16):
        add(f"of them resumed, {n} at a time, %", "99", at(f"connect_{n}_resumed_percent"), 99,
            True)
    add("memory idle, MB", "8", at("idle_mb"), 8, False)
    add("memory per idle connection, KB", "5", at("idle_kb_each"), 5, False)
    add("1 stream among idle connections", "0.95 of one without them", at("among_idle_ratio"),
        0.95, True)
    add("idle CPU with them, %", "0.1", at("idle_cpu_percent"), 0.1, False)
    add("their set-up, s", "3", at("idle_setup_s"), 3, False)
    for key, text in (("1_up", "1 stream out"), ("1_down", "1 stream in"),
                      ("8_up", "8 streams out"), ("8_down", "8 streams in")):
        add(f"clear, Gbit/s, {text}", "0.8 x pasta", at("gbits_" + key, OURS + "-clear"),
            times(0.8, at("gbits_" + key, "pasta")), True)
    for figure, heading in UNTOUCHED.items():
        is_least = figure.endswith("_gbits")
        factor = 0.95 if is_least else 1.05
        add(heading.split(",")[0] + ", with us by without", f"{factor}", at(figure + "_ratio"),
            factor, is_least)
    return rows


def target_table(result):
    rows = [[text, target, number(bound), number(value), number(share), "yes" if is_met else "no"]
            for text, target, value, bound, share, is_met in targets(result)]
    if not rows:
        return ""
    return ("### Targets\n\n" +
            table(["", "target", "that is", "measured", "by the target", "met"], rows, 2) + "\n")


def micro_table(result):
    rows = [[m["name"], number(m["ns"]), number(m.get("gb_per_s"))] for m in result["micro"]]
    if not rows:
        return ""
    return ("### Parts, alone\n\nnanoseconds per operation, median\n\n" +
            table(["", "ns", "GB/s"], rows) + "\n")


def about_text(result):
    a = result["about"]
    others = max(a["others_cpu"], default=0)
    build = "" if a["commit"] is None else f"Commit {a['commit']}, "
    return (f"{build}{a['date']}, Linux {a['kernel']}, {a['cpu_cnt']} x {a['cpu']}; "
            f"{a['rounds']} round{'s' if a['rounds'] > 1 else ''} of {a['seconds']} s, "
            f"interleaved; congestion control {a['congestion_control']}. "
            "A cell is the median, with the least and the most in brackets; where two peers are "
            "compared, with a target or by division, it is the median of each round's ratio, "
            "because what a round measures comes from the same minutes. "
            "\"Out\" is from the client to the server."
            + (f" Other programs used up to {others:.2f} processors: noisy."
               if others > NOISE_CPU else "") + "\n\n")


def legend(result):
    rows = [[name, p["title"], p.get("version") or ""] for name, p in result["peers"].items()]
    if not rows:
        return ""
    return table(["", "what it is", "version"], rows, 3) + "\n"


def text(result):
    return (about_text(result) + legend(result) + target_table(result) + group_tables(result) +
            untouched_table(result) + micro_table(result))


# --- Picture --------------------------------------------------------------------------------

COLOURS = {"ours": "#0b6e4f", "ours-clear": "#7fb5a2", "encrypted": "#c8553d",
           "clear": "#8d99ae", "none": "#c9ced6"}
COLOUR_WORDS = [("ours", "tcpcrypt-ns"), ("ours-clear", "tcpcrypt-ns, not encrypted"),
                ("encrypted", "other encryption"),
                ("clear", "no encryption"), ("none", "kernel, nothing between")]
PANELS = [
    ("gbits_1_up", "Throughput, 1 stream", "Gbit/s, more is better"),
    ("gbits_8_up", "Throughput, 8 streams", "Gbit/s, more is better"),
    ("cpu_8_up", "Processor, 8 streams", "CPU seconds of the whole system per GB, less is better"),
    ("rr_p50_us", "Latency, 64 bytes, p50", "microseconds, less is better"),
    ("connect_16_per_s", "New connections, 16 at a time", "per second, more is better"),
    ("idle_kb_each", "Memory of an idle connection at one end", "KB, less is better"),
]
OUTLIER = 2.5  # times the next lower value: the bar is cut
PANEL_W, ROW_H, LABEL_W, VALUE_W, GAP = 520, 22, 150, 70, 28


def bar_top(values):
    """Return: the value of a full bar. One that dwarfs all others is cut off."""
    values = sorted(values)
    if len(values) > 2 and values[-1] > OUTLIER * values[-2]:
        return OUTLIER * values[-2]
    return values[-1] or 1


def panel(result, figure, title, unit, x, y):
    """Return: SVG of one panel and its height."""
    rows = [(name, p, present(p["figures"][figure])) for name, p in result["peers"].items()
            if p["figures"].get(figure)]
    top = bar_top([statistics.median(v) for _, _, v in rows])
    bar_w = PANEL_W - LABEL_W - VALUE_W
    out = [f'<text x="{x}" y="{y + 16}" class="t">{escape(title)}</text>',
           f'<text x="{x}" y="{y + 33}" class="u">{escape(unit)}</text>']
    y += 44
    for name, p, values in rows:
        value = statistics.median(values)
        w = max(1.0, min(bar_w, bar_w * value / top))
        is_ours = p["kind"].startswith("ours")
        out.append(f'<text x="{x + LABEL_W - 8}" y="{y + 15}" class="{"o" if is_ours else "l"}" '
                   f'text-anchor="end">{escape(name)}</text>')
        out.append(f'<rect x="{x + LABEL_W}" y="{y + 3}" width="{w:.1f}" height="{ROW_H - 6}" '
                   f'fill="{COLOURS[p["kind"]]}"/>')
        if value > top:
            cut = x + LABEL_W + w - 24
            out.append(f'<path d="M{cut:.1f} {y + 1}l8 {ROW_H - 2}h8l-8 -{ROW_H - 2}z" '
                       'fill="#ffffff"/>')
        end = w
        if len(values) > 1 and value <= top:
            left, right = (min(bar_w * v / top, bar_w + 20) for v in (min(values), max(values)))
            middle_y = y + ROW_H / 2
            out.append(f'<path d="M{x + LABEL_W + left:.1f} {middle_y}H'
                       f'{x + LABEL_W + right:.1f}" class="w"/>')
            end = max(end, right)
        out.append(f'<text x="{x + LABEL_W + end + 6:.1f}" y="{y + 15}" '
                   f'class="{"o" if is_ours else "l"}">{number(value)}</text>')
        y += ROW_H
    return "\n".join(out), 44 + ROW_H * len(rows)


def svg(result):
    panels = [p for p in PANELS
              if any(r["figures"].get(p[0]) for r in result["peers"].values())]
    y, body, width = 76, [], GAP * 3 + PANEL_W * 2
    for i in range(0, len(panels), 2):
        tallest = 0
        for column, (figure, title, unit) in enumerate(panels[i:i + 2]):
            part, height = panel(result, figure, title, unit, GAP + column * (PANEL_W + GAP), y)
            body.append(part)
            tallest = max(tallest, height)
        y += tallest + GAP
    a = result["about"]
    feet = [f"Two namespaces, a veth, Linux {a['kernel']}, {a['cpu_cnt']} x {a['cpu']}, "
            f"{a['congestion_control']}, commit {a['commit'] or 'unknown'}, {a['date']}.",
            "Bars are medians, lines go from the least to the most; a bar with a gap is cut off."]
    foot = "\n".join(f'<text x="{GAP}" y="{y + 17 * i}" class="f">{escape(words)}</text>'
                     for i, words in enumerate(feet))
    height = y + 17 * len(feet) + 6
    key, x = [], GAP
    for kind, words in COLOUR_WORDS:
        key.append(f'<rect x="{x}" y="46" width="12" height="12" fill="{COLOURS[kind]}"/>'
                   f'<text x="{x + 18}" y="57" class="l">{escape(words)}</text>')
        x += 18 + 7 * len(words) + 24
    return f'''<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif">
<style>.h{{font-size:20px;font-weight:bold;fill:#1d2433}}.t{{font-size:15px;font-weight:bold;\
fill:#1d2433}}.u,.f{{font-size:12px;fill:#5b6475}}.l{{font-size:13px;fill:#1d2433}}\
.o{{font-size:13px;font-weight:bold;fill:#0b6e4f}}.w{{stroke:#1d2433;stroke-width:1.5;fill:none}}\
</style>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{GAP}" y="32" class="h">tcpcrypt-ns and what else there is</text>
{"".join(key)}
{chr(10).join(body)}
{foot}
</svg>
'''


# --- Files -----------------------------------------------------------------------------------

def write(path, words):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as f:
        f.write(words)
    os.replace(path + ".new", path)


def save(result, folder, name, words, picture=None):
    write(os.path.join(folder, name + ".json"), json.dumps(result, indent=1) + "\n")
    write(os.path.join(folder, name + ".md"), words)
    if picture:
        write(os.path.join(folder, name + ".svg"), picture)


def replace_part(top, part, words):
    """Puts words between the marks of that part of docs/PERFORMANCE.md."""
    page = os.path.join(top, "docs", "PERFORMANCE.md")
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    with open(page) as f:
        old = f.read()
    before, found_begin, rest = old.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f'{page} has no "{begin}" ... "{end}"')
    write(page, f"{before}{begin}\n{words}{end}{after}")


def publish(result, top):
    picture = "![tcpcrypt-ns and what else there is](performance.svg)\n\n"
    replace_part(top, "bench", picture + text(result))
    write(os.path.join(top, "docs", "performance.json"), json.dumps(result, indent=1) + "\n")
    write(os.path.join(top, "docs", "performance.svg"), svg(result))

"""docs/picture.svg from a real run: `tillwatch demo --dir DIR`, then `python docs/make_picture.py DIR`."""

import json
import sqlite3
import sys
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 400, 60, 20, 96, 330
ROWS = {"pay": "payment", "category": "category page"}


def main(folder: Path) -> None:
    database = sqlite3.connect(f"file:{folder}/state/tillwatch.sqlite3?mode=ro", uri=True)
    updates = [json.loads(f) for (f,) in database.execute("SELECT facts FROM shop_update ORDER BY started")]
    good, bad = updates[-2], updates[-1]
    begin, end = good["started"] - 12, bad["recovered"] + 6
    runs = database.execute("""SELECT probe, started / 1000.0, seconds / 1e6, code & 3 FROM sample JOIN series ON series.id = sample.series
        WHERE started / 1000.0 BETWEEN ? AND ?""", (begin, end)).fetchall()

    def x(at: float) -> float:
        return LEFT + (at - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)

    def y(seconds: float) -> float:
        return BOTTOM - min(seconds, 0.08) / 0.08 * (BOTTOM - TOP)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#10151c"/>',
           f'<text x="{LEFT}" y="30" fill="#e6edf3" font-size="17" font-weight="600">A shop, two updates</text>',
           f'<text x="{LEFT}" y="50" fill="#9aa7b4">every dot is one run of a probe: when, and how long it took. '
           'Dots at the bottom, red: the run failed. Drawn from a real <tspan font-family="monospace">make demo</tspan></text>']
    for seconds in (0.02, 0.04, 0.06, 0.08):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(seconds):.0f}" y2="{y(seconds):.0f}" stroke="#222b36"/>'
                   f'<text x="{LEFT - 8}" y="{y(seconds) + 4:.0f}" fill="#9aa7b4" text-anchor="end">{seconds * 1000:.0f} ms</text>')
    out.append(f'<rect x="{x(bad["started"]):.1f}" y="{TOP - 14}" width="{x(bad["rolled_back"]) - x(bad["started"]):.1f}" '
               f'height="{BOTTOM - TOP + 30}" fill="#f8514922"/>')
    for probe, at, seconds, outcome in runs:
        if probe not in ROWS:
            continue
        failed = outcome == 1
        colour = "#f85149" if failed else "#58a6ff" if probe == "pay" else "#d29922"
        out.append(f'<circle cx="{x(at):.1f}" cy="{BOTTOM + 8 if failed else y(seconds):.1f}" r="{4 if failed else 2.6}" fill="{colour}"/>')
    marks = [(good["started"], "update 1.1"), (good["verdict_at"], "PASS"), (bad["started"], "update 2.0"),
             (bad["verdict_at"], "REGRESSION, page"), (bad["rolled_back"], "rollback"), (bad["recovered"], "back to normal")]
    for number, (at, text) in enumerate(marks):
        colour = {"PASS": "#3fb950", "REGRESSION, page": "#f85149", "back to normal": "#3fb950"}.get(text, "#9aa7b4")
        height = TOP - 20 + 15 * (number % 2)
        side = "end" if number == len(marks) - 1 else "start"
        out.append(f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{height + 4}" y2="{BOTTOM + 16}" stroke="{colour}" stroke-dasharray="3 3"/>'
                   f'<text x="{x(at) + (4 if side == "start" else -4):.1f}" y="{height}" fill="{colour}" text-anchor="{side}" '
                   f'font-weight="600">{text}</text>')
    for number, (probe, name) in enumerate(ROWS.items()):
        colour = "#58a6ff" if probe == "pay" else "#d29922"
        out.append(f'<circle cx="{WIDTH - 230 + number * 90}" cy="30" r="4" fill="{colour}"/>'
                   f'<text x="{WIDTH - 222 + number * 90}" y="34" fill="#9aa7b4">{name}</text>')
    out.append(f'<text x="{LEFT}" y="{HEIGHT - 22}" fill="#e6edf3" font-size="15">{escape(bad["ruling"]["sentence"].split(";")[0])}</text></svg>')
    Path(__file__).with_name("picture.svg").write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

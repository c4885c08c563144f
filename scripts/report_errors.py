"""What a model takes for what, and its surest mistakes as pictures: for report.py.

Of a run that has predictions.csv, which dcs3gd-train --eval RUN --predictions RUN/predictions.csv writes.
"""

import base64
import csv
import html
import io
from pathlib import Path

from PIL import Image

FILE = "predictions.csv"
MOST_CLASSES = 30  # beyond, a matrix is no picture any more
MOST_PICTURES = 12
PICTURE_PIXELS = 150
MOST_FILE_BYTES = 1 << 26

STYLE = """
.matrix td { text-align: center; min-width: 2em; padding: 3px 5px; border: 1px solid #fff; }
.matrix th { padding: 3px 7px; } .matrix tr:first-child th:not(:first-child) { max-width: 7em; overflow: hidden; text-overflow: ellipsis; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.mistakes img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #f2f2f2; }
.mistakes figcaption { overflow-wrap: anywhere; }
"""


def read_predictions(folder):
    """The lines of its predictions as dictionaries; none if there are none that can be read."""
    try:
        with open(Path(folder) / FILE, newline="", encoding="utf-8", errors="replace") as file:
            rows = [row for row in csv.DictReader(file)
                    if all((row.get(column) or "").isdecimal() for column in ("label", "class1"))]
            return [row for row in rows if _is_number(row.get("probability1"))]
    except (OSError, csv.Error):
        return []


def errors_of(folder):
    """A section of HTML, empty for a run without predictions."""
    rows = read_predictions(folder)
    if not rows:
        return ""
    wrong = sorted((row for row in rows if row["label"] != row["class1"]), key=lambda row: -float(row["probability1"]))
    pictures = "\n".join(_mistake(row) for row in wrong[:MOST_PICTURES])
    shown = min(len(wrong), MOST_PICTURES)
    return (f"<p>{len(rows) - len(wrong)} of {len(rows)} images are recognised, "
            f"{100 * (1 - len(wrong) / len(rows)):.2f} %.</p>{_matrix(rows)}"
            + (f"<p>The {shown} surest of {len(wrong)} mistakes:</p>\n<div class=\"mistakes\">{pictures}</div>"
               if wrong else ""))


def _matrix(rows):
    names = {}
    for row in rows:
        names[int(row["label"])] = row.get("label_name") or row["label"]
        names.setdefault(int(row["class1"]), row.get("name1") or row["class1"])
    labels = sorted(names)
    if len(labels) > MOST_CLASSES:
        return f"<p>{len(labels)} classes: too many for a table of what is taken for what.</p>"
    counts = {}
    for row in rows:
        pair = int(row["label"]), int(row["class1"])
        counts[pair] = counts.get(pair, 0) + 1
    head = "".join(f"<th>{html.escape(names[label])}</th>" for label in labels)
    lines = [f"<tr><th>is, below; taken for</th>{head}<th>right</th></tr>"]
    for label in labels:
        images = sum(counts.get((label, other), 0) for other in labels)
        cells = "".join(_count(counts.get((label, other), 0), images, label == other) for other in labels)
        share = f"{100 * counts.get((label, label), 0) / images:.0f} %" if images else "–"
        lines.append(f"<tr><th>{html.escape(names[label])}</th>{cells}<td>{share}</td></tr>")
    return '<div class="scroll"><table class="matrix">' + "\n".join(lines) + "</table></div>"


def _count(count, images, is_right):
    share = count / images if images else 0
    colour = f"rgba({'0, 158, 115' if is_right else '213, 94, 0'}, {0.75 * share:.2f})"
    return f'<td style="background: {colour}">{count or ""}</td>'


def _mistake(row):
    picture = _thumbnail(row.get("file", ""))
    image = f'<img alt="" src="{picture}">' if picture else ""
    words = (f"{row.get('label_name') or row['label']}, taken for {row.get('name1') or row['class1']} "
             f"({100 * float(row['probability1']):.0f} %)")
    name = Path(row.get("file") or f"image {row.get('index')}").name
    return f"<figure>{image}<figcaption>{html.escape(words)}<br>{html.escape(name)}</figcaption></figure>"


def _thumbnail(path):
    """A small JPEG as a data URI; empty where the photo cannot be reached or read."""
    try:
        if not path or not Path(path).is_file() or Path(path).stat().st_size > MOST_FILE_BYTES:
            return ""
        with Image.open(path) as image:
            image.draft("RGB", (2 * PICTURE_PIXELS, 2 * PICTURE_PIXELS))
            small = image.convert("RGB")
            small.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
            data = io.BytesIO()
            small.save(data, "JPEG", quality=80)
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _is_number(text):
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True

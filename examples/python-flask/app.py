"""Contrast: can text of one colour be read on another? The WCAG's contrast ratio, as a page and as JSON."""

import re

from flask import Flask, abort, jsonify, render_template, request

NAME = "python-flask"
VERSION = "1"

app = Flask(__name__)


@app.get("/")
def index():
    text = request.args.get("text", "#1b3a4b")
    back = request.args.get("back", "#f4f1de")
    ratio = contrast(text, back)
    return render_template("index.html", name=NAME, version=VERSION, text=text, back=back, ratio=ratio)


@app.get("/api/contrast")
def api_contrast():
    ratio = contrast(request.args.get("text", ""), request.args.get("back", ""))
    return jsonify(ratio=ratio, readable=ratio >= 4.5)


@app.get("/health")
def health():
    return "ok\n", {"Content-Type": "text/plain"}


def contrast(text, back):
    """The ratio of two `#rrggbb` colours, from 1 (the same) to 21 (black on white)."""
    low, high = sorted((luminance(text), luminance(back)))
    return round((high + 0.05) / (low + 0.05), 2)


def luminance(colour):
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        abort(400, f"{colour!r} is not a colour like #1b3a4b")
    red, green, blue = (linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def linear(channel):
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

"""One HTML file with every picture and the numbers beside it."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

_STYLE = (
    "body{font-family:sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse;font-size:.85em}"
    "td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:right}div{overflow-x:auto}"
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, what to know, a picture, and the table of its numbers."""

    title: str
    text: str = ""
    picture: Path | None = None
    table: pd.DataFrame | None = None


def write_report(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write `sections` as one HTML file that needs no other file; text is escaped."""
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        *(_section(section) for section in sections),
        "</body></html>",
    ]
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.picture is not None:
        data = base64.b64encode(section.picture.read_bytes()).decode()
        parts.append(f"<img alt='{html.escape(section.title)}' src='data:image/png;base64,{data}'>")
    if section.table is not None:
        text = section.table.to_html(index=False, float_format=lambda x: f"{x:.4g}", na_rep="", border=0)
        parts.append(f"<div>{text}</div>")
    return "\n".join(parts)

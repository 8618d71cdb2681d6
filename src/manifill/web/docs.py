"""The page /docs, written from the OpenAPI description: no script, and no request to any other host."""

from __future__ import annotations

from html import escape
from typing import Any

STYLE = """:root { color-scheme: light dark; --line: #d9d5cd; --quiet: #625e56; --colour: #0f6b63; --well: #e9e6e0; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto 3rem; padding: 0 1rem;
  background: #f6f5f2; color: #201f1c; }
a { color: var(--colour); } nav { display: flex; gap: 1.5rem; padding: 0.8rem 0; border-bottom: 1px solid var(--line); }
nav a:first-child { font-weight: 700; text-decoration: none; }
h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; font-size: 1.1rem; }
h2 code { font-size: 1.1rem; overflow-wrap: anywhere; } h3 { font-size: 1rem; margin-bottom: 0.3rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--well); padding: 0.8rem; border-radius: 8px;
  margin-top: 0; }
div { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 0.8rem 0.2rem 0; } td:last-child { min-width: 12rem; }
@media (prefers-color-scheme: dark) { :root { --line: #34332f; --quiet: #a9a59b; --colour: #6cc9bc; --well: #0e0e0d; }
  body { background: #161614; color: #eceae4; } }
"""
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}: API</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml"><link rel="stylesheet" href="docs/style.css"></head>
<body>
<header><nav aria-label="Site"><a href="./">&larr; {title}</a><a href="openapi.json">openapi.json</a></nav></header>
<main><h1>{title} {version}: API</h1>
<p>{description}</p>
<h3>curl</h3>
<pre>curl -F photo=@photo.jpg -F mask=@mask.png -F seed=0 -o completion.png {address}api/v1/inpaint</pre>
<h3>Python</h3>
<pre>import base64, httpx

files = {{"photo": open("photo.jpg", "rb"), "mask": open("mask.png", "rb")}}
answer = httpx.post("{address}api/v1/inpaint", files=files, data={{"num_samples": 4}}, timeout=120)
for completion in answer.raise_for_status().json()["completions"]:
    open(f"{{completion['seed']}}.png", "wb").write(base64.b64decode(completion["image"]))</pre>
<h3>JavaScript</h3>
<pre>const form = new FormData();
form.append("photo", photoFile);
form.append("mask", maskFile);
form.append("num_samples", 1);
const answer = await fetch("{address}api/v1/inpaint", {{ method: "POST", body: form }});
const completion = await answer.blob();</pre>
<p>Where the server wants its token: <code>Authorization: Bearer TOKEN</code>, in curl with <code>-H</code>, else among
the headers. Pages of other sites are refused. Addresses in answers begin at this server's own. Errors are JSON,
<code>{{"error": "a sentence", "request_id": "as in the server's log"}}</code>; every request may meet 401 (no token),
403 (from another site) and 500.</p>
"""
EVERYWHERE = ("401", "403", "500")
TAIL = "</main></body></html>\n"


def page(api: dict[str, Any], address: str) -> str:
    """Return an OpenAPI description as a page; `address` is the server's, with a slash at its end."""
    info = {k: escape(str(api["info"].get(k, ""))) for k in ("title", "version", "description")}
    parts = [
        section(method.upper(), path, operation)
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
    ]
    return HEAD.format(address=escape(address), **info) + "".join(parts) + TAIL


def section(method: str, path: str, operation: dict[str, Any]) -> str:
    """Return one operation: what it does, its fields, its answers."""
    text = f"<h2><code>{method} {escape(path)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        text += f"<p>Body: {escape(' or '.join(content))}; as JSON, files are base64.</p>"
        text += fields(content["multipart/form-data"]["schema"])
    return text + answers(operation.get("responses", {}))


def fields(schema: dict[str, Any]) -> str:
    """Return the fields of a body as a table."""
    rows = [
        (
            f"<code>{escape(name)}</code>",
            escape(kind(field)),
            default(field, name in schema.get("required", [])),
            escape(field.get("description", "")),
        )
        for name, field in schema["properties"].items()
    ]
    return table(("field", "values", "default", "meaning"), rows)


def kind(field: dict[str, Any]) -> str:
    """Return what a field may be, in words."""
    if "enum" in field:
        return ", ".join(field["enum"])
    if field.get("format") == "binary":
        return "file"
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    return field["type"] + ("" if low is None else f" from {low:.13g}") + ("" if high is None else f" to {high:.13g}")


def default(field: dict[str, Any], required: bool) -> str:
    """Return a field's default, or that it has none."""
    if required:
        return "required"
    return escape(str(field["default"])) if field.get("default") is not None else ""


def answers(responses: dict[str, Any]) -> str:
    """Return the possible answers as a table."""
    rows = [
        (code, escape(", ".join(answer.get("content", {}))), escape(answer["description"]))
        for code, answer in sorted(responses.items())
        if code not in EVERYWHERE
    ]
    return table(("status", "content", "meaning"), rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return rows of HTML as a table."""
    top = "".join(f"<th scope=col>{name}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div tabindex=0><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"

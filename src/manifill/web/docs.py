"""The page /docs, written from the OpenAPI description: no script, and no request to any other host."""

from __future__ import annotations

from html import escape
from typing import Any

STYLE = """body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid; padding-top: 1rem; font-size: 1.1rem; }
h2 code { font-size: 1.1rem; overflow-wrap: anywhere; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
div { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 0.8rem 0.2rem 0; } td:last-child { min-width: 12rem; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e4e6ea; } a { color: #8ab4ff; } }
"""
HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}: API</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/docs/style.css"></head>
<body><main><h1>{title} {version}: API</h1>
<p>{description}</p>
<pre>curl -F photo=@photo.png -F mask=@mask.png -F seed=0 -o completion.png http://127.0.0.1:8000/api/v1/inpaint</pre>
<p>Where the server wants its token: <code>-H 'Authorization: Bearer TOKEN'</code>. Errors are JSON,
<code>{{"error": "a sentence", "request_id": "as in the server's log"}}</code>; every request may meet 401 (no token),
403 (from another site) and 500.</p>
<p>For programs: <a href="/openapi.json">openapi.json</a>. The page: <a href="/">/</a>.</p>
"""
EVERYWHERE = ("401", "403", "500")
TAIL = "</main></body></html>\n"


def page(api: dict[str, Any]) -> str:
    """Return an OpenAPI description as a page."""
    info = {k: escape(str(api["info"].get(k, ""))) for k in ("title", "version", "description")}
    parts = [
        section(method.upper(), path, operation)
        for path, operations in api["paths"].items()
        for method, operation in operations.items()
    ]
    return HEAD.format(**info) + "".join(parts) + TAIL


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
        (f"<code>{escape(name)}</code>", escape(kind(field)), default(field, name in schema.get("required", [])),
         escape(field.get("description", "")))
        for name, field in schema["properties"].items()
    ]  # fmt: skip
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

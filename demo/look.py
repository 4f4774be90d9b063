"""The look that all the demo's pages share: one style sheet, one page frame, one set of security headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

HERE = Path(__file__).parent
ACCENTS = {"indigo": "#4f46e5", "teal": "#0f766e", "slate": "#475569", "orange": "#c2410c", "violet": "#7e22ce"}


def page(title: str, body: str, *, accent: str, base: str = "", head: str = "") -> str:
    """Return a whole page: `title` is text, `body` and `head` are HTML, `accent` is one of ACCENTS."""
    return f"""<!doctype html>
<html lang="en" data-accent="{accent}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" type="image/svg+xml" href="{base}/icon.svg">
<link rel="stylesheet" href="{base}/style.css">
{head}</head>
<body>
{body}
</body>
</html>
"""


def reply(
    html: str,
    status: int = 200,
    *,
    form_action: Sequence[str] = (),
    frames: Sequence[str] = (),
    referrer: str = "no-referrer",
) -> HTMLResponse:
    """Answer with a page that loads nothing from elsewhere.

    `form_action` names the origins that a form may end up at: browsers check the redirects after a form too, so a page
    with a logout button must name the provider here, or the button does nothing. `frames` names what may be framed.
    """
    policy: Mapping[str, Sequence[str]] = {
        "default-src": ["'none'"],
        "style-src": ["'self'"],
        "script-src": ["'self'"],
        "img-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'", *form_action],
        "frame-src": frames or ["'none'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {' '.join(values)}" for name, values in policy.items()),
        "Cache-Control": "no-store",
        "Referrer-Policy": referrer,
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(html, status, headers)


def assets(accent: str, letter: str) -> list[BaseRoute]:
    """Return the routes of the style sheet, the script and the icon."""
    style = (HERE / "style.css").read_text("utf-8")
    script = (HERE / "live.js").read_text("utf-8")

    def get(path: str, content: str, media_type: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return Response(content, media_type=media_type, headers={"Cache-Control": "max-age=60"})

        return Route(path, endpoint, methods=["GET"])

    return [
        get("/style.css", style, "text/css"),
        get("/live.js", script, "text/javascript"),
        get("/icon.svg", _icon(accent, letter), "image/svg+xml"),
    ]


def _icon(accent: str, letter: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<rect width="32" height="32" rx="8" fill="{ACCENTS[accent]}"/>'
        '<text x="16" y="22" font-family="system-ui,sans-serif" font-size="18" font-weight="700" fill="#fff"'
        f' text-anchor="middle">{escape(letter)}</text></svg>'
    )

"""The provider's pages, as HTML. Everything that comes from outside goes through `escape`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import urlsplit

from demo.look import page


class Pages:
    """The pages of one provider: its name, colour and the path it lives under."""

    def __init__(self, name: str, accent: str, base: str, note: str | None) -> None:
        self.name = name
        self.accent = accent
        self.base = base
        self.note = note

    def _card(self, title: str, content: str, *, foot: str = "", head: str = "") -> str:
        name = escape(self.name)
        body = f"""<main class="solo">
<section class="card" aria-labelledby="title">
<a class="brand" href="{self.base}/"><span class="mark" aria-hidden="true">{name[:1]}</span>{name}</a>
{content}
</section>
{f'<p class="foot muted small">{foot}</p>' if foot else ""}
</main>"""
        return page(f"{title} · {self.name}", body, accent=self.accent, base=self.base, head=head)

    def sign_in(self, action: str, csrf: str, *, app: str, user: str = "", why: str = "", error: str = "") -> str:
        """Return the sign-in form; `why` explains why the user sees it although there is a session."""
        title = f"Sign in to {self.name}"
        wrong = f'<p class="notice bad" id="error" role="alert">{escape(error)}</p>' if error else ""
        described = ' aria-describedby="error" aria-invalid="true"' if error else ""
        focus = ("", " autofocus") if user else (" autofocus", "")
        return self._card(
            title,
            f"""<div class="intro"><h1 id="title">{escape(title)}</h1>
<p class="muted">{escape(why) or f"to continue to <strong>{escape(app)}</strong>"}</p></div>
{wrong}
<form class="stack fields" method="post" action="{escape(action)}">
<input type="hidden" name="csrf" value="{csrf}">
<label>Username
<input type="text" name="username" value="{escape(user)}" autocomplete="username" autocapitalize="none"
 spellcheck="false" required{described}{focus[0]}></label>
<label>Password
<input type="password" name="password" autocomplete="current-password" required{described}{focus[1]}></label>
<button class="button" type="submit">Sign in</button>
</form>""",
            foot=escape(self.note or ""),
        )

    def confirm(self, key: str, csrf: str, *, user: str, app: str | None) -> str:
        """Return the question whether to sign out of the provider (RP-Initiated Logout 1.0 §2)."""
        asks = f"<strong>{escape(app)}</strong> has signed you out. " if app else ""
        too = " too" if app else ""
        return self._card(
            "Sign out",
            f"""<div class="intro"><h1 id="title">Sign out of {escape(self.name)}{too}?</h1>
<p class="muted">{asks}You are signed in here as <strong>{escape(user)}</strong>. Signing out
notifies your other apps.</p></div>
<form class="stack" method="post" action="{self.base}/end_session/confirm">
<input type="hidden" name="request" value="{escape(key)}">
<input type="hidden" name="csrf" value="{csrf}">
<button class="button" type="submit" name="answer" value="yes">Yes, sign me out</button>
<button class="button quiet" type="submit" name="answer" value="no">Stay signed in</button>
</form>""",
        )

    def signing_out(self, frames: Iterable[str], target: str | None) -> str:
        """Notify the front-channel clients by iframes, then go on to `target` after two seconds."""
        inside = "".join(
            f'<iframe class="hidden-frame" src="{escape(url)}" title="Signing out" tabindex="-1"></iframe>'
            for url in frames
        )
        link = f'<a class="button" href="{escape(target)}">Continue</a>' if target else ""
        refresh = f'<meta http-equiv="refresh" content="2;url={escape(target)}">\n' if target else ""
        return self._card(
            "Signing out",
            f"""<div class="intro" role="status"><h1 id="title">Signing you out of your apps…</h1>
<p class="muted">{escape(self.name)} is notifying each of them.</p></div>{link}{inside}""",
            head=refresh,
        )

    def home(self, user: str, apps: Mapping[str, str | None]) -> str:
        """Return the page with the user who is signed in, and the apps of this session."""
        rows = "".join(
            f'<li><span class="mark" aria-hidden="true">{escape(app[:1].upper())}</span>'
            + (f'<a href="{escape(url)}">{escape(app)}</a>' if url else escape(app))
            + "</li>"
            for app, url in apps.items()
        )
        listed = f'<ul class="apps">{rows}</ul>' if rows else '<p class="muted">No app has used it yet.</p>'
        return self._card(
            "Your session",
            f"""<div class="intro"><h1 id="title">Signed in as {escape(user)}</h1>
<p class="muted">Apps that you opened with this session:</p></div>
{listed}
<form method="get" action="{self.base}/end_session"><button class="button" type="submit">Sign out everywhere</button>
</form>""",
        )

    def message(self, title: str, text: str) -> str:
        """Return a page with one message."""
        return self._card(
            title,
            f'<div class="intro"><h1 id="title">{escape(title)}</h1><p class="muted">{escape(text)}</p></div>',
        )


def origin(url: str) -> str:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

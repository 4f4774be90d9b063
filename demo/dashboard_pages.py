"""The dashboard's pages, as HTML. Everything that comes from outside goes through `escape`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from asgi_rp_logout import Login
from demo.look import page

TICK = '<path d="M5 10.5l3.2 3.2L15 7" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"/>'
BANG = '<path d="M10 5.5v6M10 14.4v.1" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round"/>'
RING = '<circle cx="10" cy="10" r="9" fill="none" stroke="currentColor" stroke-width="1.6"/>'


class Pages:
    """The pages of one app."""

    def __init__(
        self,
        name: str,
        accent: str,
        url: str,
        tabs: Sequence[tuple[str, str]],
        providers: Sequence[tuple[str, str, str]],
        with_middleware: bool,
        intro: str,
    ) -> None:
        self.name = name
        self.accent = accent
        self.url = url
        self.tabs = tabs
        self.providers = providers
        self.with_middleware = with_middleware
        self.intro = intro

    def _page(self, title: str, content: str, *, live: bool = False) -> str:
        rows = "".join(
            f'<li><a href="{escape(url)}"{" aria-current=page" if url.rstrip("/") == self.url else ""}>'
            f"{escape(label)}</a></li>"
            for label, url in self.tabs
        )
        tabs = f'<nav aria-label="Apps of this demo"><ul class="tabs">{rows}</ul></nav>' if rows else ""
        indicator = '<p class="live" id="live" role="status"><span>Connecting</span></p>' if live else ""
        body = f"""<a class="skip" href="#main">Skip to content</a>
<header class="bar"><div>
<a class="brand" href="/"><span class="mark" aria-hidden="true">{escape(self.name[:1])}</span>{escape(self.name)}</a>
{tabs}{indicator}
</div></header>
{content}"""
        head = '<script src="/live.js" defer></script>\n' if live else ""
        return page(f"{title} · {self.name}", body, accent=self.accent, head=head)

    # Signed out

    def login(self, message: str | None = None, provider: str = "") -> str:
        """Return the login page; `message` is a key of the notice on it, `provider` who had signed the user in."""
        buttons = "".join(
            f'<li><a class="button{" quiet" if number else ""}" href="/login/{key}">Continue with {escape(label)}</a>'
            + (f'<p class="muted small">{escape(note)}</p>' if note else "")
            + "</li>"
            for number, (key, label, note) in enumerate(self.providers)
        )
        return self._page(
            "Sign in",
            f"""<main class="solo" id="main"><section class="card" aria-labelledby="title">
{self._message(message, escape(provider))}
<div class="intro"><h1 id="title">Sign in to {escape(self.name)}</h1>
<p class="muted">{escape(self.intro)}</p></div>
<ul class="choices">{buttons}</ul>
</section></main>""",
        )

    def _message(self, message: str | None, at: str) -> str:
        """Return the notice for a key. It promises nothing: other tabs may sign in or out while its page is open."""
        match message:
            case "signed-out" if self.with_middleware:
                text = f"Sign in again: {at} asks for your password, unless you have signed in there in the meantime."
                return notice("good", "You have been signed out.", text)
            case "signed-out":
                text = f"Only this app's cookie is gone. Sign in again: does {at} ask for your password?"
                return notice("warn", "You have been signed out. Have you?", text)
            case "signed-out-here":
                text = f"Sign in again: nobody asks for a password, as long as your session at {at} lasts."
                return notice("good", "You have been signed out of this app.", text)
            case "already":
                text = "This logout had nothing left to end. Your provider may still have a session for you."
                return notice("warn", "You were already signed out of this app.", text)
            case "elsewhere":
                return notice("warn", "You were signed out elsewhere.", "So this app has signed you out as well.")
            case "failed":
                return notice("bad", "That sign-in did not work.", "Please try once more.")
            case "unreachable":
                return notice("bad", "The provider does not answer.", "Please try again in a moment.")
            case "unknown":
                return notice("bad", "There is no such provider.", "Please choose one of these.")
        return ""

    # Signed in

    def home(self, user: Mapping[str, Any], provider: str, remembered: Login | None) -> str:
        """Return the page of a signed-in user: who it is, the logouts, and what is remembered."""
        name, at = escape(user["name"]), escape(provider)
        if user["asked"]:
            entry = notice("good", "You typed your password.", f"{at} did not know you yet, so it asked.")
        else:
            entry = notice("warn", "Nobody asked for a password.", f"{at} still had a session for you: single sign-on.")
        return self._page(
            "Signed in",
            f"""<main id="main">
<div class="notice bad" id="ended" role="alert" hidden>{icon(BANG)}<div>
<strong>You have been signed out.</strong>
<p>The session that this tab showed has ended. <a href="/">Sign in again</a></p></div></div>
<div class="inside" id="inside" data-login="{escape(user["login"])}">
<div class="hello"><span class="face" aria-hidden="true">{name[:1]}</span><div><h1>Hello, {name}</h1>
<p class="muted">{escape(user["email"])} · signed in with {at}</p></div></div>
{entry}
{self._ways_out(at) if self.with_middleware else self._only_way_out(at)}
{self._remembered(remembered)}
</div>
</main>""",
            live=True,
        )

    def _ways_out(self, at: str) -> str:
        return f"""<div class="pair">
{
            way_out(
                "Log out",
                f"Ends your session here and at {at}, which then notifies your other apps.",
                f"{at} asks for your password.",
                "/auth/logout",
                "Log out",
            )
        }
{
            way_out(
                "Log out of this app only",
                f"Ends your session here. You stay signed in at {at} and in your other apps.",
                "You are back in without a password.",
                "/auth/logout/here",
                "Log out of this app only",
                quiet=True,
            )
        }
</div>"""

    def _only_way_out(self, at: str) -> str:
        card = way_out(
            "Log out",
            f"The same app with the same logout, but without the middleware. It deletes the app's cookie, and {at}"
            " does not learn of the logout.",
            f"As long as {at} has a session for you, you are back in without a password. On a shared computer, so is"
            " the next person.",
            "/auth/logout",
            "Log out",
        )
        return f'<div class="pair">{card}</div>'

    def _remembered(self, login: Login | None) -> str:
        if login is None:
            facts = "<p class='muted'>Nothing. This app does not know which session at the provider is yours.</p>"
        else:
            rows = {"Provider": login.provider, "Subject (sub)": login.sub, "Session (sid)": shorten(login.sid)}
            facts = "".join(
                f"<dt>{key}</dt><dd><code>{escape(value or 'none')}</code></dd>" for key, value in rows.items()
            )
            facts = f'<dl class="facts">{facts}</dl>'
        two_tabs = "Keep this tab open, log out in a second tab, and watch this one."
        if not self.with_middleware:
            two_tabs = "Keep this tab open, log out in a second tab, and see that this one does not notice."
        return f"""<section class="card"><h2>What the app remembers of this sign-in</h2>{facts}
<p class="muted small">{two_tabs}</p>
</section>"""


def way_out(title: str, text: str, after: str, action: str, label: str, *, quiet: bool = False) -> str:
    """Explain one logout and give its button; the arguments are HTML."""
    return f"""<section class="card"><h2>{title}</h2><div class="stack"><p class="muted">{text}</p>
<p class="next"><b>Next login</b><span>{after}</span></p></div>
<form method="post" action="{action}"><button class="button{" quiet" if quiet else ""}" type="submit">{label}</button>
</form></section>"""


def notice(kind: str, title: str, text: str) -> str:
    """Return a coloured box; `kind` is good, warn or bad; the arguments are HTML."""
    sign = icon(TICK if kind == "good" else BANG)
    return f'<div class="notice {kind}" role="status">{sign}<div><strong>{title}</strong><p>{text}</p></div></div>'


def icon(shape: str) -> str:
    return f'<svg width="20" height="20" viewBox="0 0 20 20" aria-hidden="true">{RING}{shape}</svg>'


def shorten(value: str | None) -> str | None:
    """Return the beginning of an identifier, which is enough to see that two differ."""
    return f"{value[:6]}…" if value else None

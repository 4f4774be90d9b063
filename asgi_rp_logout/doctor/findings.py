"""What the doctor can find: a catalogue of ids, which stay the same between releases.

To add a check, add its id here and to docs/doctor.md, and yield it with ``found``. The sentences take facts by name;
no fact is a token, a cookie value, a secret, or a URL with its query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""From something that does not work to something worth knowing."""

UNREACHABLE = ".unreachable"
"""How the ids end that say that something could not be reached. Nothing need be wrong with the set-up then."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Hold one entry of the catalogue: how bad it is, what is so, and what to do about it."""

    level: Level
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold one finding: its id, whose it is, one sentence, and the remedy."""

    id: str
    subject: str
    sentence: str
    remedy: str

    @property
    def level(self) -> Level:
        """How bad it is."""
        return CATALOGUE[self.id].level


def found(id: str, subject: str, **facts: object) -> Finding:  # noqa: A002  # the word of the documentation
    """Return the finding of an id, with the facts that its sentences name."""
    rule = CATALOGUE[id]
    return Finding(id, subject, rule.sentence.format(**facts), rule.remedy.format(**facts))


CATALOGUE = {
    # The app
    "app.no_middleware": Rule(
        "error",
        "There is no RPLogoutMiddleware in this app.",
        "Name the object that the server runs, after it was wrapped or add_middleware was called.",
    ),
    "app.configuration": Rule(
        "error", "RPLogoutMiddleware refuses its options: {error}.", "Correct the option; the app does not start."
    ),
    "placement.outside": Rule(
        "warning",
        "The session lives in the signed cookie {cookie!r}, and RPLogoutMiddleware is outside of its "
        "SessionMiddleware, so copies of older values of the cookie keep working after a logout.",
        "Put RPLogoutMiddleware inside: add_middleware it before SessionMiddleware, or list it after it.",
    ),
    "placement.per_route": Rule(
        "warning",
        "RPLogoutMiddleware is around one route only, so ended sessions keep working on the others.",
        "Put it around the whole app.",
    ),
    "session.other_cookie": Rule(
        "error",
        "The session cookie of the app is {cookie!r}, and session_cookie names {declared}, so a logout neither blocks "
        "nor deletes it.",
        "Set session_cookie={cookie!r}.",
    ),
    "session.second_cookie": Rule(
        "note",
        "The app has another signed session in the cookie {cookie!r}, which session_cookie does not name, so it "
        "outlives a logout.",
        "Nothing, if it keeps only the state of a login, or belongs to a part of the app with its own users; else name "
        "it in session_cookie too.",
    ),
    "session.not_secure": Rule(
        "warning",
        "The session cookie {cookie!r} has no Secure attribute, and the app is on https.",
        "SessionMiddleware(https_only=True).",
    ),
    "session.outlives": Rule(
        "warning",
        "The session cookie {cookie!r} is valid for {max_age}, and its end is remembered for {lifetime}, so a copy "
        "works again afterwards.",
        "Set session_lifetime to at least the max_age of the session, and a max_age if there is none.",
    ),
    "cookies.need_https": Rule(
        "error",
        "The cookie {cookie!r} needs https, and the app is on http, so browsers do not keep it.",
        "Serve the app over https, or use a cookie without prefix, partitioned and samesite='none'.",
    ),
    # The store
    "store.not_shared": Rule(
        "error",
        "There are {workers} workers, and each has a MemoryStore of its own, so a logout at one is none at the others.",
        "Set store= to one that all workers share, such as RedisStore.",
    ),
    "store.unreachable": Rule(
        "error",
        "The store does not answer ({error}).",
        "Look at its address, and whether it is reached from here.",
    ),
    "store.memory": Rule(
        "note",
        "Logins are remembered in a MemoryStore: it is for one worker, and forgets everything at a restart.",
        "In production set store= to one that outlives the process, such as RedisStore.",
    ),
    # Addresses
    "url.unknown": Rule(
        "note",
        "The address of the app is not known, so the addresses to register are incomplete, and the provider was not "
        "asked about them.",
        "Pass --url https://app.example.com, or set public_url.",
    ),
    "url.differs": Rule(
        "warning",
        "--url is {url}, and public_url is {public_url}: the middleware uses public_url.",
        "Correct the one that is wrong.",
    ),
    "url.not_https": Rule(
        "warning",
        "The app is on http, so its cookies can be read and set by anybody on the way.",
        "Serve the app over https.",
    ),
    "return.unknown": Rule(
        "note",
        "Neither post_logout_redirect_uri nor callback_path is set, so the address to come back to is the one that the "
        "app's own logout redirects to.",
        "Register that address, without its query; or set one of the options.",
    ),
    # The providers
    "providers.none": Rule(
        "error",
        "The function given as providers lists none ({error}).",
        "If it lists them after the start only, run the doctor with --issuer and --client-id for each.",
    ),
    "provider.late": Rule(
        "note",
        "The client of this provider is registered with Authlib when the app starts, so it cannot be looked at.",
        "Run the doctor with --issuer and --client-id.",
    ),
    "provider.opaque": Rule(
        "note",
        "This provider is an object of the app, or has no metadata, so only its end-session URL is looked at.",
        "Nothing, if that is what you want; OIDCProvider reads the metadata.",
    ),
    "provider.other_kind": Rule(
        "note",
        "This entry of the function given as providers has no method get_end_session_url(), so its users are logged "
        "out of the app only.",
        "Nothing, if it signs users in without an OpenID provider, such as by a password.",
    ),
    "provider.unusable": Rule(
        "warning",
        "This entry of the function given as providers cannot be used, so its users are logged out of the app only: "
        "{why}.",
        "Correct it, or leave it out of the list.",
    ),
    "provider.no_url": Rule(
        "note",
        "get_end_session_url() of this provider returns None, so a logout ends the session here and not there.",
        "Nothing, if it has no end-session endpoint.",
    ),
    "provider.deviates": Rule(
        "error",
        "{vendor} does not take the standard parameters at its end-session endpoint.",
        "Use {preset}(...).",
    ),
    "client.no_id": Rule(
        "warning",
        "The provider has no client_id, so a logout without an ID Token cannot come back to the app.",
        "Set client_id to the id under which the app is registered.",
    ),
    "client.no_openid": Rule(
        "error",
        "The scope of the Authlib client lacks 'openid', so there is no ID Token, and no login is noticed.",
        "Register it with client_kwargs={{'scope': 'openid ...'}}.",
    ),
    "discovery.unreachable": Rule(
        "error",
        "The discovery document cannot be fetched, so {so}: {error}.",
        "Look at this address, and at the network from here to it; a proxy is set with http_client.",
    ),
    "discovery.tls": Rule(
        "error",
        "The certificate of the provider is not trusted, so {so}: {error}.",
        "For a private certificate authority pass http_client=httpx.AsyncClient(verify=...).",
    ),
    "discovery.not_found": Rule(
        "error",
        "There is no discovery document where the issuer says, so {so}: {error}.",
        "Correct the issuer: its document is at <issuer>/.well-known/openid-configuration.",
    ),
    "discovery.issuer": Rule(
        "error",
        "The issuer is configured as {configured}, and the discovery document names {named}, so {so}.",
        "Configure it as the document has it, to the last character, including a slash at its end.",
    ),
    "clock.skew": Rule(
        "error",
        "The clocks of the provider and of this machine are {seconds} seconds apart, so logout tokens are refused "
        "or end the wrong logins.",
        "Synchronize both with NTP.",
    ),
    "metadata.no_end_session": Rule(
        "warning",
        "{source} names no end_session_endpoint, so a logout ends the session here and not there.",
        "Switch it on at the provider, or use its preset; presets.local_only if it has no logout at all.",
    ),
    "metadata.endpoint": Rule(
        "error",
        "The end-session URL cannot be used: {error}.",
        "Let the provider name its public https address.",
    ),
    "metadata.no_back_channel": Rule(
        "note",
        "The metadata does not say that the provider sends logout tokens. Without them, logouts that begin there do "
        "not reach this app.",
        "Nothing, if the provider has no Back-Channel Logout; else switch it on there.",
    ),
    "backchannel.no_caller": Rule(
        "warning",
        "backchannel_path is set, and no provider says in its metadata that it sends logout tokens.",
        "Leave it out, unless the documentation of a provider says that it sends them all the same.",
    ),
    "metadata.back_channel_unused": Rule(
        "note",
        "The provider sends logout tokens, and backchannel_path is not set, so logouts elsewhere do not reach this "
        "app.",
        "Set backchannel_path, and register its address.",
    ),
    "metadata.no_front_channel": Rule(
        "note",
        "The metadata does not say that the provider shows logout frames. Without them, frontchannel_path does nothing "
        "for its users.",
        "Nothing, if the provider has no Front-Channel Logout; else switch it on there.",
    ),
    "metadata.front_channel_without_session": Rule(
        "note",
        "The metadata does not say that frames name the session. Those that do not end nothing, because "
        "frontchannel_session_required is on.",
        "Switch on 'session required' at the provider, or set frontchannel_session_required=False.",
    ),
    "frontchannel.no_caller": Rule(
        "warning",
        "frontchannel_path is set, and no provider says in its metadata that it shows frames that end a session here.",
        "Leave it out, or do what the notes on the providers say; backchannel_path does not depend on frames.",
    ),
    "metadata.no_revocation": Rule(
        "warning",
        "revoke='refresh_token' is set, and neither the metadata nor the OAuth metadata names a revocation endpoint "
        "that can be used.",
        "Pass its URL as revoke, or leave revoke out.",
    ),
    "keys.unreachable": Rule(
        "error",
        "The keys of the provider cannot be fetched: {error}. Without them its logout tokens are refused.",
        "Look at jwks_uri in its metadata, and at the network from here to it.",
    ),
    "keys.unreadable": Rule(
        "error",
        "The keys of the provider cannot be read: {error}; its logout tokens are refused.",
        "Look at jwks_uri in its metadata.",
    ),
    "keys.none": Rule(
        "error",
        "The provider publishes no key for {algorithm}, so its logout tokens are refused.",
        "Set algorithm= to the one with which it signs for this client.",
    ),
    "keys.algorithm": Rule(
        "error",
        "The provider does not sign with {algorithm}, but with {supported}, so its logout tokens are refused.",
        "Set algorithm= to the one with which it signs for this client.",
    ),
    "hint.too_long": Rule(
        "warning",
        "With an ID Token of {token} bytes the logout URL takes {length}, and max_url_length is {limit}, so the "
        "hint is left out.",
        "Shorten what else is in the URL, or set post=True if the provider takes a POST.",
    ),
    # A token relay
    "relay.port_taken": Rule(
        "error",
        "Port {port} of the token relay belongs to {who}, so the relay does not listen, and logins through it fail.",
        "Pass another port= to TokenRelay, and put its new address into the settings of the app.",
    ),
    "relay.unlisted": Rule(
        "error",
        "The token relay is for {provider}, which the function given as providers does not list, so the logins that it "
        "notices are logged out here only.",
        "Let the function return that provider too.",
    ),
    # An ID Token fetched at logout
    "silent.ignored": Rule(
        "warning",
        "silent_hint is ignored: {why}.",
        "Set the option that is missing, or leave silent_hint out.",
    ),
    "silent.forgotten": Rule(
        "error",
        "silent_hint stays off, because the function given as providers makes a new provider object at each call, and "
        "only one that has tried the provider may ask it.",
        "Let the function return the same objects each time.",
    ),
    "silent.refused": Rule(
        "error",
        "The provider does not answer prompt=none at {uri} (status {status}), so silent_hint stays off.",
        "Register exactly this address as a redirect URI of this client, besides as a post-logout redirect URI. If it "
        "is registered, this provider cannot be asked: leave silent_hint out.",
    ),
    "silent.unreachable": Rule(
        "error",
        "The authorization endpoint does not answer, so silent_hint stays off: {error}.",
        "Look at authorization_endpoint in the metadata, and at the network from here to it.",
    ),
    "silent.no_endpoint": Rule(
        "error",
        "The provider cannot be asked with prompt=none, so silent_hint stays off: {error}.",
        "Let the provider name its public authorization_endpoint, or leave silent_hint out.",
    ),
    # Asked at the end-session endpoint
    "endpoint.unreachable": Rule(
        "error",
        "The end-session endpoint does not answer: {error}.",
        "Look at this address, and at the network from here to it: browsers are sent there.",
    ),
    "registration.client": Rule(
        "error",
        "The provider refuses a logout of client {client!r} (status {status}).",
        "Look whether this client is registered at this issuer.",
    ),
    "registration.post_logout_uri": Rule(
        "error",
        "The provider refuses to come back to {uri} for client {client!r} (status {status}).",
        "Register exactly this address as a post-logout redirect URI of this client, and look whether the client_id is "
        "right: some providers answer the same to an unknown client.",
    ),
    "registration.anywhere": Rule(
        "warning",
        "The provider sends a browser anywhere after a logout, whether the address is registered or not.",
        "Make it check; Azure AD B2C does with 'Require ID Token in logout requests'.",
    ),
    "registration.unknown": Rule(
        "note",
        "Whether {uri} is registered cannot be told from outside: {why}.",
        "Log in and out once: the browser must come back.",
    ),
}

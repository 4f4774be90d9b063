"""The presets: for each vendor the whole URL, and what is refused."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_rp_logout import ConfigurationError, Login, ProviderError
from asgi_rp_logout.providers import presets
from asgi_rp_logout.providers.provider import ask
from tests.tokens import id_token

RETURN = "https://app.example.com/login"
SENT_RETURN = "https%3A%2F%2Fapp.example.com%2Flogin"
STATE = "s" * 22
TENANT = "11111111-2222-3333-4444-555555555555"

HINT = id_token(iss="https://id.example.com", sub="u1", sid="s1")
STANDARD = f"id_token_hint={HINT}&client_id=app&post_logout_redirect_uri={SENT_RETURN}&state={STATE}"
WITHOUT_HINT = f"client_id=app&post_logout_redirect_uri={SENT_RETURN}&state={STATE}"

# What each vendor's discovery document says; the host in it is the one that was asked.
ADVERTISED = {
    "hydra.example.com": "/oauth2/sessions/logout",
    "dex.example.com": "/logout",
    "duende.example.com": "/connect/endsession",
    "authentik.example.com": "/application/o/dash/end-session/",
    "acme.onelogin.com": "/oidc/2/logout",
    "fusionauth.example.com": "/oauth2/logout",
    "fc.example.com": "/api/v2/session/end",
    "silent.example.com": "",
}


async def discovery(request: Request) -> Response:
    """Be every vendor's discovery endpoint."""
    issuer = str(request.url).removesuffix("/.well-known/openid-configuration")
    if request.url.hostname == "authentik.example.com":
        issuer += "/"
    path = ADVERTISED[str(request.url.hostname)]
    document = {"issuer": issuer, "end_session_endpoint": f"https://{request.url.hostname}{path}" if path else None}
    return JSONResponse(document)


VENDORS = Starlette(routes=[Route("/{path:path}", discovery)])


async def url_of(provider: Any, *, hint: str | None = HINT, login: Login | None = None, **offered: Any) -> str | None:
    """Ask a provider as the middleware does, with the vendors' discovery documents at hand."""
    asked: dict[str, Any] = {
        "id_token_hint": hint,
        "logout_hint": None,
        "post_logout_redirect_uri": RETURN,
        "state": STATE,
        "client_id": getattr(provider, "client_id", None),
        "login": login or Login(id_token=hint),
        "scope": {},
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(VENDORS)) as client:
        if hasattr(provider, "use_http_client"):
            provider.use_http_client(client)
        return await ask(provider, {**asked, **offered})


URLS: dict[str, tuple[Any, str]] = {
    "cognito": (
        presets.cognito("acme.auth.eu-west-1.amazoncognito.com", "app"),
        f"https://acme.auth.eu-west-1.amazoncognito.com/logout?client_id=app&logout_uri={SENT_RETURN}",
    ),
    "auth0": (presets.auth0("acme.eu.auth0.com", "app"), f"https://acme.eu.auth0.com/oidc/logout?{STANDARD}"),
    "auth0 federated": (
        presets.auth0("acme.eu.auth0.com", "app", federated=True),
        f"https://acme.eu.auth0.com/oidc/logout?{STANDARD}&federated",
    ),
    "auth0_legacy": (
        presets.auth0_legacy("acme.eu.auth0.com", "app"),
        f"https://acme.eu.auth0.com/v2/logout?client_id=app&returnTo={SENT_RETURN}",
    ),
    "auth0_legacy federated": (
        presets.auth0_legacy("acme.eu.auth0.com", "app", federated=True),
        f"https://acme.eu.auth0.com/v2/logout?client_id=app&returnTo={SENT_RETURN}&federated",
    ),
    "login_gov": (presets.login_gov("app"), f"https://secure.login.gov/openid_connect/logout?{WITHOUT_HINT}"),
    "entra": (
        presets.entra(TENANT, "app"),
        f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/logout?{STANDARD}",
    ),
    "azure_b2c": (
        presets.azure_b2c("acme", "B2C_1_signin", "app"),
        f"https://acme.b2clogin.com/acme.onmicrosoft.com/B2C_1_signin/oauth2/v2.0/logout?{STANDARD}",
    ),
    "azure_b2c policy in the query": (
        presets.azure_b2c("acme", "B2C_1_signin", "app", domain="login.acme.example", policy_in_query=True),
        f"https://login.acme.example/acme.onmicrosoft.com/oauth2/v2.0/logout?p=B2C_1_signin&{STANDARD}",
    ),
    "keycloak_legacy": (
        presets.keycloak_legacy("https://id.example.com/auth/", "acme corp", "app"),
        (
            "https://id.example.com/auth/realms/acme%20corp/protocol/openid-connect/logout"
            f"?redirect_uri={SENT_RETURN}&state={STATE}"
        ),
    ),
    "pingfederate_slo": (
        presets.pingfederate_slo("https://sso.example.com:9031"),
        f"https://sso.example.com:9031/idp/startSLO.ping?TargetResource={SENT_RETURN}",
    ),
    "authelia": (presets.authelia("https://auth.example.com"), f"https://auth.example.com/logout?rd={SENT_RETURN}"),
    "workos": (
        presets.workos(),
        f"https://api.workos.com/user_management/sessions/logout?return_to={SENT_RETURN}&session_id=s1",
    ),
    "salesforce": (
        presets.salesforce("acme.my.salesforce.com"),
        "https://acme.my.salesforce.com/services/auth/idp/oidc/logout",
    ),
    "franceconnect": (
        presets.franceconnect("https://fc.example.com/api/v2", "app"),
        f"https://fc.example.com/api/v2/session/end?{STANDARD}",
    ),
    "proconnect": (
        presets.proconnect("https://fc.example.com/api/v2", "app"),
        f"https://fc.example.com/api/v2/session/end?{STANDARD}",
    ),
    "okta": (
        presets.okta("acme.okta.com", "app"),
        f"https://acme.okta.com/oauth2/v1/logout?{STANDARD.replace('&client_id=app', '')}",
    ),
    "okta with an authorization server": (
        presets.okta("acme.okta.com", "app", authorization_server="default"),
        f"https://acme.okta.com/oauth2/default/v1/logout?{STANDARD.replace('&client_id=app', '')}",
    ),
    "oracle": (
        presets.oracle("https://identity.oraclecloud.com/", "app", tenant="https://acme.identity.oraclecloud.com"),
        f"https://acme.identity.oraclecloud.com/oauth2/v1/userlogout?{STANDARD}",
    ),
    "hydra": (
        presets.hydra("https://hydra.example.com", "app"),
        f"https://hydra.example.com/oauth2/sessions/logout?{STANDARD}",
    ),
    "dex": (presets.dex("https://dex.example.com", "app"), f"https://dex.example.com/logout?{STANDARD}"),
    "duende": (
        presets.duende("https://duende.example.com", "app"),
        f"https://duende.example.com/connect/endsession?{STANDARD}",
    ),
    "authentik": (
        presets.authentik("https://authentik.example.com", "dash", "app"),
        f"https://authentik.example.com/application/o/dash/end-session/?{STANDARD}",
    ),
    "onelogin": (presets.onelogin("acme", "app"), f"https://acme.onelogin.com/oidc/2/logout?{STANDARD}"),
    "fusionauth": (
        presets.fusionauth("https://fusionauth.example.com", "app"),
        f"https://fusionauth.example.com/oauth2/logout?{STANDARD}",
    ),
    "fusionauth without a hint": (
        presets.fusionauth("https://fusionauth.example.com", "app", id_token_hint=False),
        f"https://fusionauth.example.com/oauth2/logout?{WITHOUT_HINT}",
    ),
}


@pytest.mark.parametrize("preset", URLS)
async def test_the_url_is_the_vendors(preset: str) -> None:
    """With hint, return address and state at hand, this is what the browser is sent to."""
    provider, url = URLS[preset]
    assert await url_of(provider) == url


def public_presets() -> dict[str, Any]:
    """Give the presets by their names."""
    return {
        name: value
        for name, value in vars(presets).items()
        if callable(value) and getattr(value, "__module__", "") == presets.__name__ and name[0].islower()
    }


def test_every_preset_has_its_url_here() -> None:
    """A preset without a test is a guess."""
    assert set(public_presets()) == {name.split()[0] for name in URLS} | {"local_only"}


@pytest.mark.parametrize("name", sorted(public_presets().keys() - {"local_only"}))
def test_every_preset_says_its_url_and_where_that_is_from(name: str) -> None:
    shown = inspect.getdoc(public_presets()[name]) or ""
    assert re.search(r"\((source|documentation|third party|unverified)\b", shown), shown
    assert re.search(r"``(https://)?\{\w+\}[^`]*/[^`]*``", shown), shown


def test_every_preset_is_on_the_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "providers.md").read_text()
    assert [preset.__name__ for preset in public_presets().values() if f"`{preset.__name__}`" not in page] == []


# Without a hint.


@pytest.mark.parametrize("preset", ["hydra", "dex", "duende", "authentik", "onelogin"])
async def test_without_a_hint_the_bare_endpoint_is_used(preset: str) -> None:
    """These answer 400 to a return address that no ID Token vouches for."""
    provider, url = URLS[preset]
    assert await url_of(provider, hint=None) == url.partition("?")[0]


@pytest.mark.parametrize("preset", ["okta", "oracle", "franceconnect", "proconnect"])
async def test_without_a_hint_the_logout_stays_local(preset: str) -> None:
    """These show an error page from which nobody comes back."""
    with pytest.raises(ProviderError, match="without id_token_hint") as caught:
        await url_of(URLS[preset][0], hint=None)
    assert caught.value.code == "missing_parameter"


async def test_without_a_hint_auth0_is_told_the_session() -> None:
    """logout_hint takes a sid there; a hint says more, and the app's own logout_hint is its own choice."""
    auth0, base = presets.auth0("acme.eu.auth0.com", "app"), "https://acme.eu.auth0.com/oidc/logout?"
    assert await url_of(auth0, hint=None, login=Login(sid="s2")) == f"{base}logout_hint=s2&{WITHOUT_HINT}"
    assert (
        await url_of(auth0, hint=None, login=Login(sid="s2"), logout_hint="h") == f"{base}logout_hint=h&{WITHOUT_HINT}"
    )
    assert await url_of(auth0, hint=None) == base + WITHOUT_HINT


async def test_entra_is_told_the_login_hint_claim() -> None:
    """Without it the user has to pick an account; a claim that is no text is left alone."""
    entra, base = presets.entra(TENANT, "app"), f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/logout?"
    hint = id_token(sub="u1", login_hint="O.CiR")
    rest = WITHOUT_HINT
    assert await url_of(entra, hint=hint) == f"{base}id_token_hint={hint}&logout_hint=O.CiR&{rest}"
    assert await url_of(entra, hint=hint, logout_hint="h") == f"{base}id_token_hint={hint}&logout_hint=h&{rest}"
    assert await url_of(entra, hint=None) == base + rest
    assert "logout_hint" not in str(await url_of(entra, hint=id_token(login_hint=1)))


# What else must be there.


@pytest.mark.parametrize("preset", ["cognito", "login_gov", "oracle", "franceconnect"])
async def test_without_a_return_address_the_logout_stays_local(preset: str) -> None:
    """These refuse a request that leads nowhere."""
    with pytest.raises(ProviderError, match="without post_logout_redirect_uri") as caught:
        await url_of(URLS[preset][0], post_logout_redirect_uri=None, state=None)
    assert caught.value.code == "missing_parameter"


async def test_without_a_session_id_workos_stays_local() -> None:
    """The endpoint knows sessions by nothing else."""
    with pytest.raises(ProviderError, match="without session_id"):
        await url_of(presets.workos(), hint=None, login=Login(sub="u1"))


async def test_login_gov_gets_no_state_that_it_would_refuse() -> None:
    """It wants 22 characters or none."""
    url = await url_of(presets.login_gov("app"), state="s" * 21)
    assert url == f"https://secure.login.gov/openid_connect/logout?client_id=app&post_logout_redirect_uri={SENT_RETURN}"


async def test_franceconnect_gets_a_state_of_its_own_where_there_is_none() -> None:
    """State is mandatory there, and nobody compares this one, so it must not be guessable from another."""
    provider, url = URLS["franceconnect"]
    first, second = [str(await url_of(provider, state=None)) for _ in range(2)]
    assert first.startswith(url.removesuffix(STATE))
    assert len(first.rpartition("state=")[2]) >= 22
    assert first != second


async def test_a_vendor_whose_discovery_has_no_endpoint_gives_none() -> None:
    """An older Dex has none, and the logout stays local."""
    for make in (presets.dex, presets.franceconnect, presets.fusionauth):
        assert await url_of(make("https://silent.example.com", "app")) is None
    assert await url_of(presets.dex("https://silent.example.com", "app"), hint=None) is None


async def test_local_only_has_no_url() -> None:
    """The provider's own session lives on, as it must."""
    google = presets.local_only("google", issuer="https://accounts.google.com")
    assert (google.name, google.issuer) == ("google", "https://accounts.google.com")
    assert await url_of(google) is None


# Names and issuers, by which a login finds its provider.


@pytest.mark.parametrize(
    ("provider", "issuer"),
    [
        (presets.auth0("acme.eu.auth0.com", "app"), "https://acme.eu.auth0.com/"),
        (presets.auth0_legacy("acme.eu.auth0.com", "app"), "https://acme.eu.auth0.com/"),
        (presets.login_gov("app"), "https://secure.login.gov/"),
        (presets.login_gov("app", host="idp.int.example.gov"), "https://idp.int.example.gov/"),
        (presets.entra(TENANT, "app"), f"https://login.microsoftonline.com/{TENANT}/v2.0"),
        (presets.entra("acme.onmicrosoft.com", "app"), None),
        (
            presets.keycloak_legacy("https://id.example.com/auth", "acme", "app"),
            "https://id.example.com/auth/realms/acme",
        ),
        (presets.authentik("https://a.example.com/", "dash", "app"), "https://a.example.com/application/o/dash/"),
        (presets.okta("acme.okta.com", "app"), "https://acme.okta.com"),
        (presets.okta("acme.okta.com", "app", authorization_server="x"), "https://acme.okta.com/oauth2/x"),
        (presets.onelogin("acme", "app"), "https://acme.onelogin.com/oidc/2"),
        (
            presets.cognito("a.example.com", "app", issuer="https://cognito.example.com/pool"),
            "https://cognito.example.com/pool",
        ),
        (presets.salesforce("acme.my.salesforce.com"), "https://acme.my.salesforce.com"),
    ],
)
def test_the_issuer_is_the_one_in_the_vendors_id_tokens(provider: Any, issuer: str | None) -> None:
    """It ties a login to its provider, and None where it cannot be told."""
    assert provider.issuer == issuer


def test_options_reach_the_provider() -> None:
    """A preset with discovery takes logout tokens as OIDCProvider does."""
    provider: Any = presets.auth0("acme.eu.auth0.com", "app", client_secret="secret", name="auth0", algorithm="ES256")
    assert (provider.name, provider.client_secret, provider.algorithm) == ("auth0", "secret", "ES256")
    assert presets.cognito("a.example.com", "app", name="pool").name == "pool"


# Malformed arguments.

BAD_HOSTS = [
    "",
    "https://acme.example.com",
    "acme.example.com/",
    "acme.example.com/x",
    "a b",
    "a@b",
    "a?b",
    "a#b",
    "a\\b",
    "a:",
    ".",
]
BAD_URLS = [
    "",
    "id.example.com",
    "http://id.example.com",
    "https://",
    "https://a@b",
    "https://a?b",
    "https://a#b",
    "https://a b",
]
BAD_NAMES = ["", " ", "a/b", "a\\b", ".", "..", "a\nb"]
HOST_PRESETS: list[Callable[[str], Any]] = [
    lambda value: presets.cognito(value, "app"),
    lambda value: presets.auth0(value, "app"),
    lambda value: presets.auth0_legacy(value, "app"),
    lambda value: presets.login_gov("app", host=value),
    lambda value: presets.entra("acme", "app", authority_host=value),
    lambda value: presets.workos(api_host=value),
    lambda value: presets.salesforce(value),
    lambda value: presets.okta(value, "app"),
    lambda value: presets.onelogin(value, "app"),
]
URL_PRESETS: list[Callable[[str], Any]] = [
    lambda value: presets.keycloak_legacy(value, "acme", "app"),
    lambda value: presets.pingfederate_slo(value),
    lambda value: presets.authelia(value),
    lambda value: presets.oracle("https://identity.example.com", "app", tenant=value),
    lambda value: presets.authentik(value, "dash", "app"),
    lambda value: presets.hydra(value, "app"),
    lambda value: presets.dex(value, "app"),
    lambda value: presets.duende(value, "app"),
    lambda value: presets.fusionauth(value, "app"),
    lambda value: presets.franceconnect(value, "app"),
]
NAME_PRESETS: list[Callable[[str], Any]] = [
    lambda value: presets.entra(value, "app"),
    lambda value: presets.azure_b2c(value, "policy", "app"),
    lambda value: presets.azure_b2c("acme", value, "app"),
    lambda value: presets.keycloak_legacy("https://id.example.com/auth", value, "app"),
    lambda value: presets.authentik("https://id.example.com", value, "app"),
    lambda value: presets.okta("acme.okta.com", "app", authorization_server=value),
]
CLIENT_ID_PRESETS: list[Callable[[str], Any]] = [
    lambda value: presets.cognito("a.example.com", value),
    lambda value: presets.auth0("a.example.com", value),
    lambda value: presets.auth0_legacy("a.example.com", value),
    lambda value: presets.login_gov(value),
    lambda value: presets.entra("acme", value),
    lambda value: presets.azure_b2c("acme", "policy", value),
    lambda value: presets.okta("a.example.com", value),
]


@pytest.mark.parametrize("make", HOST_PRESETS)
def test_a_host_is_a_host_and_no_more(make: Callable[[str], Any]) -> None:
    """A URL in its place would make a URL of something else."""
    for value in BAD_HOSTS:
        with pytest.raises(ConfigurationError, match="expected a host such as"):
            make(value)
    make("acme")


@pytest.mark.parametrize("make", URL_PRESETS)
def test_a_base_is_an_https_url_without_query(make: Callable[[str], Any]) -> None:
    """Whatever is appended to it must land in its path."""
    for value in BAD_URLS:
        with pytest.raises(ConfigurationError, match="expected a"):
            make(value)
    make("http://localhost:8080")


@pytest.mark.parametrize("make", NAME_PRESETS)
def test_a_name_is_one_segment_of_a_path(make: Callable[[str], Any]) -> None:
    """A slash in it would name another endpoint."""
    for value in BAD_NAMES:
        with pytest.raises(ConfigurationError, match="expected"):
            make(value)
    make("acme")


@pytest.mark.parametrize("make", CLIENT_ID_PRESETS)
def test_a_client_id_is_not_empty(make: Callable[[str], Any]) -> None:
    """It is what the vendor knows the app by."""
    with pytest.raises(ConfigurationError, match="client_id=''"):
        make("")


def test_local_only_has_a_name_and_an_issuer_that_are_text() -> None:
    """A login names it by these."""
    with pytest.raises(ConfigurationError, match="name=''"):
        presets.local_only("")
    with pytest.raises(ConfigurationError, match="issuer=1"):
        presets.local_only("google", issuer=1)  # type: ignore[arg-type]

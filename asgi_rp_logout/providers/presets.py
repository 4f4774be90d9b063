"""Configured providers for vendors that deviate from RP-Initiated Logout 1.0.

What follows the specification needs no preset: ``OIDCProvider`` serves Keycloak 18 and newer, Zitadel, Logto, PingOne,
OpenIddict, WSO2 and others. Each docstring has the URL and where it is from: *source* (the vendor's code),
*documentation* (the vendor's), *third party* (code that talks to it), or *unverified*. Arguments have the vendor's own
names; ``**options`` are those of ``OIDCProvider``. All raise ``ConfigurationError`` for values that make no such URL. A
vendor that deviates in a new way needs a new field of ``vendors.Deviation``.
"""

from __future__ import annotations

import re
from typing import Unpack
from urllib.parse import quote

from ..errors import ConfigurationError, ProviderError
from ..protocol.end_session import checked_url
from ..protocol.return_target import origin_of
from .oidc import OIDCProvider
from .standard import StaticProvider
from .vendors import Deviation, DiscoveredVendor, LocalOnly, Options, StaticVendor

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def cognito(domain: str, client_id: str, *, issuer: str | None = None, name: str | None = None) -> StaticProvider:
    """Log out of an Amazon Cognito user pool (documentation). No hint, no state.

    ``https://{domain}/logout?client_id={client_id}&logout_uri={return}``. ``domain`` is the pool's own, such as
    ``acme.auth.eu-west-1.amazoncognito.com``. The endpoint in its discovery document refuses the standard parameters.
    """
    deviation = Deviation(
        vendor="Amazon Cognito",
        endpoint=f"{_origin(domain)}/logout",
        only={"client_id": "client_id", "post_logout_redirect_uri": "logout_uri"},
        needs=("post_logout_redirect_uri",),
    )
    return StaticVendor(deviation, client_id=_text(client_id, "client_id"), issuer=issuer, name=name)


def auth0(domain: str, client_id: str, *, federated: bool = False, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Auth0 by OpenID Connect (documentation).

    ``https://{domain}/oidc/logout`` and the standard parameters, also where discovery lacks it (tenants older than
    November 2023). Without an ID Token ``logout_hint`` is the login's ``sid``. ``federated`` logs out upstream too.
    """
    base = _origin(domain)
    deviation = Deviation(
        vendor="Auth0", endpoint=f"{base}/oidc/logout", extra=_federated(federated), sid_as_logout_hint=True
    )
    return DiscoveredVendor(f"{base}/", client_id, deviation, **options)


def auth0_legacy(domain: str, client_id: str, *, federated: bool = False, name: str | None = None) -> StaticProvider:
    """Log out of Auth0 by its older endpoint (source of its SDKs). No hint, no state.

    ``https://{domain}/v2/logout?client_id={client_id}&returnTo={return}``, and ``&federated``, a bare name.
    """
    base = _origin(domain)
    deviation = Deviation(
        vendor="Auth0",
        endpoint=f"{base}/v2/logout",
        only={"client_id": "client_id", "post_logout_redirect_uri": "returnTo"},
        extra=_federated(federated),
    )
    return StaticVendor(deviation, client_id=_text(client_id, "client_id"), issuer=f"{base}/", name=name)


def login_gov(client_id: str, *, host: str = "secure.login.gov", name: str | None = None) -> StaticProvider:
    """Log out of Login.gov (source and documentation; the host is unverified). Never a hint: it is refused.

    ``https://{host}/openid_connect/logout?client_id={client_id}&post_logout_redirect_uri={return}&state={state}``, the
    state left out under 22 characters, which are refused too.
    """
    base = _origin(host, "host")
    deviation = Deviation(
        vendor="Login.gov",
        endpoint=f"{base}/openid_connect/logout",
        without=("id_token_hint", "logout_hint"),
        needs=("post_logout_redirect_uri",),
        shortest_state=22,
    )
    return StaticVendor(deviation, client_id=_text(client_id, "client_id"), issuer=f"{base}/", name=name)


def entra(
    tenant: str, client_id: str, *, authority_host: str = "login.microsoftonline.com", name: str | None = None
) -> StaticProvider:
    """Log out of Microsoft Entra ID (documentation).

    ``https://{authority_host}/{tenant}/oauth2/v2.0/logout`` and the standard parameters; ``logout_hint`` is the ID
    Token's ``login_hint`` claim, an optional claim to switch on there: without it an account picker appears.
    """
    base = f"{_origin(authority_host, 'authority_host')}/{_segment(tenant, 'tenant')}"
    # The issuer contains the id of the tenant. If the tenant is given by a name, the id is not known.
    issuer = f"{base}/v2.0" if _GUID.fullmatch(tenant) else None
    deviation = Deviation(vendor="Microsoft Entra ID", endpoint=f"{base}/oauth2/v2.0/logout", login_hint_claim=True)
    return StaticVendor(deviation, client_id=_text(client_id, "client_id"), issuer=issuer, name=name)


def azure_b2c(
    tenant: str,
    policy: str,
    client_id: str,
    *,
    domain: str | None = None,
    policy_in_query: bool = False,
    issuer: str | None = None,
    name: str | None = None,
) -> StaticProvider:
    """Log out of Azure AD B2C (third party; the path is unverified).

    ``https://{tenant}.b2clogin.com/{tenant}.onmicrosoft.com/{policy}/oauth2/v2.0/logout`` or ``.../logout?p={policy}``,
    and the standard parameters. Switch on "Require ID Token in logout requests" there: without it B2C returns anywhere.
    """
    tenant, policy = _segment(tenant, "tenant"), _segment(policy, "policy")
    base = f"{_origin(domain or f'{tenant}.b2clogin.com')}/{tenant}.onmicrosoft.com"
    path = f"/oauth2/v2.0/logout?p={policy}" if policy_in_query else f"/{policy}/oauth2/v2.0/logout"
    deviation = Deviation(vendor="Azure AD B2C", endpoint=base + path)
    return StaticVendor(deviation, client_id=_text(client_id, "client_id"), issuer=issuer, name=name)


def keycloak_legacy(auth_server_url: str, realm: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Keycloak before 18 (source). Never a hint: an expired one is an error there.

    ``{auth_server_url}/realms/{realm}/protocol/openid-connect/logout?redirect_uri={return}&state={state}``;
    ``auth_server_url`` ends in ``/auth``.
    """
    issuer = f"{_base_url(auth_server_url, 'auth_server_url')}/realms/{_segment(realm, 'realm')}"
    deviation = Deviation(
        vendor="Keycloak before 18",
        endpoint=f"{issuer}/protocol/openid-connect/logout",
        only={"post_logout_redirect_uri": "redirect_uri", "state": "state"},
    )
    return DiscoveredVendor(issuer, client_id, deviation, **options)


def pingfederate_slo(base: str, *, name: str | None = None) -> StaticProvider:
    """Log out of an older PingFederate (third party): ``{base}/idp/startSLO.ping?TargetResource={return}``.

    ``base`` is its base URL and its issuer. Newer versions follow the specification: ``OIDCProvider``.
    """
    issuer = _base_url(base, "base")
    only = {"post_logout_redirect_uri": "TargetResource"}
    return StaticVendor(
        Deviation(vendor="PingFederate", endpoint=f"{issuer}/idp/startSLO.ping", only=only), issuer=issuer, name=name
    )


def authelia(base: str, *, name: str | None = None) -> StaticProvider:
    """Log out of Authelia's portal (source): ``{base}/logout?rd={return}``, the return in a domain of its cookies."""
    issuer = _base_url(base, "base")
    only = {"post_logout_redirect_uri": "rd"}
    return StaticVendor(Deviation(vendor="Authelia", endpoint=f"{issuer}/logout", only=only), issuer=issuer, name=name)


def workos(*, api_host: str = "api.workos.com", issuer: str | None = None, name: str | None = None) -> StaticProvider:
    """Log out of WorkOS AuthKit (third party).

    ``https://{api_host}/user_management/sessions/logout?return_to={return}&session_id={sid}``. ``sid`` is a claim of
    the access token: give it to ``remember_login(sid=...)``. Without it the logout stays a local one.
    """
    deviation = Deviation(
        vendor="WorkOS AuthKit",
        endpoint=f"{_origin(api_host, 'api_host')}/user_management/sessions/logout",
        only={"post_logout_redirect_uri": "return_to"},
        sid_parameter="session_id",
        needs=("session_id",),
    )
    return StaticVendor(deviation, issuer=issuer, name=name)


def salesforce(my_domain: str, *, name: str | None = None) -> StaticProvider:
    """Log out of Salesforce (third party, unverified): ``https://{my_domain}/services/auth/idp/oidc/logout``, bare.

    ``my_domain`` is a host such as ``acme.my.salesforce.com``. The return address is set in the connected app.
    """
    base = _origin(my_domain, "my_domain")
    deviation = Deviation(vendor="Salesforce", endpoint=f"{base}/services/auth/idp/oidc/logout", only={})
    return StaticVendor(deviation, issuer=base, name=name)


def franceconnect(issuer: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of FranceConnect or ProConnect (third party): hint, return and state are all three mandatory.

    Discovered, ``https://{host}/api/v2/session/end``; a state is invented where none has to come back.
    """
    deviation = Deviation(needs=("id_token_hint", "post_logout_redirect_uri", "state"))
    return DiscoveredVendor(issuer, client_id, deviation, **options)


proconnect = franceconnect


def okta(
    domain: str, client_id: str, *, authorization_server: str | None = None, **options: Unpack[Options]
) -> OIDCProvider:
    """Log out of Okta (documentation; parameters from the source of its SDK). Local without an ID Token.

    ``https://{domain}/oauth2/{authorization_server}/v1/logout?id_token_hint=...&post_logout_redirect_uri=...&state=...``,
    or ``/oauth2/v1/logout`` for the organisation's own server.
    """
    base = issuer = _origin(domain)
    if authorization_server is not None:
        issuer = f"{base}/oauth2/{_segment(authorization_server, 'authorization_server')}"
    deviation = Deviation(
        vendor="Okta",
        endpoint=f"{base}/oauth2/v1/logout" if issuer == base else f"{issuer}/v1/logout",
        without=("client_id", "logout_hint"),
        needs=("id_token_hint",),
    )
    return DiscoveredVendor(issuer, client_id, deviation, **options)


def oracle(issuer: str, client_id: str, *, tenant: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Oracle Identity Cloud (documentation). Local without an ID Token or a return address.

    ``{tenant}/oauth2/v1/userlogout`` and the standard parameters; ``tenant`` is the URL of the tenant.
    """
    deviation = Deviation(
        vendor="Oracle Identity Cloud",
        endpoint=f"{_base_url(tenant, 'tenant')}/oauth2/v1/userlogout",
        needs=("id_token_hint", "post_logout_redirect_uri"),
    )
    return DiscoveredVendor(issuer, client_id, deviation, **options)


def hydra(issuer: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Ory Hydra (source): ``{issuer}/oauth2/sessions/logout``, bare without an ID Token.

    Without one it answers 400 to a return address, and to a state alone.
    """
    return DiscoveredVendor(issuer, client_id, Deviation(bare_without_hint=True), **options)


def dex(issuer: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Dex, with its sessions enabled (source): ``{issuer}/logout``, bare without an ID Token.

    At the end it shows a page with a link to the return address, and does not redirect.
    """
    return DiscoveredVendor(issuer, client_id, Deviation(bare_without_hint=True), **options)


def duende(issuer: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Duende IdentityServer (source): ``{issuer}/connect/endsession``, bare without an ID Token.

    Without one it reads no other parameter.
    """
    return DiscoveredVendor(
        issuer, client_id, Deviation(vendor="Duende IdentityServer", bare_without_hint=True), **options
    )


def authentik(base: str, slug: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of authentik (source): ``{base}/application/o/{slug}/end-session/``, bare without an ID Token.

    Its default invalidation flow ends no session: add a User Logout stage there (documentation).
    """
    issuer = f"{_base_url(base, 'base')}/application/o/{_segment(slug, 'slug')}/"
    return DiscoveredVendor(issuer, client_id, Deviation(vendor="authentik", bare_without_hint=True), **options)


def onelogin(subdomain: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of OneLogin (documentation): ``https://{subdomain}.onelogin.com/oidc/2/logout``, bare without a hint."""
    issuer = f"{_origin(f'{subdomain}.onelogin.com', 'subdomain')}/oidc/2"
    return DiscoveredVendor(issuer, client_id, Deviation(vendor="OneLogin", bare_without_hint=True), **options)


def fusionauth(issuer: str, client_id: str, *, id_token_hint: bool = True, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of FusionAuth (documentation): ``{issuer}/oauth2/logout`` and the standard parameters.

    ``id_token_hint=False`` for 1.60 and newer, where an expired one is an error (its public reports).
    """
    deviation = Deviation(vendor="FusionAuth", without=() if id_token_hint else ("id_token_hint",))
    return DiscoveredVendor(issuer, client_id, deviation, **options)


def local_only(name: str, *, issuer: str | None = None) -> LocalOnly:
    """Name a provider without an end-session endpoint, whose logins end here and nowhere else.

    Google, GitHub, GitLab, Apple, LinkedIn, Discord, Slack, LINE, Yahoo! Japan, Kanidm, Clerk, Stytch, Supabase,
    Firebase and others, from their documentation or source; some unverified.
    """
    if issuer is not None and not isinstance(issuer, str):
        raise ConfigurationError(f"issuer={issuer!r}: expected the issuer of its ID Tokens, or None")
    return LocalOnly(name=name, issuer=issuer)


def _federated(wanted: bool) -> dict[str, str]:
    return {"federated": ""} if wanted else {}


# The arguments. Each must be what it says and no more: a URL in place of a host would make a URL of something else.


def _origin(host: str, what: str = "domain") -> str:
    """Return ``https://host``. Raises ``ConfigurationError`` if ``host`` is not a host, with or without a port."""
    origin = origin_of(f"https://{host}")
    if origin is None or str(origin) != f"https://{host}".lower():
        raise ConfigurationError(f"{what}={host!r}: expected a host such as 'login.example.com', without https://")
    return str(origin)


def _base_url(url: str, what: str) -> str:
    """Return an https URL without the slash at its end. Raises ``ConfigurationError``."""
    try:
        checked = checked_url(url)
    except ProviderError as error:
        raise ConfigurationError(f"{what}={url!r}: expected an https URL (http on a loopback host)") from error
    if "?" in url or "#" in url:
        raise ConfigurationError(f"{what}={url!r}: expected a URL without query and fragment")
    return checked.rstrip("/")


def _text(value: str, what: str) -> str:
    """Return a value that can stand in a query. Raises ``ConfigurationError`` if it is empty or not printable."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ConfigurationError(f"{what}={value!r}: expected printable text")
    return value


def _segment(value: str, what: str) -> str:
    """Return a name, encoded as one segment of a path. Raises ``ConfigurationError``."""
    if "/" in _text(value, what) or "\\" in value or value in (".", ".."):
        raise ConfigurationError(f"{what}={value!r}: expected a name, not a path")
    return quote(value, safe="")

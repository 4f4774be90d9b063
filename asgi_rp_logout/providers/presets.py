"""Configured providers for vendors that deviate from RP-Initiated Logout 1.0.

What follows the specification needs no preset: ``OIDCProvider`` serves Keycloak 18 and newer, Zitadel, Logto, PingOne,
OpenIddict, WSO2 and others. Each docstring has the URL and where it is from: *source* (the vendor's code),
*documentation* (the vendor's), *third party* (code that talks to it), or *unverified*. Arguments have the vendor's own
names; ``**options`` are those of ``OIDCProvider``. All raise ``ConfigurationError`` for values that make no such URL.
"""

from __future__ import annotations

import re
from typing import Any, TypedDict, Unpack

from ..errors import ConfigurationError
from . import shapes
from .oidc import OIDCProvider
from .shapes import base_url, only, origin_at, segment, text
from .standard import StaticProvider

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_ALL = ("id_token_hint", "post_logout_redirect_uri", "state")


class Options(TypedDict, total=False):
    """Name the options that a preset passes on to ``OIDCProvider``."""

    client_secret: str | None
    name: str | None
    algorithm: str
    require_exp: bool
    revoke: object
    decryption_key: Any


def cognito(domain: str, client_id: str, *, issuer: str | None = None, name: str | None = None) -> StaticProvider:
    """Log out of an Amazon Cognito user pool (documentation). No hint, no state.

    ``https://{domain}/logout?client_id={client_id}&logout_uri={return}``. ``domain`` is the pool's own, such as
    ``acme.auth.eu-west-1.amazoncognito.com``. The endpoint in its discovery document refuses the standard parameters.
    """
    names = only(client_id="client_id", post_logout_redirect_uri="logout_uri")
    given: dict[str, Any] = {"client_id": text(client_id, "client_id"), "parameters": names, "name": name}
    return shapes.Demanding(f"{origin_at(domain)}/logout", issuer=issuer, **given)


def auth0(domain: str, client_id: str, *, federated: bool = False, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Auth0 by OpenID Connect (documentation).

    ``https://{domain}/oidc/logout`` and the standard parameters, also where discovery lacks it (tenants older than
    November 2023). Without an ID Token ``logout_hint`` is the login's ``sid``. ``federated`` logs out upstream too.
    """
    base = origin_at(domain)
    given: dict[str, Any] = {"endpoint": f"{base}/oidc/logout", "extra": _federated(federated)}
    return shapes.SessionHint(f"{base}/", client_id, **given, **options)


def auth0_legacy(domain: str, client_id: str, *, federated: bool = False, name: str | None = None) -> StaticProvider:
    """Log out of Auth0 by its older endpoint (source of its SDKs). No hint, no state.

    ``https://{domain}/v2/logout?client_id={client_id}&returnTo={return}``, and ``&federated``, a bare name.
    """
    base, names = origin_at(domain), only(client_id="client_id", post_logout_redirect_uri="returnTo")
    given: dict[str, Any] = {"client_id": text(client_id, "client_id"), "parameters": names, "name": name}
    return StaticProvider(f"{base}/v2/logout", issuer=f"{base}/", extra=_federated(federated), **given)


def login_gov(client_id: str, *, host: str = "secure.login.gov", name: str | None = None) -> StaticProvider:
    """Log out of Login.gov (source and documentation; the host is unverified). Never a hint: it is refused.

    ``https://{host}/openid_connect/logout?client_id={client_id}&post_logout_redirect_uri={return}&state={state}``, the
    state left out under 22 characters, which are refused too.
    """
    base = origin_at(host, "host")
    names: dict[str, str | None] = {"id_token_hint": None, "logout_hint": None}
    given: dict[str, Any] = {"client_id": text(client_id, "client_id"), "parameters": names, "name": name}
    return shapes.Demanding(f"{base}/openid_connect/logout", issuer=f"{base}/", shortest_state=22, **given)


def entra(
    tenant: str, client_id: str, *, authority_host: str = "login.microsoftonline.com", name: str | None = None
) -> StaticProvider:
    """Log out of Microsoft Entra ID (documentation).

    ``https://{authority_host}/{tenant}/oauth2/v2.0/logout`` and the standard parameters; ``logout_hint`` is the ID
    Token's ``login_hint`` claim, an optional claim to switch on there: without it an account picker appears.
    """
    base = f"{origin_at(authority_host, 'authority_host')}/{segment(tenant, 'tenant')}"
    # Only the issuer of a tenant that is named by its id can be told beforehand.
    issuer = f"{base}/v2.0" if _GUID.fullmatch(tenant) else None
    client_id = text(client_id, "client_id")
    return shapes.LoginHintClaim(f"{base}/oauth2/v2.0/logout", client_id=client_id, name=name, issuer=issuer)


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
    tenant, policy = segment(tenant, "tenant"), segment(policy, "policy")
    base = f"{origin_at(domain or f'{tenant}.b2clogin.com')}/{tenant}.onmicrosoft.com"
    path = f"/oauth2/v2.0/logout?p={policy}" if policy_in_query else f"/{policy}/oauth2/v2.0/logout"
    return StaticProvider(base + path, client_id=text(client_id, "client_id"), name=name, issuer=issuer)


def keycloak_legacy(auth_server_url: str, realm: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Keycloak before 18 (source). Never a hint: an expired one is an error there.

    ``{auth_server_url}/realms/{realm}/protocol/openid-connect/logout?redirect_uri={return}&state={state}``;
    ``auth_server_url`` ends in ``/auth``.
    """
    issuer = f"{base_url(auth_server_url, 'auth_server_url')}/realms/{segment(realm, 'realm')}"
    names = only(post_logout_redirect_uri="redirect_uri", state="state")
    endpoint = f"{issuer}/protocol/openid-connect/logout"
    return shapes.AllOrNothing(issuer, client_id, endpoint=endpoint, parameters=names, **options)


def pingfederate_slo(base: str, *, name: str | None = None) -> StaticProvider:
    """Log out of an older PingFederate (third party): ``{base}/idp/startSLO.ping?TargetResource={return}``.

    ``base`` is its base URL and its issuer. Newer versions follow the specification: ``OIDCProvider``.
    """
    issuer, names = base_url(base, "base"), only(post_logout_redirect_uri="TargetResource")
    return StaticProvider(f"{issuer}/idp/startSLO.ping", name=name, parameters=names, issuer=issuer)


def authelia(base: str, *, name: str | None = None) -> StaticProvider:
    """Log out of Authelia's portal (source): ``{base}/logout?rd={return}``, the return in a domain of its cookies."""
    issuer, names = base_url(base, "base"), only(post_logout_redirect_uri="rd")
    return StaticProvider(f"{issuer}/logout", name=name, parameters=names, issuer=issuer)


def workos(*, api_host: str = "api.workos.com", issuer: str | None = None, name: str | None = None) -> StaticProvider:
    """Log out of WorkOS AuthKit (third party).

    ``https://{api_host}/user_management/sessions/logout?return_to={return}&session_id={sid}``. ``sid`` is a claim of
    the access token: give it to ``remember_login(sid=...)``. Without it the logout stays a local one.
    """
    endpoint = f"{origin_at(api_host, 'api_host')}/user_management/sessions/logout"
    names = only(post_logout_redirect_uri="return_to")
    return shapes.SessionId(endpoint, name=name, parameters=names, issuer=issuer)


def salesforce(my_domain: str, *, name: str | None = None) -> StaticProvider:
    """Log out of Salesforce (third party, unverified): ``https://{my_domain}/services/auth/idp/oidc/logout``, bare.

    ``my_domain`` is a host such as ``acme.my.salesforce.com``. The return address is set in the connected app.
    """
    base = origin_at(my_domain, "my_domain")
    return StaticProvider(f"{base}/services/auth/idp/oidc/logout", name=name, parameters=only(), issuer=base)


def franceconnect(issuer: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of FranceConnect or ProConnect (third party): hint, return and state are all three mandatory.

    Discovered, ``https://{host}/api/v2/session/end``; a state is invented where none has to come back.
    """
    return shapes.AllOrNothing(issuer, client_id, needs=_ALL, **options)


proconnect = franceconnect


def okta(
    domain: str, client_id: str, *, authorization_server: str | None = None, **options: Unpack[Options]
) -> OIDCProvider:
    """Log out of Okta (documentation; parameters from the source of its SDK). Local without an ID Token.

    ``https://{domain}/oauth2/{authorization_server}/v1/logout?id_token_hint=...&post_logout_redirect_uri=...&state=...``,
    or ``/oauth2/v1/logout`` for the organisation's own server.
    """
    base = issuer = origin_at(domain)
    if authorization_server is not None:
        issuer = f"{base}/oauth2/{segment(authorization_server, 'authorization_server')}"
    endpoint = f"{base}/oauth2/v1/logout" if issuer == base else f"{issuer}/v1/logout"
    given: dict[str, Any] = {"needs": ("id_token_hint",), "parameters": {"client_id": None, "logout_hint": None}}
    return shapes.AllOrNothing(issuer, client_id, endpoint=endpoint, **given, **options)


def oracle(issuer: str, client_id: str, *, tenant: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Oracle Identity Cloud (documentation). Local without an ID Token or a return address.

    ``{tenant}/oauth2/v1/userlogout`` and the standard parameters; ``tenant`` is the URL of the tenant.
    """
    endpoint = f"{base_url(tenant, 'tenant')}/oauth2/v1/userlogout"
    return shapes.AllOrNothing(issuer, client_id, needs=_ALL[:2], endpoint=endpoint, **options)


def hydra(issuer: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Ory Hydra (source): ``{issuer}/oauth2/sessions/logout``, bare without an ID Token."""
    return shapes.ReturnOnlyWithHint(issuer, client_id, **options)


def dex(issuer: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Dex, with its sessions enabled (source): ``{issuer}/logout``, bare without an ID Token."""
    return shapes.ReturnOnlyWithHint(issuer, client_id, **options)


def duende(issuer: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of Duende IdentityServer (source): ``{issuer}/connect/endsession``, bare without an ID Token."""
    return shapes.ReturnOnlyWithHint(issuer, client_id, **options)


def authentik(base: str, slug: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of authentik (source): ``{base}/application/o/{slug}/end-session/``, bare without an ID Token.

    Its default invalidation flow ends no session: add a User Logout stage there (documentation).
    """
    issuer = f"{base_url(base, 'base')}/application/o/{segment(slug, 'slug')}/"
    return shapes.ReturnOnlyWithHint(issuer, client_id, **options)


def onelogin(subdomain: str, client_id: str, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of OneLogin (documentation): ``https://{subdomain}.onelogin.com/oidc/2/logout``, bare without a hint."""
    issuer = f"{origin_at(f'{subdomain}.onelogin.com', 'subdomain')}/oidc/2"
    return shapes.ReturnOnlyWithHint(issuer, client_id, **options)


def fusionauth(issuer: str, client_id: str, *, id_token_hint: bool = True, **options: Unpack[Options]) -> OIDCProvider:
    """Log out of FusionAuth (documentation): ``{issuer}/oauth2/logout`` and the standard parameters.

    ``id_token_hint=False`` for 1.60 and newer, where an expired one is an error (its public reports).
    """
    return OIDCProvider(issuer, client_id, parameters=None if id_token_hint else {"id_token_hint": None}, **options)


def local_only(name: str, *, issuer: str | None = None) -> shapes.LocalOnly:
    """Name a provider without an end-session endpoint, whose logins end here and nowhere else.

    Google, GitHub, GitLab, Apple, LinkedIn, Discord, Slack, LINE, Yahoo! Japan, Kanidm, Clerk, Stytch, Supabase,
    Firebase and others, from their documentation or source; some unverified.
    """
    if issuer is not None and not isinstance(issuer, str):
        raise ConfigurationError(f"issuer={issuer!r}: expected the issuer of its ID Tokens, or None")
    return shapes.LocalOnly(name=name, issuer=issuer)


def _federated(wanted: bool) -> dict[str, str]:
    return {"federated": ""} if wanted else {}

"""Where each vendor wants the addresses that an app registers, and how a vendor is known by its metadata.

Keycloak's were tried; the others were not, and consoles change. ``docs/doctor.md`` has the same table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NONE = "-"
"""The vendor has no such thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """Name the fields of a vendor's console, and what to know beside them.

    ``pattern`` finds the vendor in an issuer, an end-session endpoint or the address of a discovery document; a vendor
    without one is known by its preset only.
    ``needs_hint``: it comes back only from a logout with an ID Token, so it cannot be asked. ``preset``: the only way
    that works.
    """

    name: str
    pattern: str = ""
    redirect: str
    post_logout: str
    back_channel: str
    front_channel: str
    advice: str = ""
    needs_hint: bool = False
    preset: str = ""

    def field_for(self, kind: str) -> str:
        """Return the field for one kind of address."""
        field: str = getattr(self, kind)
        return field


STANDARD = Vendor(
    name="the provider",
    redirect="redirect_uris",
    post_logout="post_logout_redirect_uris",
    back_channel="backchannel_logout_uri",
    front_channel="frontchannel_logout_uri",
)
"""The names in the specifications, for everybody else."""

VENDORS = (
    Vendor(
        name="Keycloak",
        pattern=r"/realms/[^/]+",
        redirect="Valid redirect URIs",
        post_logout="Valid post logout redirect URIs",
        back_channel="Backchannel logout URL",
        front_channel="Front-channel logout URL",
        advice="Switch 'Front channel logout' off: while it is on, Keycloak sends no logout tokens. Leave 'Backchannel "
        "logout session required' on.",
    ),
    Vendor(
        name="authentik",
        pattern=r"/application/o/[^/]+/",
        redirect="Redirect URIs/Origins",
        post_logout="Redirect URIs/Origins, of the type Post Logout",
        back_channel="Logout URI, with the method Back-channel",
        front_channel="Logout URI, with the method Front-channel",
        advice="Its default invalidation flow leaves the session at authentik alone: add a User Logout stage.",
        needs_hint=True,
    ),
    Vendor(
        name="Auth0",
        pattern=r"^https://[^/]+\.auth0\.com/|^https://[^/:]+/(oidc|v2)/logout$",
        redirect="Allowed Callback URLs",
        post_logout="Allowed Logout URLs",
        back_channel="Back-Channel Logout URI",
        front_channel=NONE,
    ),
    Vendor(
        name="Microsoft Entra ID",
        pattern=r"^https://(login\.microsoftonline\.com|sts\.windows\.net|[^/]+\.ciamlogin\.com)/",
        redirect="Redirect URIs (Web)",
        post_logout="Redirect URIs (Web): it must be one of them",
        back_channel=NONE,
        front_channel="Front-channel logout URL",
        advice="Add the optional claim login_hint to the ID Token, and use presets.entra. Otherwise users have to pick "
        "an account.",
    ),
    Vendor(
        name="Azure AD B2C",
        pattern=r"^https://[^/]+\.b2clogin\.com/",
        redirect="Redirect URIs (Web)",
        post_logout="Redirect URIs (Web): it must be one of them",
        back_channel=NONE,
        front_channel="Front-channel logout URL",
        advice="Switch on 'Require ID Token in logout requests': without it, B2C sends browsers to any address.",
        needs_hint=True,
    ),
    Vendor(
        name="Okta",
        pattern=r"^https://[^/]+\.(okta|oktapreview|okta-emea)\.com(/|$)",
        redirect="Sign-in redirect URIs",
        post_logout="Sign-out redirect URIs",
        back_channel=NONE,
        front_channel=NONE,
        advice="Logouts that start at Okta (Universal Logout) come to an endpoint of your own, which calls end_logins.",
        needs_hint=True,
    ),
    Vendor(
        name="Zitadel",
        pattern=r"/oidc/v1/end_session$",
        redirect="Redirect URIs",
        post_logout="Post Logout URIs",
        back_channel="Back-Channel Logout URI",
        front_channel=NONE,
    ),
    Vendor(
        name="Amazon Cognito",
        pattern=r"^https://(cognito-idp\.|[^/]+\.amazoncognito\.com/)",
        redirect="Allowed callback URLs",
        post_logout="Allowed sign-out URLs",
        back_channel=NONE,
        front_channel=NONE,
        preset="presets.cognito",
    ),
    Vendor(
        name="Login.gov",
        pattern=r"^https://secure\.login\.gov(/|$)",
        redirect="Redirect URIs",
        post_logout="Redirect URIs",
        back_channel=NONE,
        front_channel=NONE,
        preset="presets.login_gov",
    ),
    Vendor(
        name="Keycloak before 18",
        redirect="Valid Redirect URIs",
        post_logout="Valid Redirect URIs",
        back_channel="Backchannel Logout URL",
        front_channel=NONE,
    ),
    Vendor(
        name="Authelia",
        redirect="redirect_uris",
        post_logout=NONE,
        back_channel=NONE,
        front_channel=NONE,
        advice="The address to return to must be in a domain of Authelia's session cookies.",
    ),
    Vendor(
        name="Duende IdentityServer",
        redirect="RedirectUris",
        post_logout="PostLogoutRedirectUris",
        back_channel="BackChannelLogoutUri",
        front_channel="FrontChannelLogoutUri",
    ),
    Vendor(
        name="FusionAuth",
        redirect="Authorized redirect URLs",
        post_logout="Authorized redirect URLs",
        back_channel=NONE,
        front_channel="Logout URL",
    ),
    Vendor(
        name="OneLogin",
        pattern=r"^https://[^/]+\.onelogin\.com/",
        redirect="Redirect URIs",
        post_logout="Post Logout Redirect URIs",
        back_channel=NONE,
        front_channel=NONE,
        needs_hint=True,
    ),
    Vendor(
        name="Oracle Identity Cloud",
        pattern=r"/oauth2/v1/userlogout$",
        redirect="Redirect URL",
        post_logout="Post Logout Redirect URL",
        back_channel=NONE,
        front_channel=NONE,
        needs_hint=True,
    ),
    Vendor(
        name="PingFederate",
        pattern=r"/idp/startSLO\.ping$",
        redirect="Redirect URIs",
        post_logout="Redirect Validation, for SLO",
        back_channel=NONE,
        front_channel=NONE,
    ),
    Vendor(
        name="Salesforce",
        pattern=r"/services/auth/idp/oidc/logout$",
        redirect="Callback URL",
        post_logout="Single Logout URL",
        back_channel=NONE,
        front_channel=NONE,
    ),
    Vendor(
        name="WorkOS AuthKit",
        pattern=r"/user_management/sessions/logout$",
        redirect="Redirect URIs",
        post_logout="Sign-out redirect",
        back_channel=NONE,
        front_channel=NONE,
    ),
)


def vendor_of(*addresses: object, named: str = "") -> Vendor:
    """Return the vendor that a preset has ``named``, or else the one of these addresses; ``STANDARD`` if not known."""
    texts = [one for one in addresses if isinstance(one, str)]
    by_name = (one for one in VENDORS if one.name == named)
    by_address = (one for one in VENDORS if one.pattern and any(re.search(one.pattern, text) for text in texts))
    return next(by_name, None) or next(by_address, STANDARD)

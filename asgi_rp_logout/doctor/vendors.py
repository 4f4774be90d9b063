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

    ``pattern`` finds the vendor in an issuer, an end-session endpoint or the address of a discovery document.
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
        pattern=r"^https://[^/]+\.auth0\.com/|/oidc/logout$",
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
    ),
    Vendor(
        name="Okta",
        pattern=r"^https://[^/]+\.(okta|oktapreview|okta-emea)\.com(/|$)",
        redirect="Sign-in redirect URIs",
        post_logout="Sign-out redirect URIs",
        back_channel=NONE,
        front_channel=NONE,
        advice="For logouts that start at Okta, see Universal Logout in docs/everywhere.md.",
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
        pattern=r"^https://cognito-idp\.",
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
)


def vendor_of(*addresses: object) -> Vendor:
    """Return the vendor of a provider that has these addresses; ``STANDARD`` if it is not known."""
    texts = [one for one in addresses if isinstance(one, str)]
    known = (one for one in VENDORS if any(re.search(one.pattern, text) for text in texts))
    return next(known, STANDARD)

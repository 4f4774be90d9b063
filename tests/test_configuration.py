"""A bad configuration is refused when the middleware is built, by its value and with the form that is accepted."""

from __future__ import annotations

import inspect
import re
from typing import Any

import httpx
import pytest

from asgi_rp_logout import (
    ConfigurationError,
    Cookie,
    MemoryStore,
    OIDCProvider,
    RPLogoutMiddleware,
    StaticProvider,
    TokenRelay,
)
from tests.apps import END, page

APP = page()
GOOD_PROVIDER = StaticProvider(END, name="idp")
OIDC = OIDCProvider("https://op.example", "rp")
RELAY = TokenRelay(OIDC)
NO_PATH = ["logout", "", "//logout", "/logout?x=1", "/logout#x", "/log out", "/logout\n", "/log\\out", 7, b"/logout"]
PATTERNS = ["/auth/{x}/logout", "/a/*"]  # compared as they are, these would never match
NO_PATTERN = ["/a/*", "/{x", "/x}", "/{}/x", "/{x:nothing}/y", "/{x}/{x}", "{x}/y", "/{x}//y z", "/{x}?y", "/{x-y}"]


class NoStore:
    async def get(self, key: str) -> None: ...
    async def put(self, key: str) -> None: ...


BAD: dict[str, list[Any]] = {
    "providers": [None, "idp", b"idp", 7, GOOD_PROVIDER, StaticProvider],
    "logout_path": [*NO_PATH, *NO_PATTERN, None, ["/a", "b"], ["/a", "/{x"], ["/{x}", 7]],
    "marker_header": ["", "X Bye", "X-Bye:", "X-Bye\r\n", "Xé", 7, "Location", "set-cookie", "Content-Type"],
    "session_cookie": ["", "a b", "a;b", "__Host-", 7, None, ["s", 7], [b"s"]],
    "clear_cookies": ["", "a=b", 7, None, ["s", None]],
    "post_logout_redirect_uri": [
        "",
        "login",
        "//evil",
        "ftp://x/",
        "https://",
        "https://u@x/",
        "/a#b",
        "/a\n",
        "/é",
        7,
    ],
    "public_url": [
        *["", "app.example", "/prefix", "//x", "https://", "https://u@x", "https://x?y", "https://x#y", "https://é", 7],
        *["https://x:port", "https://x:99999", "https://x\\y", "https://x/\n", "https://[x"],
    ],
    "callback_path": [*NO_PATH, *PATTERNS],
    "backchannel_path": NO_PATH,
    "frontchannel_path": NO_PATH,
    "frontchannel_session_required": [False, None, 1, "yes"],  # False alone would open what is not there
    "login_source": ["me", 7, {}],
    "token_relay": [8765, "http://127.0.0.1:8765", OIDC, [RELAY, 7], [RELAY, TokenRelay(OIDC)]],
    "require_login": ["yes", 1, 0],
    "store": ["redis://", 7, {}, NoStore(), MemoryStore],
    "session_lifetime": [0, -1, "1", None, True, float("nan"), float("inf")],
    "freshness": [-0.1, "1", None, True, float("nan"), float("inf")],
    "on_store_error": ["", "ALLOW", None, True, ["allow"]],
    "for_fetch": ["", "xhr", None, True, ["defer"]],
    "max_url_length": [0, 499, 4000.5, "4000", None, True, float("nan"), float("inf")],
    "clear_site_data": ['"storage"', "everything", 7, None, ["storage", 7], [""]],
    "provider_timeout": [0, -1, "3", None, True, float("nan"), float("inf")],
    "on_logout": ["me", 7, {}],
    "http_client": ["https://", 7, httpx.AsyncClient, httpx.Client],
}

GOOD: dict[str, list[Any]] = {
    "providers": [[], (), [GOOD_PROVIDER, OIDC], list, iter([OIDC])],
    "logout_path": [
        "/",
        "/logout",
        "/a/b-c_d.e~f",
        "/é",
        (),
        ["/a", "/b"],
        {"/a"},
        "/{lang}/out",
        ["/{a:int}/{b}", "/b"],
    ],
    "marker_header": [None, "X-Bye", "x_bye", "logout"],
    "session_cookie": ["s", (), ["a", Cookie("b")], Cookie("__Host-s"), {"a"}],
    "clear_cookies": ["s", (), ["a", Cookie("b", domain=".example.com")]],
    "post_logout_redirect_uri": [
        None,
        "/",
        "/login",
        "/login?a=b",
        "https://x/",
        "http://x:8080/a?b=c",
        "https://[::1]/",
    ],
    "public_url": [None, "https://x", "https://x/", "http://x:8080/prefix/"],
    "callback_path": [None, "/cb"],
    "backchannel_path": [None, "/cb"],
    "frontchannel_path": [None, "/cb"],
    "frontchannel_session_required": [True],
    "login_source": [None, print],
    "token_relay": [None, RELAY, (), [RELAY, TokenRelay(OIDC, 8766)]],
    "require_login": [None, True, False],
    "store": [None, MemoryStore()],
    "session_lifetime": [1, 60.5, 10**9],
    "freshness": [0, 0.5, 60],
    "on_store_error": ["allow", "deny"],
    "for_fetch": ["defer", "json", "local"],
    "max_url_length": [500, 8000],
    "clear_site_data": [(), "storage", ["cache", "cookies", "storage", "executionContexts"], "*"],
    "provider_timeout": [0.001, 10],
    "on_logout": [None, print],
    "http_client": [None],
}


def build(**options: Any) -> RPLogoutMiddleware:
    return RPLogoutMiddleware(APP, **({"providers": [OIDC]} | options))


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_by_name_and_value_with_the_accepted_form(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"expected .+") as caught:
        build(**{option: value})
    sentence = str(caught.value)
    assert option in sentence or re.match(r"(cookie|provider) ", sentence), sentence
    names = [repr(value), type(value).__name__, getattr(value, "__name__", "-")]
    names += [repr(value[-1])] if isinstance(value, list) else []
    assert any(name in sentence for name in names), sentence


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in GOOD.items() for value in values])
def test_a_good_value_is_taken(option: str, value: Any) -> None:
    assert isinstance(build(**{option: value}), RPLogoutMiddleware)


def test_every_option_stands_in_both_tables() -> None:
    options = {
        name
        for name, parameter in inspect.signature(RPLogoutMiddleware.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert options == set(BAD) == set(GOOD)


def test_providers_are_the_only_option_that_must_be_given() -> None:
    with pytest.raises(TypeError, match="providers"):
        RPLogoutMiddleware(APP)  # type: ignore[call-arg]
    for name, parameter in inspect.signature(RPLogoutMiddleware.__init__).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert (parameter.default is parameter.empty) is (name == "providers"), name


@pytest.mark.parametrize("name", ["local", "LOCAL", "1", "true", "0", "False"])
def test_a_provider_may_not_be_called_what_the_marker_header_says_otherwise(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"provider name '{name}': expected another name"):
        build(providers=[StaticProvider("https://x/end", name=name)])


@pytest.mark.parametrize("directive", ["cookies", "*"])
def test_the_callbacks_own_cookie_is_not_to_be_cleared(directive: str) -> None:
    build(clear_site_data=directive)
    with pytest.raises(ConfigurationError, match=r"clear_site_data=.* beside a callback_path"):
        build(clear_site_data=("storage", directive), callback_path="/cb")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("algorithm", ["RS256"]),
        ("algorithm", None),
        ("require_exp", "no"),
        ("require_exp", None),
        ("client_secret", 5),
    ],
)
def test_a_bad_option_of_a_provider_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        OIDCProvider("https://op.example", "rp", **{option: value})


def test_a_near_miss_is_told_what_it_missed() -> None:
    with pytest.raises(ConfigurationError, match="'logout_paths': expected 'logout_path'"):
        RPLogoutMiddleware(APP, providers=[OIDC], logout_paths="/bye")  # type: ignore[call-arg]


def test_a_discovery_document_is_no_issuer() -> None:
    with pytest.raises(ConfigurationError, match="expected the issuer itself"):
        OIDCProvider("https://op.example/.well-known/openid-configuration", "rp")


@pytest.mark.parametrize("option", ["logout_paths", "provider", "session_cookies", "timeout"])
def test_an_unknown_option_is_refused_by_its_name(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}.*expected"):
        build(**{option: 1})


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def get_end_session_url(self) -> str:
        return END


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"providers": [Named("idp"), GOOD_PROVIDER]}, "'idp'"),
        ({"providers": [object()]}, "object"),
        ({"providers": ["https://op.example"]}, "str"),
        ({"providers": [StaticProvider]}, "StaticProvider"),
        ({"providers": {"idp": GOOD_PROVIDER}}, "str"),
        ({"callback_path": "/logout"}, "'/logout'"),
        ({"callback_path": "/de/logout", "logout_path": "/{lang}/logout"}, "'/de/logout'"),
        ({"logout_path": ["/a", "/b"], "backchannel_path": "/b"}, "'/b'"),
        ({"callback_path": "/x", "frontchannel_path": "/x"}, "'/x'"),
        ({"providers": [GOOD_PROVIDER], "backchannel_path": "/x"}, "'/x'"),
        ({"providers": [Named("x")], "frontchannel_path": "/x"}, "'/x'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match="expected") as caught:
        build(**options)
    assert named in str(caught.value)


def test_several_providers_without_a_name_are_no_contradiction() -> None:
    assert build(providers=[Named(""), Named("")])


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "10", None])
def test_a_memory_store_of_no_size_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_logins=.*expected a whole number") as caught:
        MemoryStore(max_logins=value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("app", [None, "app", 7])
def test_what_is_no_application_is_refused(app: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"app=.*expected") as caught:
        RPLogoutMiddleware(app, providers=[OIDC])
    assert repr(app) in str(caught.value)


async def test_an_http_client_is_taken() -> None:
    async with httpx.AsyncClient() as client:
        assert build(http_client=client)


def test_add_middleware_takes_the_same_options() -> None:
    from starlette.applications import Starlette

    app = Starlette()
    app.add_middleware(RPLogoutMiddleware, providers=[OIDC], logout_path="/bye")
    assert isinstance(app.build_middleware_stack(), object)
    app.add_middleware(RPLogoutMiddleware, providers=[OIDC], logout_path="bye")
    with pytest.raises(ConfigurationError):
        app.build_middleware_stack()

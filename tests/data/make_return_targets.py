"""Write return_targets.jsonl: hostile return targets, each one idea in one position.

    python tests/data/make_return_targets.py

A line is ``[target, why]`` for a target that must be refused. The few that look hostile but are a path of this origin
for every reader have that path, as seen from /logout, as a third entry; that list is by hand, so that
each new one is looked at by a person.
"""

# ruff: noqa: E501, SIM905
from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).parent
OWN = "https://app.example.com"
EVIL = "evil.example"

SCHEMES = (
    "javascript data vbscript file ftp ws wss blob about mailto tel sms view-source intent chrome feed jar filesystem"
    " gopher ldap ms-settings market urn x-evil http https"
).split()
SLASHES = {
    0x2044: "fraction slash", 0x2215: "division slash", 0x29F8: "big solidus", 0x2571: "box diagonal",
    0x27CB: "rising diagonal", 0x2216: "set minus", 0x29F5: "reverse solidus operator", 0x29F9: "big reverse solidus",
    0x2572: "box back diagonal", 0x27CD: "falling diagonal", 0xFF0F: "full-width slash", 0xFF3C: "full-width backslash",
    0xFE68: "small backslash",
}  # fmt: skip
POINTS = {
    0x3002: "ideographic full stop", 0xFF0E: "full-width full stop", 0xFF61: "half-width full stop",
    0x2024: "one dot leader", 0x2025: "two dot leader", 0x2026: "ellipsis", 0xFE52: "small full stop",
    0xFF1A: "full-width colon", 0xFE55: "small colon", 0xFF20: "full-width at", 0xFE6B: "small at",
    0xFF1F: "full-width question mark", 0xFF03: "full-width number sign", 0xFF05: "full-width percent",
    0xFF1B: "full-width semicolon", 0x2100: "account of, with a slash in it", 0x2105: "care of, with a slash in it",
}  # fmt: skip
INVISIBLE = (
    0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x180B, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E, 0x202A, 0x202E, 0x2060,
    0x2063, 0x2066, 0x2069, 0x206F, 0x3164, 0xFE00, 0xFE0F, 0xFEFF, 0xFFA0, 0xFFF9, 0x1D173, 0xE0001, 0xE0020,
)  # fmt: skip
SPACES = (0xA0, 0x1680, 0x2000, 0x2003, 0x2007, 0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
UP = ("/..", "/.", "/a/..", "/%2e", "/%2E%2e", "/a/.%2e", "/a/%2e.", "/..;", "/a/..;x=1", "/;", "/;a=b", "/.;", "/a/../..",
      "/./.", "/%252e%252e", "/a/%252e.", "/..%00", "/.%09.", "/.\u200b.")  # fmt: skip
USERINFO = (
    "https://app.example.com@evil.example/", "https://app.example.com:443@evil.example/",
    "https://app.example.com:x@evil.example/", "https://app.example.com%40evil.example/",
    "https://user@app.example.com/", "https://user:secret@app.example.com/", "https://@app.example.com/",
    "https://:@app.example.com/", "https://evil.example@app.example.com/", "https://app.example.com\\@evil.example/",
    "https://evil.example\\@app.example.com/", "https://app.example.com:443\\@evil.example/",
    "https://app.example.com;@evil.example/", "https://app.example.com&@evil.example/",
    "https://app.example.com @evil.example/", "https://app.example.com\t@evil.example/",
    "https://app.example.com%2f@evil.example/", "https://app.example.com%23@evil.example/",
    "https://app.example.com%3f@evil.example/", "https://app.example.com@@evil.example/",
    "https://a@b@app.example.com/", "//app.example.com@evil.example/", "//evil.example@app.example.com/",
    "https://[app.example.com]@evil.example/", "https://app.example.com:@evil.example/",
)  # fmt: skip
HOSTS = (
    "evil.example", "app.example.com.evil.example", "evil-app.example.com", "evilapp.example.com", "example.com",
    "www.app.example.com", "app.example.com.", "app.example.com..", ".app.example.com", "app..example.com",
    "app.example.co", "app.example.comm", "app-example.com", "app.example.com-", "-app.example.com", "app_example.com",
    "app.example.com:80", "app.example.com:8443", "app.example.com:444", "app.example.com:", "app.example.com:0",
    "app.example.com:65979", "app.example.com:443443", "app.example.com:+443", "app.example.com:-443",
    "app.example.com:0x1bb", "app.example.com:4 43", "app.example.com:443:443", "app.example.com:\u0664\u0664\u0663",
    "app.example.com:\uff14\uff14\uff13", "app.example.com:https", "app.example.com:443evil.example",
    "app.example.com%2eevil.example", "app.example.com%00.evil.example", "app.example.com%20", "%61pp.example.com",
    "app%2eexample%2ecom", "app.example.com%0d%0a", "app.example.com%252f", "\u0430pp.example.com",
    "app.examp\u217ce.com", "app.e\u03c7ample.com", "app.example.\u1d04om", "\uff41pp.example.com", "app.ex\u00e4mple.com",
    "a\u017fpp.example.com", "app.example.com\u2044evil.example", "xn--pp-6kc.example.com", "xn--evil.example",
    "app.example.com.xn--e1awd7f.com", "app.example.\u0441om", "\u24d0pp.example.com", "app.e\u2093ample.com",
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "0",
    "0.0.0.0", "10.1", "192.168.1", "1.2.3.4.5", "256.1.1.1", "1.2.3.04", "169.254.169.254", "0xA9FEA9FE",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1",
    "::1]", "::1", "[::1]evil.example", "[app.example.com]", "[::1].app.example.com", "[v1.evil]", "[]", "[::1]:x",
    "localhost", "localhost:443", "app", "com", "", "?", ".", "..", "*", "*.example.com", "app.example.com,evil.example",
    "app.example.com;evil.example", "app.example.com|evil.example", "app.example.com^evil", "app.example.com`evil",
    "app.example.com{evil", "app.example.com<evil", 'app.example.com"evil', "app.example.com'evil", "app.example.com$evil",
    "app.example.com!evil", "app.example.com(evil)", "app.example.com+evil", "app.example.com=evil", "app.example.com~evil",
)  # fmt: skip

# Hostile to look at, harmless as a path of this origin.
HARMLESS = {
    "javascript%3aalert(1)": "/javascript%3aalert(1)",
    "./a/..;x=1/..//evil.example": "/a//evil.example",
    "./a/%252e./..//evil.example": "/a//evil.example",
    "/javascript:alert(1)": "/javascript:alert(1)",
    "/https://evil.example": "/https://evil.example",
    "/@evil.example": "/@evil.example",
    "/evil.example": "/evil.example",
    "/.evil.example": "/.evil.example",
    "/..evil.example": "/..evil.example",
    "/a//evil.example": "/a//evil.example",
    "/a/%2fevil.example": "/a/%2fevil.example",
    "/a%5c%5cevil.example": "/a%5c%5cevil.example",
    "/?//evil.example": "/?//evil.example",
    "/?next=https://evil.example": "/?next=https://evil.example",
    "/?next=%0d%0aset-cookie:%20a=b": "/?next=%0d%0aset-cookie:%20a=b",
    "/?\uff0f\uff0fevil.example": "/?%EF%BC%8F%EF%BC%8Fevil.example",
    "/#//evil.example": "/",
    "?//evil.example": "/logout?//evil.example",
    "#//evil.example": "/logout",
    "https://app.example.com#@evil.example/": "/",
    "https://app.example.com?@evil.example/": "/?@evil.example/",
    "https://app.example.com/@evil.example": "/@evil.example",
    "https://app.example.com/https://evil.example": "/https://evil.example",
    "/<script>alert(1)</script>": "/%3Cscript%3Ealert(1)%3C/script%3E",
    '/"onload=alert(1)': "/%22onload=alert(1)",
}


def c(point: int) -> str:
    return chr(point)


def schemes() -> Iterator[tuple[str, str]]:
    for scheme in SCHEMES:
        body = f"//{EVIL}/" if scheme in {"http", "https", "ws", "wss", "ftp", "file"} else "alert(1)"
        middle = len(scheme) // 2
        yield f"{scheme}:{body}", f"scheme {scheme}"
        yield f"{scheme.title()}:{body}", f"scheme {scheme}, mixed case"
        yield f" {scheme}:{body}", f"scheme {scheme} after a space, which browsers trim"
        yield f"\x01{scheme}:{body}", f"scheme {scheme} after a control, which browsers trim"
        yield (
            f"{scheme[:middle]}\t{scheme[middle:]}:{body}",
            f"scheme {scheme} with a tab inside, which browsers delete",
        )
        yield f"{scheme}\n:{body}", f"scheme {scheme} with a line feed before the colon"
        yield f"{scheme}\uff1a{body}", f"scheme {scheme} with a full-width colon"
    for text in ("https:evil.example", "https:/evil.example", "https:///evil.example", "https:////evil.example",
                 "http:evil.example", "http:/evil.example", "https:\\evil.example", "https:/\\evil.example",
                 "https:\\\\evil.example", "https:\\/evil.example", "https:app.example.com", "https:/app.example.com",
                 "https:///app.example.com/", "https:", "https:/", "https://", "https:///", "http://app.example.com/",
                 "ftp://app.example.com/", "wss://app.example.com/", "javascript://app.example.com/%0aalert(1)",
                 "data:text/html,<script>alert(1)</script>", "blob:https://app.example.com/1", "://evil.example",
                 ":evil", ":", "a:b", "a:", "1:2", "c:\\windows", "login:443", "app.example.com:443/x", "url:https://evil.example",
                 "javascript:alert(1)//https://app.example.com/", "javascript:/https://app.example.com/",
                 "https\u017f://evil.example", "http\u017f://app.example.com/", "HTTP\u017f://app.example.com/"):  # fmt: skip
        yield text, "scheme in an odd form"


def slash_runs() -> Iterator[tuple[str, str]]:
    for length in (2, 3, 4):
        for run in map("".join, product("/\\", repeat=length)):
            yield run + EVIL, f"{length} slashes or backslashes before a host"
            yield "https:" + run[1:] + EVIL, f"scheme and {length - 1} slashes or backslashes"
            if run != "//":
                yield OWN + run + EVIL, f"own origin, then {length} slashes or backslashes"
    yield OWN + "//" + EVIL, "own origin, then two slashes"
    for text in ("\\evil.example", "\\", "\\x", "a\\b", "/a\\b", "/\\", "//", "///", "//app.example.com/", "//app.example.com",
                 "//evil", "//a/..", "//..", "//.", "//?", "//#", "///.", "/x\\..\\..\\", "?q=\\", "#\\", "/x?\\", "/x#\\"):  # fmt: skip
        yield text, "slash or backslash in an odd place"


def controls() -> Iterator[tuple[str, str]]:
    for point in [*range(0x20), *range(0x7F, 0xA0)]:
        name = f"U+{point:04X}"
        yield f"/{c(point)}/{EVIL}", f"{name} between two slashes"
        yield f"{c(point)}//{EVIL}", f"{name} before a host"
        yield f"/path{c(point)}set-cookie: a=b", f"{name} in the middle: header splitting where a server lets it"
        yield f"https://app.example{c(point)}.com/", f"{name} in the own host"
        if point < 0x80:
            yield f"/%{point:02x}/{EVIL}", f"{name} percent-encoded between two slashes"
            yield f"/%25{point:02x}x", f"{name} encoded twice in a path"
    for tail in (" ", "\t", "\r\n", "\n", "\x00", "\x0b", "\x0c"):
        yield "/path" + tail, "white space at the end"
        yield tail + "/path", "white space at the start"
        yield "/path?q=1" + tail + "x: y\r\n", "line in a query"
        yield "/path#" + tail, "white space in a fragment"
    yield "/\ud800/evil.example", "lone surrogate between two slashes"
    yield "/x\udfff", "lone surrogate at the end"


def encodings() -> Iterator[tuple[str, str]]:
    for character, name in {"/": "slash", "\\": "backslash"}.items():
        code = f"%{ord(character):02x}"
        for depth in range(1, 8):
            for form in (code, code.upper()):
                yield f"/{form}{EVIL}", f"{name} encoded {depth} times, second"
                yield f"{form}{form}{EVIL}", f"{name} encoded {depth} times, first and second"
                yield f"{OWN}/{form}{EVIL}", f"{name} encoded {depth} times, after the own origin"
                yield f"/a/../{form}{EVIL}", f"{name} encoded {depth} times, after a dot segment"
                yield f"/.{form}/{EVIL}", f"{name} encoded {depth} times, behind a dot"
            code = code.replace("%", "%25")
    for text in ("/%c0%af", "/%c0%2f", "/%c1%9c", "/%e0%80%af", "/%f0%80%80%af", "/%ff", "/%c0%afc", "/%25c0%25af", "/%c0%ae%c0%ae//",
                 "/%u002f", "/%u005c", "/%u2215", "/%U002F", "/%25u002f", "/%u0009/", "/%uff0f"):  # fmt: skip
        yield text + EVIL, "a slash in a broken or foreign encoding"
    for depth in (5, 6, 50):
        yield "/%" + "25" * depth + "x", "encoded more often than any honest path"
        yield "/%" + "25" * depth + "2f" + EVIL, "encoded more often than any honest path, a slash within"


def unicode_lookalikes() -> Iterator[tuple[str, str]]:
    for point, name in {**SLASHES, **POINTS}.items():
        sign = c(point)
        yield f"/{sign}{EVIL}", f"{name} as the second character"
        yield f"{sign}{sign}{EVIL}", f"{name} as the first and second character"
        yield f"/{quote(sign)}{EVIL}", f"{name} percent-encoded"
        yield f"/{quote(quote(sign))}{EVIL}", f"{name} percent-encoded twice"
        yield f"/{sign.encode().decode('latin-1')}{EVIL}", f"{name} as raw bytes of a header"
        yield f"https://app.example.com{sign}{EVIL}/", f"{name} after the own host"


def invisible() -> Iterator[tuple[str, str]]:
    for point in INVISIBLE + SPACES:
        sign, name = c(point), f"invisible U+{point:04X}"
        yield f"/{sign}/{EVIL}", f"{name} between two slashes"
        yield f"{sign}//{EVIL}", f"{name} before a host"
        yield f"/{quote(sign)}/{EVIL}", f"{name} percent-encoded between two slashes"
        yield f"/.{sign}.//{EVIL}", f"{name} in a dot segment"
        yield f"https://app.example.com{sign}/", f"{name} after the own host"
        yield f"java{sign}script:alert(1)", f"{name} inside a scheme"


def dot_segments() -> Iterator[tuple[str, str]]:
    for up in UP:
        yield f"{up}//{EVIL}", "dot segment, then two slashes"
        yield f"{OWN}{up}//{EVIL}", "own origin, dot segment, two slashes"
        yield f"{up}/%2f{EVIL}", "dot segment, then an encoded slash"
        yield f"{up}/\\{EVIL}", "dot segment, then a backslash"
        yield f".{up}/..//{EVIL}", "relative, dot segment, two slashes"
    for up in ("..;", ".;", ";", ".\u200b."):
        yield f"/x%2f..%2f/{up}/{EVIL}", "encoded dot segment, then what only some readers take for another"


def hosts() -> Iterator[tuple[str, str]]:
    for host in HOSTS:
        yield f"https://{host}/", f"host {host!a}"
        yield f"//{host}/", f"host {host!a} without a scheme"
    for target in USERINFO:
        yield target, "userinfo"


def lengths() -> Iterator[tuple[str, str]]:
    yield "", "empty"
    yield "/" + "a" * 2048, "one character too long"
    yield "/" + "\u00e9" * 400, "too long once it is encoded"
    yield "/" + "a" * 100_000, "far too long"
    yield OWN + "/" + "a" * 2048, "too long after the own origin"
    yield "/x#" + "a" * 2048, "too long, in the fragment"


def main() -> None:
    lines: dict[str, str] = {}
    for make in (schemes, slash_runs, controls, encodings, unicode_lookalikes, invisible, dot_segments, hosts, lengths):
        for target, why in make():
            lines.setdefault(target, why)
    for target in HARMLESS:
        lines.setdefault(target, "hostile to look at, but a path of this origin")
    with (HERE / "return_targets.jsonl").open("w", encoding="ascii") as file:
        for target, why in lines.items():
            entry = [target, why] + ([HARMLESS[target]] if target in HARMLESS else [])
            file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()

"""The findings as text, by rich, or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from typing import IO

from ..errors import ConfigurationError
from .examine import Address, Report
from .findings import LEVELS
from .vendors import NONE, STANDARD

KINDS = {
    "redirect": "redirect URI",
    "post_logout": "post-logout redirect URI",
    "back_channel": "back-channel logout URI",
    "front_channel": "front-channel logout URI",
}

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def as_json(report: Report) -> str:
    """Return the report as JSON; its names stay the same between releases."""
    findings = [
        {"id": one.id, "level": one.level, "subject": one.subject, "sentence": one.sentence, "remedy": one.remedy}
        for one in report.in_order()
    ]
    addresses = [
        {"subject": subject, "kind": one.kind, "url": one.url, "vendor": _vendor(one), "field": _name_of(one)}
        for subject, listed in report.addresses
        for one in listed
    ]
    content = {"status": report.status, "examined": report.examined, "confirmed": report.confirmed}
    content |= {"findings": findings, "addresses": addresses}
    return json.dumps(content, indent=2)


def write_text(report: Report, file: IO[str]) -> None:
    """Write the report as tables. Raises ``ConfigurationError`` without rich."""
    try:
        from rich.console import Console  # noqa: PLC0415  # an extra, and the only place that needs it
        from rich.padding import Padding  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "the table needs rich: pip install 'asgi-rp-logout[cli]'; --json works without it"
        ) from None
    console = Console(file=file, highlight=False)
    for one in report.examined:
        console.print(Text(f"Looked at {one}."))
    for one in report.confirmed:
        console.print(Text(f"{one}."))
    table = Table(box=None, show_header=False, padding=(1, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in report.in_order():
        what = Text.assemble((finding.id, "bold"), f"  {finding.subject}\n{finding.sentence}\n-> {finding.remedy}")
        table.add_row(Text(finding.level, style=_STYLES[finding.level]), what)
    if report.findings:
        console.print(table)
    for subject, addresses in report.addresses:
        console.print(Text(f"\n{_headline(subject, addresses)}", style="bold"))
        for address in addresses:
            console.print(Text(f"  {_field(address)}:"))
            console.print(Text(f"    {address.url or address.description}"), soft_wrap=True)
        advice = addresses[0].vendor.advice if addresses else ""
        if advice:
            console.print(Padding(Text(advice), (0, 0, 0, 2)))
    console.print(Text(f"\n{_summary(report)}"))


def _headline(subject: str, addresses: list[Address]) -> str:
    vendor = _vendor(addresses[0]) if addresses else None
    return f"To register at {subject}{f', in the settings of {vendor}' if vendor else ''}:"


def _vendor(address: Address) -> str | None:
    return None if address.vendor is STANDARD else address.vendor.name


def _name_of(address: Address) -> str | None:
    """Return the field of the vendor's console, or of the standard; None if the vendor has none."""
    field = address.vendor.field_for(address.kind)
    return None if field == NONE else field


def _field(address: Address) -> str:
    kind, name = KINDS[address.kind], _name_of(address)
    if name is None:
        return f"{kind} (there is no field for it at {address.vendor.name})"
    return f"{kind} ({name})" if address.vendor is STANDARD else f"{name} ({kind})"


def _summary(report: Report) -> str:
    count = Counter(finding.level for finding in report.findings)
    parts = [f"{count[level]} {level}{'s' if count[level] > 1 else ''}" for level in LEVELS if count[level]]
    return f"Found: {', '.join(parts)}." if parts else "Found nothing wrong."

"""A dashboard, a wiki and two OpenID providers with real sessions, to see a logout work: python -m demo."""

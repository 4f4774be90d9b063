"""Providers: where the end-session URL comes from."""

"""Providers: where the end-session URL comes from, and who checks a provider's logout tokens.

provider          what a provider is; the list of providers; asking one for its URL; whose login it is
calling           call a function of the application: its keywords, and a thread if it is sync
standard          the logout request by the book; StaticProvider, whose endpoint is given
oidc              a provider that is known by its metadata; OIDCProvider, which discovers it
authlib           AuthlibProvider, which takes it from a client that is registered with Authlib
vendors           how vendors deviate from the specification, as data, and the one place that applies it
presets           one function per vendor
cached_document   a document of a provider: fetched once, kept, and fetched again
token_verifier    the only module that verifies a signature; the keys that a provider publishes
transport         the only module that opens a socket
prefetch          metadata fetched while the application starts
"""

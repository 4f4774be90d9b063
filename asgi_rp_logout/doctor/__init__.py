"""The doctor: look at how an app and its providers are set up, and say what will not work, and why.

It only looks: it changes nothing, shows no secret, and talks to nobody but the providers and the store.

findings      what can be found: the catalogue of ids, as data
search        the middlewares in an app, and what is around them
setup         one set-up to look at, and the addresses that follow from it
configuration what the options alone tell: addresses, cookies, sessions, store
metadata      what a provider says of itself, its keys and its clock
registration  what a provider answers to a logout of nobody
token_relays  whether a token relay can have its port
vendors       where each vendor wants the addresses
examine       all checks, in their order
report        the findings as text or JSON
"""

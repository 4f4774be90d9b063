"""The token relay: a loopback address between the application and the token endpoint of its provider.

A client library of any kind asks this address instead of the provider, and gets the provider's answer. What ties that
answer to a browser is the code: it is in the browser's request for the callback, and in the token request.
"""

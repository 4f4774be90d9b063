import os
from types import SimpleNamespace

from authlib.integrations.starlette_client import OAuth
from quart import Quart, redirect, request, session, url_for

from asgi_rp_logout import AuthlibProvider, RPLogoutMiddleware

oauth = OAuth()
oauth.register(
    "keycloak",
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
)
app = Quart(__name__)
app.secret_key = os.urandom(32)  # in production: a fixed key


def request_for_authlib():
    """Return what Authlib's client for Starlette reads of a request."""
    return SimpleNamespace(scope=request.scope, session=session, query_params=request.args)


@app.get("/")
async def home():
    if "user" not in session:
        return '<a href="/login">Log in</a>'
    return 'Hello! <form method="post" action="/logout"><button>Log out</button></form>'


@app.get("/login")
async def login():
    answer = await oauth.keycloak.authorize_redirect(request_for_authlib(), url_for("callback", _external=True))
    return redirect(answer.headers["location"])


@app.get("/callback")
async def callback():
    token = await oauth.keycloak.authorize_access_token(request_for_authlib())
    session["user"] = token["userinfo"]["sub"]
    return redirect("/", 303)


@app.post("/logout")
async def logout():
    session.clear()
    return redirect("/", 303)


app.asgi_app = RPLogoutMiddleware(
    app.asgi_app,
    providers=[AuthlibProvider(oauth.keycloak)],
    logout_path="/logout",
    session_cookie="session",
    post_logout_redirect_uri="/",
    backchannel_path="/backchannel-logout",
)

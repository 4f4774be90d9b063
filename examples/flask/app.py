import os

from a2wsgi import WSGIMiddleware
from authlib.integrations.flask_client import OAuth
from flask import Flask, redirect, session, url_for

from asgi_rp_logout import AuthlibProvider, RPLogoutMiddleware

site = Flask(__name__)
site.secret_key = os.urandom(32)  # in production: a fixed key
oauth = OAuth(site)
oauth.register(
    "keycloak",
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
)


@site.get("/")
def home():
    if "user" not in session:
        return '<a href="/login">Log in</a>'
    return 'Hello! <form method="post" action="/logout"><button>Log out</button></form>'


@site.get("/login")
def login():
    return oauth.keycloak.authorize_redirect(url_for("callback", _external=True))


@site.get("/callback")
def callback():
    token = oauth.keycloak.authorize_access_token()
    session["user"] = token["userinfo"]["sub"]
    return redirect("/", 303)


@site.post("/logout")
def logout():
    session.clear()
    return redirect("/", 303)


app = RPLogoutMiddleware(
    WSGIMiddleware(site),
    providers=[AuthlibProvider(oauth.keycloak)],
    logout_path="/logout",
    session_cookie="session",
    post_logout_redirect_uri="/",
    backchannel_path="/backchannel-logout",
)

import os

from authlib.integrations.starlette_client import OAuth
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.sessions import SessionMiddleware

from asgi_rp_logout import AuthlibProvider, RPLogoutMiddleware

oauth = OAuth()
oauth.register(
    "keycloak",
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
)
app = FastAPI()


@app.get("/")
async def home(request: Request):
    if "user" not in request.session:
        return HTMLResponse('<a href="/login">Log in</a>')
    return HTMLResponse('Hello! <form method="post" action="/logout"><button>Log out</button></form>')


@app.get("/login")
async def login(request: Request):
    return await oauth.keycloak.authorize_redirect(request, request.url_for("callback"))


@app.get("/callback")
async def callback(request: Request):
    token = await oauth.keycloak.authorize_access_token(request)
    request.session["user"] = token["userinfo"]["sub"]
    return RedirectResponse("/", status_code=303)


@app.post("/logout")
async def logout(request: Request):
    request.session.clear()
    return RedirectResponse("/", status_code=303)


# The middleware that is added last is the outermost: SessionMiddleware goes around RPLogoutMiddleware.
app.add_middleware(
    RPLogoutMiddleware,
    providers=[AuthlibProvider(oauth.keycloak)],
    logout_path="/logout",
    post_logout_redirect_uri="/",
    backchannel_path="/backchannel-logout",
)
app.add_middleware(SessionMiddleware, secret_key=os.urandom(32))  # in production: a fixed key

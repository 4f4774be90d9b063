import os

from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route

from asgi_rp_logout import AuthlibProvider, RPLogoutMiddleware

oauth = OAuth()
oauth.register(
    "keycloak",
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
)


async def home(request):
    if "user" not in request.session:
        return HTMLResponse('<a href="/login">Log in</a>')
    return HTMLResponse('Hello! <form method="post" action="/logout"><button>Log out</button></form>')


async def login(request):
    return await oauth.keycloak.authorize_redirect(request, request.url_for("callback"))


async def callback(request):
    token = await oauth.keycloak.authorize_access_token(request)
    request.session["user"] = token["userinfo"]["sub"]
    return RedirectResponse("/", status_code=303)


async def logout(request):
    request.session.clear()
    return RedirectResponse("/", status_code=303)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/login", login),
        Route("/callback", callback),
        Route("/logout", logout, methods=["POST"]),
    ],
    middleware=[
        # The first of the list is the outermost: SessionMiddleware goes around RPLogoutMiddleware.
        Middleware(SessionMiddleware, secret_key=os.urandom(32)),  # in production: a fixed key
        Middleware(
            RPLogoutMiddleware,
            providers=[AuthlibProvider(oauth.keycloak)],
            logout_path="/logout",
            post_logout_redirect_uri="/",
            backchannel_path="/backchannel-logout",
        ),
    ],
)

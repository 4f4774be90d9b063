import os

from authlib.integrations.starlette_client import OAuth
from litestar import Litestar, MediaType, Request, get, post
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.response import Redirect

from asgi_rp_logout import AuthlibProvider, RPLogoutMiddleware

oauth = OAuth()  # Authlib's client for Starlette reads nothing of a request that Litestar's has not
oauth.register(
    "keycloak",
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    client_kwargs={"scope": "openid", "code_challenge_method": "S256"},
)


@get("/", media_type=MediaType.HTML)
async def home(request: Request) -> str:
    if "user" not in request.session:
        return '<a href="/login">Log in</a>'
    return 'Hello! <form method="post" action="/logout"><button>Log out</button></form>'


@get("/login")
async def login(request: Request) -> Redirect:
    answer = await oauth.keycloak.authorize_redirect(request, str(request.base_url) + "callback")
    return Redirect(answer.headers["location"])


@get("/callback")
async def callback(request: Request) -> Redirect:
    token = await oauth.keycloak.authorize_access_token(request)
    request.session["user"] = token["userinfo"]["sub"]
    return Redirect("/")


@post("/logout", status_code=303)
async def logout(request: Request) -> Redirect:
    request.clear_session()
    return Redirect("/", status_code=303)


site = Litestar([home, login, callback, logout], middleware=[ServerSideSessionConfig().middleware])

# Around the whole app: Litestar runs its own middleware for each route.
app = RPLogoutMiddleware(
    site,
    providers=[AuthlibProvider(oauth.keycloak)],
    logout_path="/logout",
    session_cookie="session",
    post_logout_redirect_uri="/",
    backchannel_path="/backchannel-logout",
)

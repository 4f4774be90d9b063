import os

from django.conf import settings

settings.configure(
    SECRET_KEY=os.urandom(32).hex(),  # in production: a fixed key
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",  # in memory here; in production: the database
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    AUTHLIB_OAUTH_CLIENTS={
        "keycloak": {
            "server_metadata_url": os.environ["ISSUER"] + "/.well-known/openid-configuration",
            "client_id": os.environ["CLIENT_ID"],
            "client_secret": os.environ["CLIENT_SECRET"],
            "client_kwargs": {"scope": "openid", "code_challenge_method": "S256"},
        }
    },
)

from authlib.integrations.django_client import OAuth
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, HttpResponseRedirect
from django.template import engines
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from asgi_rp_logout import AuthlibProvider, RPLogoutMiddleware

oauth = OAuth()
oauth.register("keycloak")

HELLO = 'Hello! <form method="post" action="/logout">{% csrf_token %}<button>Log out</button></form>'


def home(request):
    if "user" not in request.session:
        return HttpResponse('<a href="/login">Log in</a>')
    return HttpResponse(engines["django"].from_string(HELLO).render({}, request))


def login(request):
    return oauth.keycloak.authorize_redirect(request, request.build_absolute_uri(reverse(callback)))


def callback(request):
    token = oauth.keycloak.authorize_access_token(request)
    request.session.cycle_key()
    request.session["user"] = token["userinfo"]["sub"]
    return HttpResponseRedirect("/")


@require_POST
def logout(request):
    request.session.flush()
    return HttpResponseRedirect("/")


urlpatterns = [
    path("", home),
    path("login", login),
    path("callback", callback),
    path("logout", logout),
]

app = RPLogoutMiddleware(
    get_asgi_application(),
    providers=[AuthlibProvider(oauth.keycloak)],
    logout_path="/logout",
    session_cookie="sessionid",
    clear_cookies="csrftoken",
    post_logout_redirect_uri="/",
    backchannel_path="/backchannel-logout",
)

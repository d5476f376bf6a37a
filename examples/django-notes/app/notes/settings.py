"""Settings. What differs between servers comes from the environment of the unit."""

import os
from pathlib import Path

RELEASE = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("NOTES_DATA", RELEASE / "data"))
VERSION = (RELEASE / "VERSION").read_text().strip()

# Nobody logs in, and nothing is signed with it: it has to be there.
SECRET_KEY = os.environ.get("NOTES_SECRET_KEY", "notes-sign-nothing")
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "notes.urls"
WSGI_APPLICATION = "notes.wsgi.application"
INSTALLED_APPS = ["django.contrib.staticfiles", "notes"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": []},
    }
]
# One database for all servers, where there is one: the host of a PostgreSQL, or the directory of its socket.
# Hooks and the programs of a schema find it among the host's variables, the service in its unit.
POSTGRESQL = os.environ.get("NOTES_DATABASE") or os.environ.get("TAMER_VAR_DATABASE")
if POSTGRESQL:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": POSTGRESQL,
            "NAME": "notes",
            "USER": "notes",
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA / "notes.sqlite3",
            "OPTIONS": {"timeout": 5},
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_I18N = False
USE_TZ = True
STATIC_URL = "/notes/static/"
STATIC_ROOT = RELEASE / "static"

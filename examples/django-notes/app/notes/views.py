"""A page of notes, the version, and whether all is well."""

from django.conf import settings
from django.http import HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from .models import Note


@require_http_methods(["GET", "POST"])
def notes(request):
    if request.method == "POST":
        text = request.POST.get("text", "").strip()
        if not text or len(text) > 200:
            return HttpResponseBadRequest("a note has 1 to 200 characters\n")
        Note.objects.create(text=text)
        return redirect("/notes/")
    shown = Note.objects.all()[:50]
    return render(request, "notes.html", {"notes": shown, "version": settings.VERSION})


@require_GET
def version(request):
    return HttpResponse(settings.VERSION, content_type="text/plain")


@require_GET
def health(request):
    """Well is: the database answers, with the tables that this release works with."""
    return HttpResponse(f"{Note.objects.count()} notes\n", content_type="text/plain")

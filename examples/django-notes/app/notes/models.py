"""One table."""

from django.db import models


class Note(models.Model):
    """A line that somebody left."""

    text = models.CharField(max_length=200)
    written = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

"""The database's version as a number: how many of the application's migrations it has; or the way to another one."""

from django.core.management import BaseCommand, CommandError, call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

APP = "notes"


class Command(BaseCommand):
    """`manage.py schema` prints the version, `manage.py schema 2` brings the database there."""

    def add_arguments(self, parser):
        """One number, or none."""
        parser.add_argument("version", nargs="?", type=int)

    def handle(self, *args, version=None, **options):
        """A release may find more migrations in the database than it brings itself: they count."""
        loader = MigrationLoader(connection)
        if version is None:
            applied = [name for app, name in loader.applied_migrations if app == APP]
            self.stdout.write(str(len(applied)))
            return
        names = ["zero", *sorted(name for app, name in loader.disk_migrations if app == APP)]
        if version >= len(names):
            raise CommandError(f"this release knows {len(names) - 1} migrations, not {version}")
        call_command("migrate", APP, names[version], interactive=False, stdout=self.stdout)

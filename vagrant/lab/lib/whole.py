"""Is what is current whole? Every file that the manifest lists, with its SHA-256, and no others."""

import hashlib
import json
import os
import sys

root = sys.argv[1]
current = os.path.join(root, "current")
release = os.path.realpath(current)
if os.path.dirname(release) != os.path.join(os.path.realpath(root), "releases"):
    sys.exit(f"{current} leads to {release}")
with open(os.path.join(release, ".tamer", "manifest.json"), encoding="utf-8") as file:
    manifest = json.load(file)
listed = {
    entry["path"]: entry["kind"]["file"]["sha256"]
    for entry in manifest["files"]
    if "file" in entry["kind"]
}
found = {}
for directory, below, names in os.walk(release):
    if ".tamer" in below:
        below.remove(".tamer")
    for name in names:
        path = os.path.join(directory, name)
        if not os.path.islink(path):
            with open(path, "rb") as file:
                found[os.path.relpath(path, release)] = hashlib.sha256(file.read()).hexdigest()
if not listed:
    sys.exit(f"the manifest of {release} lists no file")
if found != listed:
    differing = {path for path in {*found, *listed} if found.get(path) != listed.get(path)}
    sys.exit(f"{release} differs from its manifest: " + ", ".join(sorted(differing)))

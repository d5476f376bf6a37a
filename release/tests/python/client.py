"""python-tuf's own client over repositories that it did not make.

    client.py DIR ROOT NOW [NAME…]

DIR holds what is served: metadata by their names, and blobs/SHA256. ROOT is the pinned root, NOW the
moment in milliseconds. Prints `versions ROOT TIMESTAMP SNAPSHOT TARGETS`, and for every NAME its content.
Exits with 1, and the reason on stderr, if anything is refused. What it trusts stays in DIR-trusted.
"""

import sys
from datetime import datetime, timezone
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater


class Folder(FetcherInterface):
    """Serves from a directory; targets lie where their digests say."""

    def __init__(self, served):
        self.served = served

    def _fetch(self, url):
        kind, _, path = url.removeprefix("http://served/").partition("/")
        if kind == "targets":
            path = f"blobs/{path.rpartition('/')[2].partition('.')[0]}"
        else:
            path = f"metadata/{path}"
        try:
            yield (self.served / path).read_bytes()
        except FileNotFoundError:
            raise DownloadHTTPError(f"there is no {url}", 404) from None


def main(served, root, now, names):
    kept = Path(f"{served}-trusted")
    (kept / "targets").mkdir(parents=True, exist_ok=True)
    updater = Updater(
        str(kept),
        "http://served/metadata/",
        str(kept / "targets"),
        "http://served/targets/",
        fetcher=Folder(served),
        bootstrap=root.read_bytes(),
    )
    trusted = updater._trusted_set
    trusted.reference_time = datetime.fromtimestamp(now / 1000, timezone.utc)
    updater.refresh()
    versions = [trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets]
    print("versions", *(signed.version for signed in versions))
    for name in names:
        found = updater.get_targetinfo(name)
        if found is None:
            sys.exit(f"no target {name}")
        print(Path(updater.download_target(found)).read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])

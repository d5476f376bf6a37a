"""Repositories made by python-tuf, good ones and bad ones, for a client that it did not write.

    repositories.py OUT

OUT/SCENARIO/N holds what a repository serves at step N: metadata, and targets as HASH.NAME.
OUT/SCENARIO/script.json says what a client with the root OUT/SCENARIO/root.json must make of each
step: `words` of the refusal or null, and per target name its content, or `null` where there is none.
Every moment is fixed, so that the result does not depend on the day.
"""

import hashlib
import json
import sys
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

# As in the Rust tests: in January 2027.
NOW = datetime.fromtimestamp(1_800_000_000, timezone.utc)
LATER = NOW + timedelta(days=30)
TOP = ["root", "timestamp", "snapshot", "targets"]
KINDS = [CryptoSigner.generate_ecdsa, CryptoSigner.generate_ed25519, CryptoSigner.generate_rsa]


class Repository:
    """What is signed, by whom, and what is served. `publish` makes the next version of everything."""

    def __init__(self, kind=CryptoSigner.generate_ecdsa, hashes=True):
        self.new_key = kind
        self.hashes = hashes
        self.served = {}
        self.steps = []
        self.signers = {role: [kind()] for role in TOP}
        self.root = Root(expires=LATER, consistent_snapshot=True)
        for role in TOP:
            self.root.add_key(self.signers[role][0].public_key, role)
        self.roles = {"targets": Targets(expires=LATER)}
        self.snapshot = Snapshot(expires=LATER)
        self.timestamp = Timestamp(expires=LATER)
        self.serve_root()
        self.first = self.served["1.root.json"]
        self.publish(bump=False)

    def sign(self, role, signed, signers=None):
        document = Metadata(deepcopy(signed))
        for signer in self.signers[role] if signers is None else signers:
            document.sign(signer, append=True)
        return document.to_bytes()

    def serve_root(self, signers=None):
        self.served[f"{self.root.version}.root.json"] = self.sign("root", self.root, signers)

    def next_root(self, signers=None):
        self.root.version += 1
        self.serve_root(signers)

    def rotate(self, role):
        """Another key for a role; for the root's, both sign."""
        old = self.signers[role]
        new = self.new_key()
        for signer in old:
            self.root.revoke_key(signer.public_key.keyid, role)
        self.root.add_key(new.public_key, role)
        self.signers[role] = [new]
        self.next_root(old + [new] if role == "root" else None)

    def described(self, version, data):
        if not self.hashes:
            return MetaFile(version)
        return MetaFile.from_data(version, data, ["sha256"])

    def serve_targets(self, role):
        targets = self.roles[role]
        data = self.sign(role, targets)
        self.served[f"{targets.version}.{quote(role, '')}.json"] = data
        self.snapshot.meta[f"{role}.json"] = self.described(targets.version, data)

    def serve_snapshot(self):
        data = self.sign("snapshot", self.snapshot)
        self.served[f"{self.snapshot.version}.snapshot.json"] = data
        self.timestamp.snapshot_meta = self.described(self.snapshot.version, data)

    def serve_timestamp(self):
        self.served["timestamp.json"] = self.sign("timestamp", self.timestamp)

    def publish(self, bump=True):
        if bump:
            for signed in [*self.roles.values(), self.snapshot, self.timestamp]:
                signed.version += 1
        for role in self.roles:
            self.serve_targets(role)
        self.serve_snapshot()
        self.serve_timestamp()

    def vouch(self):
        self.snapshot.version += 1
        self.timestamp.version += 1
        self.serve_snapshot()
        self.serve_timestamp()

    def add(self, role, name, content, hashes=("sha256",)):
        file = TargetFile.from_data(name, content, list(hashes))
        self.roles[role].targets[name] = file
        folder, slash, last = name.rpartition("/")
        for digest in file.hashes.values():
            self.served[f"{folder}{slash}{digest}.{last}"] = content

    def delegate(self, parent, role, paths=None, prefixes=None, terminating=False):
        targets = self.roles[parent]
        if targets.delegations is None:
            targets.delegations = Delegations({}, {})
        targets.delegations.roles[role] = DelegatedRole(role, [], 1, terminating, paths, prefixes)
        self.signers[role] = [self.new_key()]
        targets.add_key(self.signers[role][0].public_key, role)
        self.roles.setdefault(role, Targets(expires=LATER))

    def step(self, words=None, at=NOW, files=None):
        """What is served now, and what a client must make of it."""
        self.steps.append(
            {
                "served": dict(self.served),
                "now": int(at.timestamp() * 1000),
                "words": words,
                "files": dict(files or {}),
            }
        )


def edited(data, edit):
    """Another serialization than python-tuf would make."""
    document = json.loads(data)
    edit(document)
    return json.dumps(document, indent=1).encode()


def good_ones():
    for kind in KINDS:
        for hashes in [True, False]:
            repository = Repository(kind, hashes)
            repository.add("targets", "a.txt", b"a")
            repository.add("targets", "some/where/b.txt", b"b", ["sha512"])
            repository.add("targets", "c.txt", b"c", ["sha256", "sha512"])
            repository.publish()
            files = {"a.txt": "a", "some/where/b.txt": "b", "c.txt": "c", "d.txt": None}
            repository.step(files=files)
            repository.root.unrecognized_fields["x-note"] = {"b": [1, "ü"], "a": None}
            repository.next_root()
            repository.publish()
            repository.step(files=files)
            name = kind.__name__.removeprefix("generate_")
            yield f"good-{name}-{'with' if hashes else 'without'}-hashes", repository


def rotations():
    for role in TOP:
        repository = Repository()
        repository.step()
        old = repository.signers[role]
        repository.rotate(role)
        repository.publish()
        repository.step()
        # The old key signs what comes next.
        if role == "root":
            repository.next_root(old)
            repository.step("3.root.json is refused: its signatures")
        else:
            repository.signers[role] = old
            repository.publish()
            repository.step("is refused: its signatures")
        yield f"rotated-{role}", repository

    repository = Repository()
    repository.step()
    repository.root.version += 1
    repository.next_root()
    repository.served["2.root.json"] = repository.served["3.root.json"]
    repository.step("it is version 3, and version 2 is needed")
    yield "rotation-skipped", repository

    repository = Repository()
    repository.step()
    repository.root.expires = NOW - timedelta(days=1)
    repository.next_root()
    repository.step("2.root.json is refused: it expired on 2027-01-14")
    repository.root.expires = LATER
    repository.next_root()
    repository.step()
    yield "expired-root-on-the-way", repository


def expiries():
    for role in ["timestamp", "snapshot", "targets"]:
        repository = Repository()
        repository.step()
        signed = repository.roles["targets"] if role == "targets" else getattr(repository, role)
        signed.expires = NOW - timedelta(seconds=1)
        repository.publish()
        repository.step(f"{role}.json is refused: it expired on 2027-01-15")
        signed.expires = LATER
        repository.publish()
        repository.step()
        # A clock that is far ahead, and back.
        repository.step("it expired on", at=NOW + timedelta(days=26_000))
        repository.step()
        yield f"expired-{role}", repository


def rollbacks():
    repository = Repository()
    old = dict(repository.served)
    repository.publish()
    repository.step()
    repository.served = old
    repository.step("takes the timestamp back from version 2 to 1")
    yield "timestamp-rolled-back", repository

    repository = Repository()
    repository.publish()
    repository.step()
    repository.snapshot.version = 1
    repository.timestamp.version = 3
    repository.serve_snapshot()
    repository.serve_timestamp()
    repository.step("takes the snapshot back from version 2 to 1")
    yield "snapshot-rolled-back", repository

    repository = Repository()
    repository.publish()
    repository.step()
    repository.roles["targets"].version = 1
    repository.serve_targets("targets")
    repository.vouch()
    repository.step("takes the targets back from version 2 to 1")
    yield "targets-rolled-back", repository

    repository = Repository()
    repository.delegate("targets", "a", ["a/*"])
    repository.publish()
    repository.step()
    del repository.snapshot.meta["a.json"]
    repository.vouch()
    repository.step("all that the trusted snapshot listed")
    yield "role-no-longer-listed", repository

    # Fast-forward: versions out of reach come back with new keys.
    for role in ["timestamp", "snapshot"]:
        repository = Repository()
        repository.snapshot.version = 1_000_000
        repository.timestamp.version = 1_000_000
        repository.publish()
        repository.step()
        repository.snapshot.version = 1
        repository.timestamp.version = 1
        repository.publish()
        repository.step("back from version 1000001 to 2")
        repository.rotate(role)
        if role == "snapshot":
            repository.publish()
        else:
            repository.serve_timestamp()
        repository.step()
        yield f"fast-forwarded-{role}", repository


def mixtures():
    repository = Repository()
    old = dict(repository.served)
    repository.publish()
    repository.served["2.snapshot.json"] = old["1.snapshot.json"]
    repository.step("2.snapshot.json is refused: it")
    yield "snapshot-of-another-day", repository

    repository = Repository(hashes=False)
    old = dict(repository.served)
    repository.publish()
    repository.served["2.targets.json"] = old["1.targets.json"]
    repository.step("it is version 1, and version 2 is needed")
    yield "targets-of-another-day", repository

    repository = Repository()
    repository.step()
    repository.publish()
    del repository.served["2.snapshot.json"]
    repository.step("there is no 2.snapshot.json")
    yield "snapshot-withheld", repository


def thresholds():
    repository = Repository()
    keys = [CryptoSigner.generate_ecdsa() for _ in range(3)]
    repository.root.roles["targets"] = Role([], 2)
    for key in keys:
        repository.root.add_key(key.public_key, "targets")
    repository.next_root()
    repository.signers["targets"] = keys[:2]
    repository.publish()
    repository.step()
    repository.signers["targets"] = keys[1:]
    repository.publish()
    repository.step()
    repository.signers["targets"] = keys[2:]
    repository.publish()
    repository.step("1 of 2 keys have signed")
    data = repository.served["4.targets.json"]
    doubled = edited(data, lambda d: d["signatures"].append(d["signatures"][0]))
    repository.served["4.targets.json"] = doubled
    repository.snapshot.meta["targets.json"] = repository.described(4, doubled)
    repository.vouch()
    repository.step("there are two signatures by one key id")
    # A key of another role makes no second.
    repository.signers["targets"] = [keys[2], repository.signers["snapshot"][0]]
    repository.publish()
    repository.step("1 of 2 keys have signed")
    yield "threshold", repository

    # One key under two ids.
    repository = Repository()
    key = repository.signers["targets"][0].public_key
    twin = deepcopy(key)
    twin.unrecognized_fields["note"] = "twin"
    twin.keyid = hashlib.sha256(encode_canonical(twin.to_dict()).encode()).hexdigest()
    repository.root.keys[twin.keyid] = twin
    repository.root.roles["targets"] = Role([key.keyid, twin.keyid], 2)
    repository.next_root()
    repository.roles["targets"].version += 1
    data = repository.sign("targets", repository.roles["targets"])

    def twice(document):
        one = document["signatures"][0]
        document["signatures"].append({"keyid": twin.keyid, "sig": one["sig"]})

    data = edited(data, twice)
    repository.served["2.targets.json"] = data
    repository.snapshot.meta["targets.json"] = repository.described(2, data)
    repository.vouch()
    repository.step("1 of 2 keys have signed")
    yield "one-key-under-two-ids", repository

    # A signature that nobody asked for, and one that is none, do no harm.
    repository = Repository()
    data = repository.served["timestamp.json"]
    other = {"keyid": "00" * 32, "sig": "zz"}
    data = edited(data, lambda d: d["signatures"].insert(0, other))
    repository.served["timestamp.json"] = data
    repository.step()
    yield "signatures-that-do-no-harm", repository

    # One key twice in the JSON: nobody knows which was signed.
    repository = Repository()
    data = repository.served["timestamp.json"].decode()
    data = data.replace('"version":1', '"version":1,"version":1', 1)
    assert data.count('"version":1,"version":1') == 1
    repository.served["timestamp.json"] = data.encode()
    repository.step("stands twice")
    yield "duplicate-in-json", repository

    repository = Repository()
    repository.served["timestamp.json"] = repository.served["1.snapshot.json"]
    repository.step("its _type is another role's")
    yield "document-of-another-role", repository


def delegations():
    repository = Repository()
    repository.delegate("targets", "docs", ["*.md", "docs/*"])
    repository.delegate("targets", "team/b", ["b/*/*"])
    repository.delegate("team/b", "c", ["b/c/*", "docs/*"])
    repository.delegate("targets", "last", ["*", "*/*"], terminating=True)
    repository.delegate("targets", "never", ["*", "*/*"])
    repository.add("docs", "x.md", b"docs")
    repository.add("docs", "docs/y", b"docs")
    repository.add("docs", "b/c/z", b"outside its path")
    repository.add("c", "b/c/z", b"c")
    repository.add("c", "docs/w", b"delegated further than its own")
    repository.add("last", "x.md", b"too late")
    repository.add("last", "v", b"last")
    repository.add("never", "u", b"never")
    repository.publish()
    files = {"x.md": "docs", "docs/y": "docs", "b/c/z": "c", "docs/w": None, "v": "last", "u": None}
    repository.step(files=files)
    # A bad one is none for the names that lead to it, and harms no others.
    repository.signers["docs"] = [CryptoSigner.generate_ecdsa()]
    repository.publish()
    files.update({"x.md": None, "docs/y": None})
    repository.step(files=files)
    repository.publish()
    del repository.served["4.team%2Fb.json"]
    files["b/c/z"] = None
    repository.step(files=files)
    yield "delegations", repository

    # A terminating role far down ends the search above it too.
    repository = Repository()
    repository.delegate("targets", "a", ["*"])
    repository.delegate("targets", "b", ["*"])
    repository.delegate("a", "c", ["c*"], terminating=True)
    repository.add("b", "c1", b"b")
    repository.add("b", "d1", b"b")
    repository.publish()
    repository.step(files={"c1": None, "d1": "b"})
    yield "terminating-far-down", repository

    # A circle ends, and so does a chain that is too long.
    repository = Repository()
    repository.delegate("targets", "r0", ["*"])
    for n in range(40):
        repository.delegate(f"r{n}", f"r{n + 1}", ["*"])
    repository.add("r20", "near", b"near")
    repository.add("r40", "far", b"far")
    repository.delegate("r5", "r1", ["*"])
    repository.roles["r0"].delegations.roles["r1"].keyids[:] = repository.roles[
        "r5"
    ].delegations.roles["r1"].keyids
    key = repository.signers["r1"][0].public_key
    repository.roles["r0"].delegations.keys[key.keyid] = key
    repository.publish()
    repository.step(files={"near": "near", "far": None})
    yield "chains-and-circles", repository

    # Hashed bins, two ways.
    repository = Repository()
    for digit in "0123456789abcdef":
        repository.delegate("targets", f"bin-{digit}", prefixes=[digit])
    names = [f"file-{n}" for n in range(12)]
    for name in names:
        for role in repository.roles["targets"].delegations.get_roles_for_target(name):
            repository.add(role[0], name, name.encode())
    repository.publish()
    repository.step(files={name: name for name in names})
    yield "hash-prefixes", repository

    for bits in [1, 3, 4, 5, 8]:
        repository = Repository()
        key = CryptoSigner.generate_ecdsa()
        bins = SuccinctRoles([], 1, bits, "bin")
        repository.roles["targets"].delegations = Delegations({}, None, bins)
        repository.roles["targets"].add_key(key.public_key)
        for role in bins.get_roles():
            repository.signers[role] = [key]
            repository.roles[role] = Targets(expires=LATER)
        for name in names:
            repository.add(bins.get_role_for_target(name), name, name.encode())
        repository.publish()
        repository.step(files={**{name: name for name in names}, "none": None})
        yield f"succinct-{bits}", repository

    # The targets of a delegated role under a key of a kind that nobody knows.
    repository = Repository()
    repository.delegate("targets", "odd", ["odd/*"])
    repository.delegate("targets", "even", ["even/*"])
    keys = repository.roles["targets"].delegations.keys
    odd = repository.signers["odd"][0].public_key
    keys[odd.keyid].keytype = "unheard-of"
    repository.add("odd", "odd/1", b"odd")
    repository.add("even", "even/1", b"even")
    repository.publish()
    repository.step(files={"odd/1": None, "even/1": "even"})
    yield "key-of-an-unknown-kind", repository


def main(out):
    count = 0
    for group in [good_ones, rotations, expiries, rollbacks, mixtures, thresholds, delegations]:
        for name, repository in group():
            scenario = out / name
            scenario.mkdir(parents=True)
            (scenario / "root.json").write_bytes(repository.first)
            script = []
            for number, step in enumerate(repository.steps):
                folder = scenario / str(number)
                folder.mkdir()
                for path, data in step.pop("served").items():
                    place = folder / quote(path, safe="")
                    place.write_bytes(data)
                script.append(step)
            (scenario / "script.json").write_text(json.dumps(script))
            count += 1
    print(f"{count} repositories")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

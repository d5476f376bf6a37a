"""What securesystemslib and in-toto-attestation say of our bundles, and an envelope that they make.

    others.py verify BUNDLE PUBLIC_PEM     prints the result, or fails
    others.py make SHA256 BUNDLE           writes a bundle, and prints its public key
"""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.json_format import MessageToDict, Parse
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

TYPE = "application/vnd.in-toto+json"
PREDICATES = {
    "https://slsa.dev/provenance/v1": Provenance,
    "https://in-toto.io/attestation/test-result/v0.1": TestResult,
}


def verify(bundle_file, key_file):
    bundle = json.load(open(bundle_file, encoding="utf-8"))
    hint = bundle["verificationMaterial"]["publicKey"]["hint"]
    pem = open(key_file, encoding="utf-8").read()
    key = SSlibKey(hint, "ecdsa", "ecdsa-sha2-nistp256", {"public": pem})
    envelope = Envelope.from_dict(bundle["dsseEnvelope"])
    assert envelope.payload_type == TYPE
    envelope.verify([key], 1)
    # A strict reader: a field that the schema does not know is an error.
    message = Parse(envelope.payload, StatementMessage())
    Statement.copy_from_pb(message).validate()
    schema = PREDICATES.get(message.predicate_type)
    if schema:
        Parse(json.dumps(MessageToDict(message.predicate)), schema())
    print("verified", message.predicate_type)


def make(sha256, bundle_file):
    signer = CryptoSigner.generate_ecdsa()
    subject = ResourceDescriptor(name="shop/web 1.4.2", digest={"sha256": sha256})
    when = "2026-11-26T11:00:00Z"
    notes = {"kind": "test", "startedOn": when, "finishedOn": when}
    result = TestResult(result="PASSED")
    result.configuration.add(name="test").annotations.update(notes)
    statement = Statement(
        subjects=[subject.pb],
        predicate_type="https://in-toto.io/attestation/test-result/v0.1",
        predicate=MessageToDict(result),
    )
    statement.validate()
    payload = json.dumps(MessageToDict(statement.pb)).encode()
    envelope = Envelope(payload, TYPE, {})
    envelope.sign(signer)
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hint(signer)}},
        "dsseEnvelope": envelope.to_dict(),
    }
    with open(bundle_file, "w", encoding="utf-8") as file:
        json.dump(bundle, file)
    print(signer.public_key.keyval["public"])


def hint(signer):
    """The name of a key in bundles: SHA-256 of its SubjectPublicKeyInfo, here in base64, as Sigstore has it."""
    lines = signer.public_key.keyval["public"].strip().splitlines()[1:-1]
    digest = hashlib.sha256(base64.b64decode("".join(lines))).digest()
    return base64.b64encode(digest).decode()


if __name__ == "__main__":
    {"verify": verify, "make": make}[sys.argv[1]](*sys.argv[2:])

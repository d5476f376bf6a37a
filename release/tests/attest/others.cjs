// What @sigstore/verify says of our bundles: others.cjs BUNDLE PUBLIC_PEM
const fs = require('node:fs');
const crypto = require('node:crypto');
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');

const [bundleFile, keyFile] = process.argv.slice(2);
const bundle = bundleFromJSON(JSON.parse(fs.readFileSync(bundleFile, 'utf8')));
const { hint } = bundle.verificationMaterial.content.publicKey;
const rawBytes = crypto
  .createPublicKey(fs.readFileSync(keyFile))
  .export({ type: 'spki', format: 'der' });
const nobody = {
  certificateAuthorities: [],
  timestampAuthorities: [],
  tlogs: [],
  ctlogs: [],
};
const material = toTrustMaterial(nobody, { [hint]: { rawBytes } });
const thresholds = { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 };
new Verifier(material, thresholds).verify(toSignedEntity(bundle));
console.log('verified');

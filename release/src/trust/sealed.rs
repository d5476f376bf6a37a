//! Private keys under a passphrase: PKCS#8 with PBES2, PBKDF2-HMAC-SHA256 and AES-256-CBC, which is
//! what `openssl pkcs8 -topk8` writes and reads.

use super::keys::KeyError;
use aws_lc_rs::cipher::{
    AES_256, AES_256_KEY_LEN, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use pkcs8::EncryptedPrivateKeyInfo;
use pkcs8::der::{Decode, Encode};
use pkcs8::pkcs5::EncryptionScheme as Scheme;
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Kdf, Parameters, Pbkdf2Params, Pbkdf2Prf};
use std::num::NonZeroU32;

/// The rounds of new files: a fraction of a second on today's machines.
const ROUNDS: u32 = 600_000;
/// The most rounds that are gone through, so that a file from outside does not stop anybody for hours.
const MAX_ROUNDS: u32 = 10_000_000;

/// Opens a PKCS#8 `EncryptedPrivateKeyInfo`; gives the PKCS#8 in it.
///
/// # Errors
/// [`KeyError::Sealing`]: sealed in another way. [`KeyError::Passphrase`]: another passphrase.
pub(super) fn open(der: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, KeyError> {
    let sealed = EncryptedPrivateKeyInfo::from_der(der).map_err(|_| KeyError::Sealing)?;
    let Scheme::Pbes2(Parameters {
        kdf: Kdf::Pbkdf2(kdf),
        encryption: EncryptionScheme::Aes256Cbc { iv },
    }) = sealed.encryption_algorithm
    else {
        return Err(KeyError::Sealing);
    };
    let sound = kdf.prf == Pbkdf2Prf::HmacWithSha256
        && kdf.iteration_count <= MAX_ROUNDS
        && kdf
            .key_length
            .is_none_or(|length| usize::from(length) == AES_256_KEY_LEN);
    if !sound {
        return Err(KeyError::Sealing);
    }
    let key = derive(passphrase, kdf.salt, kdf.iteration_count)?;
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| KeyError::Crypto)?;
    let mut bytes = sealed.encrypted_data.to_vec();
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let plain = cipher.decrypt(&mut bytes, context);
    Ok(plain.map_err(|_| KeyError::Passphrase)?.to_vec())
}

/// Seals a PKCS#8 private key.
///
/// # Errors
/// [`KeyError::Crypto`]: the system has no randomness.
pub(super) fn seal(pkcs8: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, KeyError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    for bytes in [&mut salt, &mut iv] {
        aws_lc_rs::rand::fill(bytes).map_err(|_| KeyError::Crypto)?;
    }
    let key = derive(passphrase, &salt, ROUNDS)?;
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(|_| KeyError::Crypto)?;
    let mut bytes = pkcs8.to_vec();
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    let sealing = cipher.less_safe_encrypt(&mut bytes, context);
    sealing.map_err(|_| KeyError::Crypto)?;
    let parameters = Parameters {
        kdf: Kdf::Pbkdf2(Pbkdf2Params {
            salt: &salt,
            iteration_count: ROUNDS,
            key_length: None,
            prf: Pbkdf2Prf::HmacWithSha256,
        }),
        encryption: EncryptionScheme::Aes256Cbc { iv: &iv },
    };
    let sealed = EncryptedPrivateKeyInfo {
        encryption_algorithm: Scheme::Pbes2(parameters),
        encrypted_data: &bytes,
    };
    sealed.to_der().map_err(|_| KeyError::Crypto)
}

fn derive(passphrase: &[u8], salt: &[u8], rounds: u32) -> Result<UnboundCipherKey, KeyError> {
    let rounds = NonZeroU32::new(rounds).ok_or(KeyError::Sealing)?;
    let mut key = [0; AES_256_KEY_LEN];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, salt, passphrase, &mut key);
    UnboundCipherKey::new(&AES_256, &key).map_err(|_| KeyError::Crypto)
}

#[cfg(test)]
mod tests {
    use super::super::keys::SigningKey;
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn openssl(dir: &Path, line: &str) {
        let done = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(dir)
            .output();
        let done = done.expect("openssl, which these tests need");
        assert!(
            done.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    #[test]
    fn what_openssl_seals_opens_here_and_what_is_sealed_here_opens_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let private = |name: &str| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(at(name), PermissionsExt::from_mode(0o600)).unwrap();
        };
        openssl(
            dir.path(),
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out plain.pem",
        );
        openssl(
            dir.path(),
            "pkcs8 -topk8 -in plain.pem -passout pass:lion -out theirs.pem",
        );
        openssl(dir.path(), "pkey -in plain.pem -pubout -out plain.pub");
        private("theirs.pem");
        let load = |name: &str, word: &str| {
            let word = word.to_owned();
            SigningKey::load_with(&at(name), || Ok(word))
        };
        let theirs = load("theirs.pem", "lion").unwrap();
        let public = std::fs::read_to_string(at("plain.pub")).unwrap();
        assert_eq!(theirs.public().to_pem().unwrap(), public);
        assert!(matches!(
            SigningKey::load(&at("theirs.pem")),
            Err(KeyError::Sealed(_))
        ));
        // Wrong padding, or now and then right padding around rubbish: no key either way.
        for word in ["", "Lion", "lion "] {
            let error = load("theirs.pem", word).unwrap_err();
            assert!(matches!(error, KeyError::Passphrase), "{error}");
        }

        theirs.save_sealed(&at("ours.pem"), "tiger").unwrap();
        openssl(
            dir.path(),
            "pkcs8 -in ours.pem -passin pass:tiger -out again.pem",
        );
        private("again.pem");
        let again = SigningKey::load(&at("again.pem")).unwrap();
        assert_eq!(again.public(), theirs.public());
        assert_eq!(load("ours.pem", "tiger").unwrap().public(), theirs.public());

        // What is weak, or costs hours, is not gone through.
        openssl(
            dir.path(),
            "pkcs8 -topk8 -in plain.pem -v2 des3 -passout pass:lion -out weak.pem",
        );
        openssl(
            dir.path(),
            "pkcs8 -topk8 -in plain.pem -v2prf hmacWithSHA1 -passout pass:lion -out old.pem",
        );
        for name in ["weak.pem", "old.pem"] {
            private(name);
            let error = load(name, "lion").unwrap_err();
            assert!(matches!(error, KeyError::Sealing), "{name}: {error}");
        }
    }
}

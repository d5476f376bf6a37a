//! Who signs: a key file, a key of the environment, or a program that asks a KMS or a hardware key.
//!
//! Everything that signs takes a [`Signer`] and never a key: roots and targets, the controller's
//! snapshots, and evidence and approvals in their envelopes.

use super::keys::{KeyError, PublicKey};
use std::fmt::Debug;

/// Something that signs with one key. It blocks while it signs, at most for its own time limit.
pub trait Signer: Debug + Send + Sync {
    /// The public half of the key.
    fn public(&self) -> &PublicKey;

    /// Signs a message as it is, without hashing it before: ASN.1 ECDSA over SHA-256, or Ed25519,
    /// whichever the public key is for.
    ///
    /// # Errors
    /// [`KeyError`]: the key cannot be used, or what came back is not its signature.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

impl<S: Signer + ?Sized> Signer for Box<S> {
    fn public(&self) -> &PublicKey {
        (**self).public()
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        (**self).sign(message)
    }
}

//! A key that is not here: a program asks the KMS or the hardware that has it. The program gets the
//! bytes to sign on its standard input, and answers with the signature, raw or in base64. It is
//! started as it is named, never through a shell, and its answer is verified before it is used.

use super::keys::{KeyError, PublicKey};
use super::signer::Signer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4096;

/// Signs by asking a program.
#[derive(Debug, Clone)]
pub struct External {
    public: PublicKey,
    command: Vec<String>,
    limit: Duration,
    /// Variables that the program does not get.
    without: Vec<&'static str>,
}

impl External {
    /// The program and its arguments, the key that it signs with, and how long it may take. It gets
    /// the environment without the variables in `without`, which hold secrets.
    ///
    /// # Errors
    /// No program is named.
    pub fn new(
        public: PublicKey,
        command: Vec<String>,
        limit: Duration,
        without: Vec<&'static str>,
    ) -> Result<Self, KeyError> {
        if command.first().is_none_or(String::is_empty) {
            return Err(KeyError::Program("no program is named".to_owned()));
        }
        Ok(Self {
            public,
            command,
            limit,
            without,
        })
    }

    fn start(&self) -> Result<Child, KeyError> {
        let (program, arguments) = self.command.split_first().ok_or(KeyError::Crypto)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for name in &self.without {
            command.env_remove(name);
        }
        let started = command.spawn();
        started.map_err(|error| KeyError::Program(format!("{program} cannot be started: {error}")))
    }

    /// Reads its answer, while what it is asked is written.
    fn ask(&self, child: &mut Child, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let program = &self.command[0];
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(KeyError::Crypto);
        };
        let message = message.to_vec();
        // A program that reads nothing must not hold us up, nor one that writes without end.
        std::thread::spawn(move || drop(stdin.write_all(&message)));
        let (sender, answer) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(MAX_ANSWER + 1).read_to_end(&mut bytes);
            drop(sender.send(read.map(|_| bytes)));
        });
        match answer.recv_timeout(self.limit) {
            Ok(Ok(bytes)) if bytes.len() as u64 > MAX_ANSWER => {
                Err(KeyError::Program(format!("{program} answered without end")))
            }
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(KeyError::Program(format!("{program}: {error}"))),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let limit = self.limit.as_secs();
                Err(KeyError::Program(format!(
                    "{program} gave no answer within {limit} s"
                )))
            }
        }
    }
}

impl Signer for External {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let program = &self.command[0];
        let mut child = self.start()?;
        let answer = self.ask(&mut child, message);
        if answer.is_err() {
            // Whatever it is doing: its answer is not waited for any more.
            drop(child.kill());
        }
        let status = child.wait();
        let answer = answer?;
        let status = status.map_err(|error| KeyError::Program(format!("{program}: {error}")))?;
        if !status.success() {
            return Err(KeyError::Program(format!("{program} ended with {status}")));
        }
        if self.public.verify(message, &answer) {
            return Ok(answer);
        }
        let text = String::from_utf8_lossy(&answer);
        match STANDARD.decode(text.trim()) {
            Ok(decoded) if self.public.verify(message, &decoded) => Ok(decoded),
            _ => Err(KeyError::Program(format!(
                "what {program} answered is not the signature of the key {}",
                &self.public.id()[..16]
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::SigningKey;
    use super::*;

    #[test]
    fn openssl_signs_and_whatever_is_not_a_signature_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a key; rm -rf $HOME.pem");
        let key = SigningKey::generate().unwrap();
        key.save(&path).unwrap();
        let path = path.to_str().unwrap();
        let ask = |words: &[&str], limit: u64| {
            let command = words.iter().map(|&word| word.to_owned()).collect();
            let public = key.public().clone();
            let limit = Duration::from_secs(limit);
            External::new(public, command, limit, vec!["HOME"]).unwrap()
        };
        let openssl = ["openssl", "dgst", "-sha256", "-sign", path];
        let message = vec![7; 1 << 20];
        let signature = ask(&openssl, 60).sign(&message).unwrap();
        assert!(key.public().verify(&message, &signature));
        let base64 = format!("openssl dgst -sha256 -sign '{path}' | base64 -w0");
        ask(&["sh", "-c", &base64], 60).sign(&message).unwrap();
        // What holds a secret is not handed on.
        let kept = format!("test -z \"$HOME\" && openssl dgst -sha256 -sign '{path}'");
        ask(&["sh", "-c", &kept], 60).sign(&message).unwrap();

        for (words, limit, said) in [
            (&["cat"][..], 60, "answered without end"),
            (&["echo", "yes"], 60, "is not the signature of the key"),
            (&["false"], 60, "ended with"),
            (&["/nowhere/signer"], 60, "cannot be started"),
            (&["sleep", "600"], 0, "gave no answer within"),
        ] {
            let error = ask(words, limit).sign(&message).unwrap_err().to_string();
            assert!(error.contains(said), "{words:?}: {error}");
        }
        let nothing = External::new(key.public().clone(), vec![], Duration::ZERO, vec![]);
        assert!(nothing.is_err());
    }
}

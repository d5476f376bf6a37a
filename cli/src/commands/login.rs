//! `tamer login`

use super::Context;
use crate::args::Login;
use crate::client;
use crate::error::{Context as _, Error, Result};
use crate::exit::Exit;
use crate::home::Known;
use crate::identity;
use serde::Serialize;
use tamer_core::digest::Digest;
use tamer_kit::address::Address;
use tamer_kit::hash::sha256;
use tamer_kit::token::{self, JoinToken, TokenKind};
use tamer_proto::v1::JoinRequest;

#[derive(Serialize)]
struct LoggedIn<'a> {
    controller: String,
    name: &'a str,
    trust_root: Option<Digest>,
}

pub(super) async fn run(at: &Context<'_>, args: &Login) -> Result<Exit> {
    let (address, token) = read(args)?;
    let key = identity::new_key()?;
    let request = JoinRequest {
        secret: token.secret.expose().to_vec(),
        name: String::new(),
        csr: identity::signing_request(&key)?,
    };
    let answer = client::join(&address, token.ca, request).await?;
    let trust_root = pinned(token.trust_root, &answer.trust_root)?;
    let known = Known {
        address: address.to_string(),
        name: answer.name.clone(),
        trust_root,
    };
    let identity = identity::join(&key, &answer.certificate_pem);
    at.home
        .remember(&address, known, &answer.ca_pem, &identity)?;
    at.printer.json(&LoggedIn {
        controller: address.to_string(),
        name: &answer.name,
        trust_root,
    });
    at.printer
        .line(format!("You are {} at {address}.", answer.name));
    at.printer.next(match trust_root {
        None => "tamer trust init",
        Some(_) => "tamer status",
    });
    Ok(Exit::Done)
}

/// The address is the token's, unless another one is given.
fn read(args: &Login) -> Result<(Address, JoinToken)> {
    let address = args.address.as_ref();
    if address.is_some_and(|it| it.starts_with(token::PREFIX)) {
        return Err(Error::usage(
            "everybody on this machine may see the words of a command, and this one is a secret: it was not used",
        )
        .next("tamer login, which asks for it"));
    }
    let token = token::given(args.token_file.as_deref())
        .doing(Exit::Usage, || "cannot log in".to_owned())?;
    if token.kind == TokenKind::Host {
        return Err(Error::usage("this token is for a server, not for a person")
            .next("on the server: ./install-agent <<< TOKEN"));
    }
    let address = match address {
        Some(address) => address
            .parse()
            .doing(Exit::Usage, || "cannot log in".to_owned())?,
        None => token.controller.clone(),
    };
    Ok((address, token))
}

/// The trust root to pin: the token's, which came by another way than the controller's answer.
fn pinned(token: Option<Digest>, answer: &[u8]) -> Result<Option<Digest>> {
    let told = match answer {
        [] => None,
        // Either the root's digest, or the document itself.
        bytes => Some(Digest::try_from(bytes).unwrap_or_else(|_| sha256(bytes))),
    };
    match (token, told) {
        (Some(token), Some(told)) if token != told => Err(Error::new(
            Exit::Refused,
            "the controller has another team root than the token pins: do not go on before you know why",
        )),
        (token, told) => Ok(token.or(told)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tamer_kit::token::Secret;

    fn token(kind: TokenKind) -> String {
        let token = JoinToken {
            kind,
            controller: "https://c:7400".parse().unwrap(),
            ca: Digest::new([1; 32]),
            trust_root: None,
            secret: Secret::new([2; 32]),
        };
        token.to_string()
    }

    /// `login` with this text in a file, and this address.
    fn login(text: &str, address: Option<&str>) -> Result<(Address, JoinToken)> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, text).unwrap();
        read(&Login {
            address: address.map(str::to_owned),
            token_file: Some(file),
        })
    }

    #[test]
    fn the_token_carries_the_address() {
        let operator = token(TokenKind::Operator);
        let (address, _) = login(&format!("{operator}\n"), None).unwrap();
        assert_eq!(address.to_string(), "https://c:7400");
        let elsewhere = login(&operator, Some("10.0.0.1:99")).unwrap();
        assert_eq!(elsewhere.0.to_string(), "https://10.0.0.1:99");
        let host = login(&token(TokenKind::Host), None).unwrap_err();
        assert!(host.next[0].contains("install-agent <<< TOKEN"), "{host:?}");
        let cut = login(&operator[..40], None).unwrap_err();
        assert_eq!(cut.exit, Exit::Usage);
        assert!(
            cut.report().contains("copy the whole line again"),
            "{}",
            cut.report()
        );
        let none = login(" \n", None).unwrap_err();
        assert!(none.report().contains("no join token came"), "{none:?}");
    }

    #[test]
    fn a_token_among_the_words_of_the_command_is_not_used() {
        let operator = token(TokenKind::Operator);
        let said = login(&operator, Some(&operator)).unwrap_err();
        assert_eq!(said.exit, Exit::Usage);
        assert!(!said.report().contains(&operator), "{}", said.report());
        assert!(said.next[0].starts_with("tamer login"), "{said:?}");
    }

    #[test]
    fn the_token_s_trust_root_is_not_overruled() {
        let (one, two) = (Digest::new([1; 32]), Digest::new([2; 32]));
        assert_eq!(pinned(None, &[]).unwrap(), None);
        assert_eq!(pinned(Some(one), &[]).unwrap(), Some(one));
        assert_eq!(pinned(None, one.as_bytes()).unwrap(), Some(one));
        assert_eq!(pinned(None, b"{}").unwrap(), Some(sha256(b"{}")));
        assert_eq!(
            pinned(Some(one), two.as_bytes()).unwrap_err().exit,
            Exit::Refused
        );
    }
}

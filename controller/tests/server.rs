//! The controller's port over loopback, with real certificates: who gets in, and as whom.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod fleet;

use fleet::{DAY, Fleet, HOST, OTHER_HOST, Server, leaf, now};
use std::time::Duration;
use tamer_controller::identity::peer::Identity;
use tamer_controller::server::Limits;
use tamer_core::moment::{Moment, Span};
use tamer_kit::tls::{self, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn ago(days: u64) -> Moment {
    Moment(now().0 - days * DAY)
}

#[tokio::test]
async fn a_stranger_is_nobody_and_a_host_is_itself_in_both_http_versions() {
    let fleet = Fleet::new();
    let server = Server::start(&fleet).await;
    let host = fleet.identity(HOST, now());
    assert_eq!(server.who(None).await.unwrap(), "stranger h2");
    assert_eq!(server.who(Some(&host)).await.unwrap(), format!("{HOST} h2"));

    let mut config = fleet.client(Some(&host));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut stream = server.raw(config).await.unwrap();
    let ask = b"GET /who HTTP/1.1\r\nhost: controller\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = String::new();
    // Without a close_notify at the end, rustls reports an unexpected end; the text is there.
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.ends_with(&format!("{HOST} h1")), "{answer}");
}

#[tokio::test]
async fn grpc_is_answered_on_the_same_port_and_knows_the_peer() {
    let fleet = Fleet::new();
    let server = Server::start(&fleet).await;
    let host = fleet.identity(HOST, now());
    let said = server.grpc_echo(fleet.client(Some(&host)), "hello").await;
    assert_eq!(said.unwrap(), format!("hello, {HOST}"));
    let said = server.grpc_echo(fleet.client(None), "hello").await;
    assert_eq!(said.unwrap(), "hello, stranger");
    assert_eq!(server.who(Some(&host)).await.unwrap(), format!("{HOST} h2"));
}

#[tokio::test]
async fn another_fleets_certificate_is_refused_in_the_handshake() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let server = Server::start(&fleet).await;
    for issued in [now(), ago(3)] {
        let intruder = other.identity(HOST, issued);
        let refused = server.who(Some(&intruder)).await.unwrap_err();
        assert!(refused.contains("alert"), "{refused}");
        // What a call says of it is what people are told by.
        let config = fleet.client(Some(&intruder));
        let refused = server.grpc_echo(config, "hello").await.unwrap_err();
        let refused = std::io::Error::other(refused);
        assert!(tamer_kit::channel::is_unknown_there(&refused), "{refused}");
    }
    // And nobody of this fleet is fooled by the other's controller.
    let refused = server.who_with(other.client(None)).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    assert_eq!(server.connections.count(), 0);
}

/// A certificate says by its issuer's name which CA has signed it. Whoever has the key of one CA could sign another one
/// that is called like the CA which took the first one's place.
#[tokio::test]
async fn a_certificate_is_signed_by_a_ca_of_the_controller_itself_and_by_none_below() {
    let fleet = Fleet::new();
    let server = Server::start(&fleet).await;
    let refused = server.who(Some(&fleet.through_another_ca(HOST))).await;
    assert!(refused.unwrap_err().contains("alert"));
    // That more is shown than is needed does no harm.
    let (certificate, key) = fleet.identity(HOST, now());
    let with_its_ca = (certificate + fleet.ca.certificate_pem(), key);
    let known = server.who(Some(&with_its_ca)).await;
    assert_eq!(known.unwrap(), format!("{HOST} h2"));
}

#[tokio::test]
async fn a_server_certificate_is_no_clients() {
    let fleet = Fleet::new();
    let server = Server::start(&fleet).await;
    let refused = server.who(Some(&fleet.server_identity("127.0.0.1"))).await;
    assert!(refused.unwrap_err().contains("alert"));
}

#[tokio::test]
async fn a_certificate_outside_of_its_time_is_let_in_for_ninety_days_and_marked() {
    let fleet = Fleet::new();
    let server = Server::start(&fleet).await;
    // A host's certificate lasts one day.
    for (issued, expected) in [(ago(2), true), (ago(90), true), (ago(92), false)] {
        let host = fleet.identity(HOST, issued);
        let expired = server.who(Some(&host)).await;
        if expected {
            assert_eq!(expired.unwrap(), format!("{HOST} expired h2"));
        } else {
            assert!(expired.unwrap_err().contains("alert"));
        }
    }
    // The same for one that is not valid yet: the clock was ahead when it was signed.
    let day = 24 * 3600;
    for (ahead, expected) in [(2, true), (90, true), (92, false)] {
        let early = fleet.identity(HOST, now() + Span::secs(ahead * day));
        match server.who(Some(&early)).await {
            Ok(said) => assert!(expected && said.starts_with(HOST), "{ahead}: {said}"),
            Err(said) => assert!(!expected && said.contains("alert"), "{ahead}: {said}"),
        }
    }
}

#[tokio::test]
async fn the_first_contact_trusts_the_pinned_ca_alone() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let server = Server::start(&fleet).await;
    let pinned = |of: &Fleet| tls::pinned_client_config(of.ca.fingerprint()).unwrap();
    assert_eq!(
        server.who_with(pinned(&fleet)).await.unwrap(),
        "stranger h2"
    );
    let refused = server.who_with(pinned(&other)).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    // A leaf of the pinned CA, but for another name.
    let misnamed = fleet.server_identity("other.example");
    let server = Server::start_with(&fleet, &misnamed, Limits::default()).await;
    let refused = server.who_with(pinned(&fleet)).await.unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");

    // The pinned CA is sent along, but the leaf is somebody else's.
    let impostor = other.server_identity("127.0.0.1");
    let server = Server::start_with(&fleet, &impostor, Limits::default()).await;
    let refused = server.who_with(pinned(&fleet)).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    // A host's certificate does not make its bearer a controller either.
    let host = fleet.identity(HOST, now());
    let server = Server::start_with(&fleet, &host, Limits::default()).await;
    let refused = server.who_with(pinned(&fleet)).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
}

#[tokio::test]
async fn the_servers_certificate_is_replaced_without_a_restart() {
    let fleet = Fleet::new();
    let misnamed = fleet.server_identity("other.example");
    let server = Server::start_with(&fleet, &misnamed, Limits::default()).await;
    assert!(server.who(None).await.is_err());
    let (certificate, key) = fleet.server_identity("127.0.0.1");
    assert!(
        server
            .tls
            .replace(fleet.ca.certificate_pem(), &certificate, &misnamed.1)
            .is_err()
    );
    server
        .tls
        .replace(fleet.ca.certificate_pem(), &certificate, &key)
        .unwrap();
    assert_eq!(server.who(None).await.unwrap(), "stranger h2");
    assert!(ServerTls::new(fleet.ca.certificate_pem(), &certificate, &misnamed.1).is_err());
}

#[tokio::test]
async fn a_revoked_peers_connections_are_closed_and_no_others() {
    let fleet = Fleet::new();
    let server = Server::start(&fleet).await;
    let (bad, good) = (
        fleet.identity(HOST, now()),
        fleet.identity(OTHER_HOST, now()),
    );
    let mut revoked = server.endless(Some(&bad)).await;
    let mut kept = server.endless(Some(&good)).await;
    assert_eq!(server.connections.count(), 2);
    assert_eq!(server.connections.close(leaf(&bad).key), 1);
    timeout(PATIENCE, async {
        while let Ok(Some(_)) = revoked.chunk().await {}
    })
    .await
    .expect("the revoked peer's stream ends");
    assert!(matches!(leaf(&bad).identity, Identity::Host { .. }));
    assert_eq!(server.connections.close(leaf(&bad).key), 0);
    assert_eq!(server.connections.count(), 1);
    let alive = timeout(PATIENCE, kept.chunk()).await.unwrap();
    assert!(alive.unwrap().is_some());
}

#[tokio::test]
async fn a_stranger_and_an_expired_host_may_not_stay() {
    let fleet = Fleet::new();
    let limits = Limits {
        stranger_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::start_with(&fleet, &fleet.server_identity("127.0.0.1"), limits).await;
    let mut kept = server
        .endless(Some(&fleet.identity(OTHER_HOST, now())))
        .await;
    for caller in [None, Some(fleet.identity(HOST, ago(2)))] {
        let mut stream = server.endless(caller.as_ref()).await;
        timeout(PATIENCE, async {
            while let Ok(Some(_)) = stream.chunk().await {}
        })
        .await
        .expect("its stream ends");
    }
    assert!(
        timeout(PATIENCE, kept.chunk())
            .await
            .unwrap()
            .unwrap()
            .is_some()
    );
}

/// With these limits there is room for one stranger, and for hosts beside him.
async fn there_is_room_for_one_stranger(limits: Limits) {
    let fleet = Fleet::new();
    let server = Server::start_with(&fleet, &fleet.server_identity("127.0.0.1"), limits).await;
    let first = server.endless(None).await;
    assert!(server.who(None).await.is_err());
    let host = fleet.identity(HOST, now());
    assert_eq!(server.who(Some(&host)).await.unwrap(), format!("{HOST} h2"));
    drop(first);
    timeout(PATIENCE, async {
        while server.who(None).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the place is free again");
}

#[tokio::test]
async fn strangers_are_few_and_known_peers_do_not_count() {
    let limits = Limits {
        strangers: 1,
        ..Limits::default()
    };
    there_is_room_for_one_stranger(limits).await;
}

#[tokio::test]
async fn silent_connections_do_not_hold_up_handshakes_for_long() {
    let fleet = Fleet::new();
    let limits = Limits {
        handshakes: 1,
        handshake_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::start_with(&fleet, &fleet.server_identity("127.0.0.1"), limits).await;
    // One that is past its handshake holds up nobody at all.
    let _open = server.endless(None).await;
    let _silent = TcpStream::connect(server.socket).await.unwrap();
    let answer = timeout(PATIENCE, server.who(None)).await.unwrap();
    assert_eq!(answer.unwrap(), "stranger h2");
}

#[tokio::test]
async fn those_who_say_nothing_make_room_for_those_who_do() {
    let fleet = Fleet::new();
    let limits = Limits {
        handshakes: 8,
        // Far longer than anybody waits here.
        handshake_time: Duration::from_secs(3600),
        ..Limits::default()
    };
    let server = Server::start_with(&fleet, &fleet.server_identity("127.0.0.1"), limits).await;
    let host = fleet.identity(HOST, now());
    let mut silent = Vec::new();
    for _ in 0..5 {
        for _ in 0..8 {
            silent.push(TcpStream::connect(server.socket).await.unwrap());
        }
        let answer = timeout(PATIENCE, server.who(Some(&host))).await;
        let answer = answer.expect("a host comes in past those who say nothing");
        assert_eq!(answer.unwrap(), format!("{HOST} h2"));
    }
    // The first of them was sent away.
    let end = timeout(PATIENCE, silent[0].read(&mut [0])).await;
    assert!(matches!(end.unwrap(), Ok(0) | Err(_)));
}

#[tokio::test]
async fn strangers_of_one_address_are_fewer_than_all() {
    let limits = Limits {
        strangers_of_one_address: 1,
        ..Limits::default()
    };
    there_is_room_for_one_stranger(limits).await;
}

#[tokio::test]
async fn one_key_has_so_many_connections_and_no_more() {
    let fleet = Fleet::new();
    let limits = Limits {
        connections_of_one_key: 2,
        ..Limits::default()
    };
    let server = Server::start_with(&fleet, &fleet.server_identity("127.0.0.1"), limits).await;
    let (one, other) = (
        fleet.identity(HOST, now()),
        fleet.identity(OTHER_HOST, now()),
    );
    let _first = server.endless(Some(&one)).await;
    let second = server.endless(Some(&one)).await;
    assert!(server.who(Some(&one)).await.is_err());
    assert_eq!(
        server.who(Some(&other)).await.unwrap(),
        format!("{OTHER_HOST} h2")
    );
    drop(second);
    timeout(PATIENCE, async {
        while server.who(Some(&one)).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("there is room again");
}

#[tokio::test]
async fn a_stop_lets_requests_end_and_cuts_off_what_does_not() {
    let fleet = Fleet::new();
    let limits = Limits {
        drain: Duration::from_secs(1),
        ..Limits::default()
    };
    let mut server = Server::start_with(&fleet, &fleet.server_identity("127.0.0.1"), limits).await;
    let mut endless = server.endless(Some(&fleet.identity(HOST, now()))).await;
    let slow = server.held(Some(&fleet.identity(OTHER_HOST, now()))).await;
    server.stop();
    // Only once new connections are refused has the stop begun.
    timeout(PATIENCE, async {
        while TcpStream::connect(server.socket).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the listener closes");
    server.release();
    assert_eq!(timeout(PATIENCE, slow).await.unwrap().unwrap(), "released");
    timeout(PATIENCE, async {
        while let Ok(Some(_)) = endless.chunk().await {}
    })
    .await
    .expect("the endless stream ends");
    timeout(PATIENCE, server.ended()).await.unwrap().unwrap();
    assert_eq!(server.connections.count(), 0);
}

//! Who may call what: a controller that serves, called with every kind of certificate and with none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::path::Path;
use std::time::{Duration, Instant};
use tamer_controller::api::calls::{Whose, whose};
use tamer_controller::identity::peer::Peer;
use tamer_core::moment::{Moment, Span};
use tamer_kit::tls;
use tamer_proto::v1;
use tonic::Code;
use world::{World, now, request};
use x509_parser::prelude::{FromDer, X509Certificate};

const HOST: &str = "tamer://host/production/web-01?incarnation=1";
const DAY: Span = Span::secs(24 * 3600);

/// Every call that the descriptors name, as the path that it is called by.
fn all_calls() -> Vec<String> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto");
    let files = std::fs::read_dir(protos.join("tamer/v1")).unwrap();
    let files =
        files.map(|file| format!("tamer/v1/{}", file.unwrap().file_name().to_str().unwrap()));
    let descriptors = protox::compile(files.collect::<Vec<_>>(), [protos]).unwrap();
    let mut calls = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                calls.push(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    assert!(
        calls.len() >= 26,
        "the descriptors were not read: {calls:?}"
    );
    calls
}

#[tokio::test]
async fn without_a_certificate_every_call_but_one_is_refused() {
    let world = World::start();
    for call in all_calls() {
        let (code, said) = world.call(None, &call).await;
        if call == "/tamer.v1.Enrolment/Join" {
            // Open, and refused for what was brought: nothing.
            assert_eq!(code, Code::InvalidArgument, "{said}");
        } else {
            assert_eq!(code, Code::Unauthenticated, "{call}: {said}");
            assert!(said.contains("join with a token first"), "{call}: {said}");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_not_on_the_list_is_refused_to_everybody() {
    let world = World::start();
    let admin = world.admin().await;
    let host = world.minted(HOST, now());
    for call in [
        "/tamer.v1.Operators/Anything",
        "/tamer.v1.Anything/Join",
        "/tamer.v1.Operators/Join",
    ] {
        assert_eq!(whose(call), None);
        assert_eq!(
            world.call(None, call).await.0,
            Code::Unauthenticated,
            "{call}"
        );
        for identity in [&admin, &host] {
            let (code, said) = world.call(Some(identity), call).await;
            assert_eq!(code, Code::Unimplemented, "{call}");
            assert!(said.contains("no such call open"), "{call}: {said}");
        }
    }
    // And each that there is was thought of.
    for call in all_calls() {
        assert!(
            whose(&call).is_some(),
            "{call} is open to nobody: say in api/calls.rs whose it is"
        );
    }
}

#[tokio::test]
async fn agents_make_no_calls_of_operators_nor_operators_those_of_agents() {
    let world = World::start();
    let admin = world.admin().await;
    let host = world.minted(HOST, now());
    for call in all_calls() {
        let (wrong, expected) = match whose(&call).unwrap() {
            Whose::Operators => (&host, "only an operator may do this"),
            Whose::Hosts => (&admin, "only a host's agent may do this"),
            Whose::Nobodys | Whose::Anybodys => continue,
        };
        let answer = world.call(Some(wrong), &call).await;
        assert_eq!(
            answer,
            (Code::PermissionDenied, expected.to_owned()),
            "{call}"
        );
    }
    // The right kind gets further: an admin is never told that it is not theirs.
    for call in all_calls() {
        if whose(&call) == Some(Whose::Operators) {
            let (code, said) = world.call(Some(&admin), &call).await;
            assert!(
                !matches!(
                    code,
                    Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented
                ),
                "{call}: {said}"
            );
        }
    }
}

/// Whoever has the CA could make one; nobody has joined under it, and that is what counts.
#[tokio::test]
async fn a_certificate_that_nobody_joined_for_opens_nothing() {
    let world = World::start();
    for name in [HOST, "tamer://operator/ghost"] {
        let ghost = world.minted(name, now());
        let (code, said) = world.call(Some(&ghost), "/tamer.v1.Enrolment/Renew").await;
        assert_ne!(code, Code::Ok, "{said}");
        let call = match name {
            HOST => "/tamer.v1.Agents/Connect",
            _ => "/tamer.v1.Operators/WhoAmI",
        };
        let (code, said) = world.call(Some(&ghost), call).await;
        assert_eq!(code, Code::PermissionDenied);
        assert!(
            said.contains("is not in this controller's registry"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn what_a_signing_request_asks_for_is_not_given() {
    let world = World::start();
    let admin = world.admin().await;
    let uri = |name: &str| SanType::URI(Ia5String::try_from(name).unwrap());
    let dns = |name: &str| SanType::DnsName(Ia5String::try_from(name).unwrap());
    let asks = [
        vec![uri("tamer://operator/anna")],
        vec![uri(HOST)],
        vec![dns("localhost"), uri("tamer://operator/anna")],
    ];
    for (n, names) in asks.into_iter().enumerate() {
        let token = world
            .invite(&admin, &format!("eve-{n}"), "viewer", "")
            .await
            .unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "anna");
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = world
            .offer(&token, "", request(&params, &key))
            .await
            .unwrap();
        let der = tls::first_certificate(&certificate).unwrap();
        assert_eq!(
            Peer::from_der(&der).unwrap().identity.to_string(),
            format!("tamer://operator/eve-{n}")
        );
        let (_, read) = X509Certificate::from_der(&der).unwrap();
        assert!(!read.is_ca());
        assert!(!read.subject().to_string().contains("anna"));
        assert!(!read.key_usage().unwrap().unwrap().value.key_cert_sign());
        let eve = (certificate, key.serialize_pem());
        let (code, said) = world
            .call(Some(&eve), "/tamer.v1.Operators/RemoveHost")
            .await;
        assert_eq!(code, Code::PermissionDenied, "{said}");
    }
}

#[tokio::test]
async fn a_signing_request_for_a_ca_makes_none() {
    let world = World::start();
    let admin = world.admin().await;
    let token = world.invite(&admin, "eve", "viewer", "").await.unwrap();
    let mut params = CertificateParams::default();
    // basicConstraints, cA TRUE (RFC 5280, 4.2.1.9).
    let constraints = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]);
    params.custom_extensions.push(constraints);
    let key = KeyPair::generate().unwrap();
    let certificate = world.offer(&token, "", request(&params, &key)).await;
    let certificate = certificate.unwrap();
    let der = tls::first_certificate(&certificate).unwrap();
    let (_, read) = X509Certificate::from_der(&der).unwrap();
    assert!(!read.is_ca());
    assert!(read.basic_constraints().unwrap().is_none());
    // What she would sign with it opens nothing: it does not even name anybody here.
    let issuer = Issuer::from_ca_cert_pem(&certificate, key).unwrap();
    let leaf = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let name = Ia5String::try_from("tamer://operator/anna").unwrap();
    params.subject_alt_names = vec![SanType::URI(name)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let signed = params.signed_by(&leaf, &issuer).unwrap().pem();
    let forged = (format!("{signed}{certificate}"), leaf.serialize_pem());
    let call = "/tamer.v1.Operators/WhoAmI";
    assert!(world.is_shut_out(&forged, call).await);
    assert!(!world.is_shut_out(&admin, call).await);
}

#[tokio::test]
async fn a_clock_a_day_off_on_either_side_opens_nothing() {
    let world = World::start();
    let admin = world.admin().await;
    let call = "/tamer.v1.Agents/Connect";
    let at = |moment: Moment| world.minted(HOST, moment);
    // Issued by a clock that was a day ahead, or behind: it serves to be renewed alone, and for that it must be known.
    let late = Moment(now().0 - 2 * DAY.0.as_millis() as u64);
    for off in [at(now() + DAY), at(late)] {
        for call in [call, "/tamer.v1.Enrolment/Renew"] {
            let (code, said) = world.call(Some(&off), call).await;
            assert_ne!(code, Code::Ok, "{said}");
        }
    }
    // A year off opens not even the handshake.
    let year = Span::secs(365 * 24 * 3600);
    assert!(world.is_shut_out(&at(now() + year), call).await);
    assert!(!world.is_shut_out(&at(now()), call).await);
    // Whoever has the right time is not disturbed by any of that.
    assert_eq!(
        world
            .call(Some(&admin), "/tamer.v1.Operators/WhoAmI")
            .await
            .0,
        Code::Ok
    );
}

#[tokio::test]
async fn a_viewer_deploys_nothing_and_a_deployer_only_at_home() {
    let world = World::start();
    let admin = world.admin().await;
    let viewer = world.operator(&admin, "vera", "viewer", "").await;
    let deployer = world.operator(&admin, "dora", "deployer", "staging").await;
    let deploy = |environment: &str| v1::DeployRequest {
        environment: environment.to_owned(),
        version: "1.0.0".to_owned(),
        ..v1::DeployRequest::default()
    };
    for environment in ["staging", "production"] {
        let refused = world
            .operators(&viewer)
            .await
            .deploy(deploy(environment))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    let refused = world
        .operators(&deployer)
        .await
        .deploy(deploy("production"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let told = refused.message().to_owned();
    let back = v1::RollbackRequest {
        environment: "production".to_owned(),
        ..v1::RollbackRequest::default()
    };
    let refused = world
        .operators(&deployer)
        .await
        .rollback(back)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // She is told what she is, and who changes it how.
    for said in [
        "dora may not do this in production: it takes the role deployer",
        "dora is deployer in staging; an admin in production changes that",
        "`tamer operator invite dora --role deployer --environment production`",
    ] {
        assert!(told.contains(said), "{told}");
    }
    // She may look, and is shown as what she is.
    let mut hers = world.operators(&deployer).await;
    let me = hers.who_am_i(v1::WhoAmIRequest {}).await.unwrap();
    assert_eq!(me.into_inner().role, "deployer in staging");
    let status = hers.get_status(v1::GetStatusRequest::default()).await;
    assert!(status.is_ok(), "{status:?}");
    // At home she gets as far as the question whether there is such an environment.
    let refused = world
        .operators(&deployer)
        .await
        .deploy(deploy("staging"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    // Nor does she let anybody in, not even there.
    for environment in ["", "staging", "production"] {
        let refused = world
            .invite(&deployer, "eve", "deployer", environment)
            .await
            .unwrap_err();
        assert_eq!(
            refused.code(),
            Code::PermissionDenied,
            "{environment}: {refused}"
        );
    }
}

#[tokio::test]
async fn releases_are_published_by_a_deployer_of_any_environment_and_files_by_one_of_that() {
    let world = World::start();
    let admin = world.admin().await;
    let viewer = world.operator(&admin, "vera", "viewer", "").await;
    let deployer = world.operator(&admin, "dora", "deployer", "staging").await;
    let may = |who, repository: &str| {
        let request = v1::PublishTargetsRequest {
            repository: repository.to_owned(),
            ..v1::PublishTargetsRequest::default()
        };
        let world = &world;
        async move {
            let answer = world.operators(who).await.publish_targets(request).await;
            // What is published is empty, and refused for that.
            answer.unwrap_err().code() != Code::PermissionDenied
        }
    };
    assert!(may(&deployer, "app/shop").await);
    assert!(may(&deployer, "env/staging").await);
    assert!(!may(&deployer, "env/production").await);
    for repository in ["app/shop", "env/staging"] {
        assert!(!may(&viewer, repository).await, "{repository}");
    }
    let evidence = |who| {
        let world = &world;
        async move {
            let request = v1::AttachEvidenceRequest::default();
            let answer = world.operators(who).await.attach_evidence(request).await;
            answer.unwrap_err().code() != Code::PermissionDenied
        }
    };
    assert!(evidence(&deployer).await);
    assert!(!evidence(&viewer).await);
    // Two more roles, and one less; a new key alone takes none away, and is no more for somebody new than to look.
    let dora = world
        .operator(&admin, "dora", "viewer", "production lab")
        .await;
    let ina = world.operator(&admin, "ina", "", "").await;
    let role = |who| {
        let world = &world;
        async move {
            let mut theirs = world.operators(who).await;
            let answer = theirs.who_am_i(v1::WhoAmIRequest {}).await;
            answer.unwrap().into_inner().role
        }
    };
    let all = "viewer in lab, viewer in production, deployer in staging";
    assert_eq!(role(&dora).await, all);
    assert_eq!(role(&ina).await, "viewer");
    let dora = world.operator(&admin, "dora", "", "").await;
    assert_eq!(role(&dora).await, all);
    let mut looks = world.operators(&ina).await;
    let listed = looks.list_operators(v1::ListOperatorsRequest {}).await;
    let listed = listed.unwrap().into_inner().operators;
    assert!(listed.iter().any(|it| it.name == "dora" && it.roles == all));
    let take = |environment: &str| v1::RemoveOperatorRequest {
        name: "dora".to_owned(),
        environment: environment.to_owned(),
        ..v1::RemoveOperatorRequest::default()
    };
    let mut hers = world.operators(&dora).await;
    let refused = hers.remove_operator(take("staging")).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let mut theirs = world.operators(&admin).await;
    let last = world.invite(&admin, "anna", "deployer", "").await;
    assert!(last.unwrap_err().message().contains("the last admin"));
    theirs.remove_operator(take("staging")).await.unwrap();
    assert_eq!(role(&dora).await, "viewer in lab, viewer in production");
    theirs.remove_operator(take("lab")).await.unwrap();
    let only = theirs
        .remove_operator(take("production"))
        .await
        .unwrap_err();
    assert!(
        only.message().contains("tamer operator remove dora"),
        "{only}"
    );
    assert!(!may(&dora, "app/shop").await);
}

#[tokio::test]
async fn a_stolen_key_of_the_old_ca_is_worthless_after_a_rotation() {
    let world = World::start();
    let old = world.admin().await;
    let call = "/tamer.v1.Operators/WhoAmI";
    // Whoever has the CA's key makes certificates of everybody, but not everybody's key.
    let forged = world.minted("tamer://operator/anna", now());
    assert!(!world.is_shut_out(&forged, call).await);
    let refused = world.call(Some(&forged), call).await;
    assert_eq!(refused.0, Code::PermissionDenied, "{refused:?}");
    let pretended = world.ca();

    let mut operators = world.operators(&old).await;
    let begun = operators.rotate_ca(v1::RotateCaRequest::default()).await;
    let begun = begun.unwrap().into_inner();
    assert_eq!((begun.phase.as_str(), begun.behind.len()), ("begun", 1));
    let again = operators.rotate_ca(v1::RotateCaRequest::default()).await;
    assert_eq!(again.unwrap_err().code(), Code::FailedPrecondition);
    let (new, trusted) = world.renew(&old).await.unwrap();
    assert_eq!(tls::fingerprints(&trusted).unwrap().len(), 2);
    // Nothing is known of it before it is used: the answer may have been lost.
    let status = || async {
        let mut operators = world.operators(&old).await;
        let status = operators.get_ca(v1::GetCaRequest {}).await.unwrap();
        status.into_inner()
    };
    assert_eq!(status().await.behind.len(), 1);
    // Now that all have come over, the new one vouches for the controller, too.
    assert_eq!(world.call(Some(&new), call).await.0, Code::Ok);
    assert!(status().await.behind.is_empty());
    world
        .until(|| async { operators_phase(&mut world.operators(&new).await).await == "shown" })
        .await;
    assert!(!world.is_shut_out(&old, call).await);

    let mut operators = world.operators(&new).await;
    let ended = operators.finish_ca(v1::FinishCaRequest::default()).await;
    assert_eq!(ended.unwrap().into_inner().phase, "steady");
    assert_ne!(world.ca().fingerprint(), pretended.fingerprint());
    for pair in [&forged, &old] {
        assert!(world.is_shut_out(pair, call).await);
    }
    assert_eq!(world.call(Some(&new), call).await.0, Code::Ok);
    // Its own certificate is of the new CA alone, and that is all that a renewal brings.
    let (_, trusted) = world.renew(&new).await.unwrap();
    assert_eq!(
        tls::fingerprints(&trusted).unwrap(),
        [world.ca().fingerprint()]
    );
}

/// Whoever is asked to wait may hang up in the middle of a step: the rest of it is done without them.
#[tokio::test]
async fn a_rotation_whose_beginner_hangs_up_is_begun_whole_or_not_at_all() {
    let world = World::start();
    let mut admin = world.admin().await;
    // Each time a little later in it.
    for after in (0..60).map(|n| Duration::from_micros(150 * n)) {
        let mut operators = world.operators(&admin).await;
        let begins = operators.rotate_ca(v1::RotateCaRequest::default());
        // Timers are too coarse for that.
        let hangs_up = async {
            let begun = Instant::now();
            while begun.elapsed() < after {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = begins => {}
            () = hangs_up => {}
        }
        let mut operators = world.operators(&admin).await;
        // It takes its turn after whatever is going on, and is refused in any case.
        let wait = operators.finish_ca(v1::FinishCaRequest::default()).await;
        assert_eq!(wait.unwrap_err().code(), Code::FailedPrecondition);
        let status = operators.get_ca(v1::GetCaRequest {}).await.unwrap();
        let status = status.into_inner();
        match status.phase.as_str() {
            "steady" => continue,
            "begun" => assert_eq!(status.behind.len(), 1, "after {after:?}"),
            other => panic!("{other} after {after:?}, and nobody has come over"),
        }
        admin = world.renew(&admin).await.unwrap().0;
        let mut operators = world.operators(&admin).await;
        operators.who_am_i(v1::WhoAmIRequest {}).await.unwrap();
        let ended = operators.finish_ca(v1::FinishCaRequest::default()).await;
        assert_eq!(ended.unwrap().into_inner().phase, "steady");
    }
}

async fn operators_phase(
    operators: &mut v1::operators_client::OperatorsClient<tonic::transport::Channel>,
) -> String {
    let status = operators.get_ca(v1::GetCaRequest {}).await.unwrap();
    status.into_inner().phase
}

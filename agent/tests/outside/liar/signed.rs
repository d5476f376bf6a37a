//! Lies about what the team has signed, and about what a host should be.

use super::*;

#[tokio::test]
async fn an_unsigned_release_is_refused() {
    let (liar, ..) = Liar::new().await;
    let (_, bytes) = liar.team.pack("2.0.0");
    liar.team.blob(&bytes);
    liar.refuses(&release("2.0.0", &bytes), "trust", "no signed release")
        .await;
}

#[tokio::test]
async fn a_release_that_the_controller_signed_itself_is_refused() {
    let (liar, ..) = Liar::new().await;
    let (_, bytes) = liar.team.pack("2.0.0");
    liar.team.blob(&bytes);
    let (shop, web) = ("shop".parse().unwrap(), "web".parse().unwrap());
    let target = NewTarget::release(&shop, &web, &"2.0.0".parse().unwrap(), &bytes);
    liar.team
        .publish_as("app/shop", target, 2, &liar.team.online);
    liar.refuses(
        &release("2.0.0", &bytes),
        "trust",
        "targets.json is refused",
    )
    .await;
}

#[tokio::test]
async fn a_release_below_the_signed_minimum_is_refused() {
    let text = format!("{PLAIN}[minimum]\n\"shop/web\" = \"2.0.0\"\n");
    let (liar, _, one) = Liar::in_environment(&text).await;
    liar.refuses(&one, "trust", "signed minimum 2.0.0").await;
}

#[tokio::test]
async fn a_revoked_release_is_refused_and_an_older_file_does_not_bring_it_back() {
    let (mut liar, _, one) = Liar::new().await;
    let before = liar.team.served.recorded();
    let revoked = format!("revoked = [\"{}\"]\n{PLAIN}", one.manifest);
    liar.team.environment(&revoked, 2);
    liar.run(slot("shop", "web"), &one, 2).await;
    liar.refused("trust", "signed revocation list").await;
    // What was signed before it was revoked is as well signed: but the revocation was seen.
    liar.team.served.replay(before);
    liar.run(slot("shop", "web"), &one, 3).await;
    liar.counted().await;
    let revoked = |it: &v1::Failure| it.message.contains("signed revocation list");
    liar.said(|it| it.staging_failure.as_ref().is_some_and(revoked))
        .await;
    liar.holds(&[]);
}

#[tokio::test]
async fn metadata_older_than_seen_are_refused() {
    let (mut liar, _, one) = Liar::new().await;
    let before = liar.team.served.recorded();
    let (_, bytes) = liar.team.pack("2.0.0");
    let two = liar.team.sign("web", "2.0.0", &bytes, 2);
    liar.staged(&two).await;
    liar.team.served.replay(before);
    let mut three = one.clone();
    three.version = "3.0.0".parse().unwrap();
    liar.run(slot("shop", "web"), &three, 1).await;
    liar.refused("trust", "timestamp.json is refused").await;
    liar.holds(&["2.0.0"]);
}

#[tokio::test]
async fn a_timestamp_frozen_past_its_end_is_refused() {
    let (liar, _, one) = Liar::new().await;
    liar.team.expired("app/shop", 1);
    liar.refuses(&one, "trust", "timestamp.json is refused")
        .await;
    let (liar, _, one) = Liar::new().await;
    liar.team.expired("env/staging", 1);
    liar.refuses(&one, "trust", "timestamp.json is refused")
        .await;
}

#[tokio::test]
async fn another_environments_file_is_refused() {
    let (liar, _, one) = Liar::new().await;
    liar.team.environment_of("production", PLAIN, 1);
    liar.team
        .served
        .copy("trust/env/production/", "trust/env/staging/");
    liar.refuses(&one, "trust", "env/staging: ").await;
}

#[tokio::test]
async fn a_desired_state_for_another_environment_or_of_an_older_generation_is_not_taken_in() {
    let (mut liar, _, one) = Liar::new().await;
    liar.staged(&one).await;
    let (_, bytes) = liar.team.pack("2.0.0");
    let two = liar.team.sign("web", "2.0.0", &bytes, 2);
    let other = liar.desired(7, "production", slot("shop", "web"), &two, 1);
    liar.line.say(Kind::Desired((&other).into())).await;
    let older = liar.desired(0, "staging", slot("shop", "web"), &two, 1);
    liar.line.say(Kind::Desired((&older).into())).await;
    // What comes then is believed again, so what came before it was heard.
    let (_, bytes) = liar.team.pack("3.0.0");
    let three = liar.team.sign("web", "3.0.0", &bytes, 3);
    liar.staged(&three).await;
    let text = liar.metrics.text();
    for reason in ["other_environment", "older"] {
        let series = format!("desired_states_refused_total{{result=\"{reason}\"}} 1");
        assert!(text.contains(&series), "{reason}: {text}");
    }
    liar.holds(&["1.0.0", "3.0.0"]);
}

#[tokio::test]
async fn an_epoch_out_of_reach_is_not_taken_in_and_from_one_within_reach_there_is_a_way_back() {
    let (mut liar, _, one) = Liar::new().await;
    liar.staged(&one).await;
    let (_, bytes) = liar.team.pack("2.0.0");
    let two = liar.team.sign("web", "2.0.0", &bytes, 2);
    let web = || slot("shop", "web");
    liar.epoch = u64::MAX;
    let far = liar.desired(1, "staging", web(), &two, 1);
    liar.line.say(Kind::Desired((&far).into())).await;
    // A day ahead of the clock it is believed, and the honest controller's is an older one then.
    let ahead = tamer_kit::clock::now().0 / 1000 + 24 * 3600;
    liar.epoch = ahead;
    liar.staged(&two).await;
    liar.epoch = 1;
    let honest = liar.desired(1000, "staging", web(), &one, 1);
    liar.line.say(Kind::Desired((&honest).into())).await;
    // `tamer host take-back`: the next epoch.
    liar.epoch = ahead + 1;
    let (_, bytes) = liar.team.pack("3.0.0");
    let three = liar.team.sign("web", "3.0.0", &bytes, 3);
    liar.staged(&three).await;
    let text = liar.metrics.text();
    for reason in ["ahead", "older"] {
        let series = format!("desired_states_refused_total{{result=\"{reason}\"}} 1");
        assert!(text.contains(&series), "{reason}: {text}");
    }
}

#[tokio::test]
async fn a_check_that_nobody_signed_is_refused_and_never_runs() {
    let (mut liar, _, one) = Liar::new().await;
    let ran = liar.dir.path().join("ran");
    let check = format!(
        "{PLAIN}[checks.pwned]\ntype = \"command\"\ncommand = \"touch {}\"\n",
        ran.display()
    );
    // In place of the signed file, under its digest.
    let path = format!("blobs/{}", sha256(PLAIN.as_bytes()));
    liar.team.served.put(path, check.clone().into_bytes());
    liar.run(slot("shop", "web"), &one, 1).await;
    liar.refused("fetch", "more than the").await;
    // Signed by the controller itself.
    liar.team.blob(check.as_bytes());
    let target = NewTarget::environment(&"staging".parse().unwrap(), check.as_bytes());
    liar.team
        .publish_as("env/staging", target, 2, &liar.team.online);
    liar.run(slot("shop", "web"), &one, 2).await;
    liar.refused("trust", "targets.json is refused").await;
    liar.holds(&[]);
    assert!(!ran.exists());
}

#[tokio::test]
async fn a_policy_that_nobody_signed_is_refused() {
    let text = format!("{PLAIN}[minimum]\n\"shop/web\" = \"2.0.0\"\n");
    let (mut liar, _, one) = Liar::in_environment(&text).await;
    liar.team.blob(PLAIN.as_bytes());
    let target = NewTarget::environment(&"staging".parse().unwrap(), PLAIN.as_bytes());
    liar.team
        .publish_as("env/staging", target, 2, &SigningKey::generate().unwrap());
    liar.run(slot("shop", "web"), &one, 1).await;
    liar.refused("trust", "targets.json is refused").await;
    liar.holds(&[]);
}

#[tokio::test]
async fn another_applications_release_is_refused() {
    let (mut liar, _, one) = Liar::new().await;
    // The bank's, as the shop's: the bank's repository in the place of the shop's.
    let (_, bytes) = liar.team.pack("2.0.0");
    liar.team.blob(&bytes);
    let (bank, web) = ("bank".parse().unwrap(), "web".parse().unwrap());
    let target = NewTarget::release(&bank, &web, &"2.0.0".parse().unwrap(), &bytes);
    liar.team
        .publish_as("app/bank", target, 1, &liar.team.release);
    let honest = liar.team.served.recorded();
    liar.team.served.copy("trust/app/bank/", "trust/app/shop/");
    liar.run(slot("shop", "web"), &release("2.0.0", &bytes), 1)
        .await;
    liar.refused("trust", "app/shop: ").await;
    // The shop's, where the environment has no place for the bank.
    liar.team.served.replay(honest);
    liar.run(slot("bank", "web"), &one, 1).await;
    liar.refused("trust", "no place").await;
    liar.holds(&[]);
}

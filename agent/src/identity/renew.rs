//! Renewal: at half its life a certificate is traded for one of a new key, over a connection that the
//! old one opens. One that has expired, or is not valid yet, is still good for that, for 90 days. A rotation of the
//! controller's CA asks for it earlier, and so does a controller that does not take the certificate for its time.

use super::authorities::{Told, follow, lesson};
use super::{Home, IdentityError, Keys, Shown, signing_request, usable};
use std::sync::Arc;
use std::time::Duration;
use tamer_core::moment::Moment;
use tamer_kit::address::Address;
use tamer_kit::backoff::Backoff;
use tamer_kit::channel;
use tamer_proto::v1::RenewRequest;
use tamer_proto::v1::enrolment_client::EnrolmentClient;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long the controller may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the certificate is looked at; also the shortest time between two renewals that worked, so
/// that no clock, however wrong, makes a storm of them.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Whether a certificate is past half its life.
pub fn is_due((from, to): (Moment, Moment), now: Moment) -> bool {
    now.since(from) >= to.since(from) / 2
}

/// Asks for a certificate for a new key, and puts both in place of the old ones.
///
/// # Errors
/// [`IdentityError`]; the old ones are then still in place. Trying again is always right.
pub async fn renew(home: &Home, address: &Address, old: &Keys) -> Result<Keys, IdentityError> {
    let key = home.next_key()?;
    let channel = channel::connect(address, old.client_config()?).await?;
    let mut client = EnrolmentClient::new(channel);
    let csr = signing_request(&key)?;
    let answer = tokio::time::timeout(PATIENCE, client.renew(RenewRequest { csr })).await;
    let answer = match answer {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(IdentityError::Refused(Box::new(status))),
        Err(_) => {
            let said = format!("no answer within {} s", PATIENCE.as_secs());
            let status = tonic::Status::deadline_exceeded(said);
            return Err(IdentityError::Refused(Box::new(status)));
        }
    };
    follow(old, &answer.ca_pem)?;
    usable(&key, &answer.certificate_pem, &answer.ca_pem)?;
    // The CA first: whoever shows a certificate of it is taken to trust it.
    home.trust(&answer.ca_pem)?;
    let identity = home.take(&key, &answer.certificate_pem)?;
    let ca = answer.ca_pem;
    Ok(Keys { identity, ca })
}

/// What asks for a renewal before it is due.
#[derive(Debug)]
pub struct Early {
    /// What the controller says of its CAs.
    pub told: watch::Receiver<Option<Told>>,
    /// Told when the controller does not take the certificate for its time.
    pub refused: Arc<Notify>,
}

/// Takes in what the controller says of its CAs, and gives the moment at which to renew because of it.
fn learn(
    home: &Home,
    keys: &mut Keys,
    told: &Told,
    shown: &watch::Sender<Shown>,
) -> Result<Option<Instant>, IdentityError> {
    let lesson = lesson(keys, &told.ca)?;
    if lesson.trust {
        home.trust(&told.ca)?;
        keys.ca = told.ca.clone();
        shown.send_replace(keys.shown()?);
        tracing::info!("the controller's CAs have changed: they are trusted as it says");
    }
    let share: f64 = rand::random();
    Ok(lesson
        .renew
        .then(|| Instant::now() + told.within.min(INTERVAL).mul_f64(share)))
}

/// Renews whenever it is due, until `stop`, or when something asks for it earlier, and puts what came of it before
/// everybody who connects.
pub async fn keep(
    home: Home,
    address: Address,
    mut keys: Keys,
    shown: watch::Sender<Shown>,
    mut asks: Early,
    now: impl Fn() -> Moment,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(600));
    // Of those that the controller's clock asks for: each waits longer than the one before, until an hour is quiet.
    let mut asked_for = Backoff::new(Duration::from_secs(5), Duration::from_secs(600));
    let mut early: Option<Instant> = None;
    // What asks for a renewal asks again and again: one that failed is not tried again before this.
    let mut not_before = Instant::now();
    loop {
        let half = keys.validity().map_or(true, |life| is_due(life, now()));
        let next = if half { Some(not_before) } else { early };
        let mut wait = next.map_or(INTERVAL, |at| {
            let at = at.max(not_before);
            INTERVAL.min(at.saturating_duration_since(Instant::now()))
        });
        if wait.is_zero() {
            let renewed = renew(&home, &address, &keys).await;
            let renewed = renewed.and_then(|keys| Ok((keys.shown()?, keys)));
            wait = INTERVAL;
            match renewed {
                Ok((new, renewed)) => {
                    tracing::info!("the certificate was renewed");
                    shown.send_replace(new);
                    keys = renewed;
                    early = None;
                    backoff.reset();
                }
                Err(error) => {
                    wait = backoff.next(rand::random());
                    not_before = Instant::now() + wait;
                    let over = keys.validity().is_ok_and(|(_, to)| to <= now());
                    let error = crate::host::chain(&error);
                    if over {
                        tracing::error!(%error, "the certificate has expired and was not renewed: \
                            if the controller does not know this host any more, invite it again with \
                            `tamer host invite --replace`");
                    } else {
                        tracing::warn!(%error, "the certificate was not renewed yet: it is tried again");
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => if wait == INTERVAL {
                asked_for.reset();
            },
            // It is said again with every try to connect: the first time decides.
            () = asks.refused.notified() => if early.is_none() {
                early = Some(Instant::now() + asked_for.next(rand::random()));
            },
            Ok(()) = asks.told.changed() => {
                let told = asks.told.borrow_and_update().clone();
                let learnt = told.map_or(Ok(None), |told| learn(&home, &mut keys, &told, &shown));
                match learnt {
                    Ok(at) => early = early.into_iter().chain(at).min(),
                    Err(error) => {
                        let error = crate::host::chain(&error);
                        tracing::error!(%error, "what the controller says of its CAs is not believed");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_half_the_life_and_ever_after() {
        let life = (Moment(1000), Moment(3000));
        assert!(!is_due(life, Moment(1999)));
        assert!(is_due(life, Moment(2000)));
        assert!(is_due(life, Moment(9000)));
        assert!(!is_due(life, Moment(0)), "a clock behind is no reason");
    }
}

//! The CAs at work: what the port shows and trusts, what peers are told of them, and how a rotation goes on by itself.
//!
//! Begun by an admin, a rotation is under way until an admin finishes it. In between peers come over: agents are told
//! on their line, operators by a header of every answer, and each renews its certificate, which brings the new CA. Once
//! everybody has shown a certificate of the new CA, it vouches for the controller, too.

use crate::driver::Driver;
use crate::fleet::Fleet;
use crate::identity::authorities::{Authorities, Outline, Phase, RotationError};
use crate::identity::ca::{CaError, SERVER_LIFE};
use crate::identity::csr::ProvenKey;
use crate::identity::peer::Identity;
use crate::mirror::Mirror;
use crate::server::Connections;
use anyhow::Context as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tamer_core::digest::Digest;
use tamer_core::moment::{Moment, Span};
use tamer_kit::clock;
use tamer_kit::hash::sha256;
use tamer_kit::tls::ServerTls;
use tamer_proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many hosts are asked to renew their certificates in a second.
const HOSTS_A_SECOND: u64 = 100;

/// The shortest time between two looks at who has come over.
const LOOK: Duration = Duration::from_millis(200);

/// When a step that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// The CAs at work; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Authority(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    names: Vec<String>,
    all: Mutex<Authorities>,
    tls: ServerTls,
    told: watch::Sender<Told>,
    /// Held by whoever takes a step of a rotation.
    steps: Arc<tokio::sync::Mutex<()>>,
    mirror: Mirror,
    connections: Connections,
}

/// What peers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The certificates of all CAs that are trusted, PEM, the one first that issues.
    pub trusted: Arc<str>,
    /// Its SHA-256, in hexadecimal digits: what a header says in its place.
    pub mark: Arc<str>,
    /// Within what time hosts are to renew, each at a moment of its own.
    pub within: Span,
}

impl From<&Told> for v1::Authorities {
    fn from(told: &Told) -> Self {
        Self {
            ca_pem: told.trusted.to_string(),
            within_ms: told.within.0.as_millis() as u64,
        }
    }
}

/// The right to take a step of a rotation: one at a time.
#[derive(Debug)]
pub struct Turn(
    #[expect(dead_code, reason = "it is held, and given back when dropped")]
    tokio::sync::OwnedMutexGuard<()>,
);

impl Told {
    fn new(all: &Authorities, within: Span) -> Self {
        let trusted = all.trusted();
        Self {
            mark: sha256(trusted.as_bytes()).to_string().into(),
            trusted: trusted.into(),
            within,
        }
    }
}

impl Authority {
    /// Puts the CAs to work in a fleet of so many hosts, and makes a certificate of these names for the controller.
    ///
    /// # Errors
    /// A name is none, or TLS refuses the certificates.
    pub fn open(
        all: Authorities,
        names: &[String],
        hosts: usize,
        mirror: Mirror,
        connections: Connections,
    ) -> anyhow::Result<Self> {
        let issued = all
            .shown()
            .issue_server(names, clock::now())
            .context("cannot make the controller's certificate")?;
        let trusted = all.trusted();
        let tls = ServerTls::new(&trusted, &issued.certificate_pem, &issued.key_pem)?;
        let (told, _) = watch::channel(Told::new(&all, within(hosts)));
        Ok(Self(Arc::new(Inner {
            names: names.to_vec(),
            all: Mutex::new(all),
            tls,
            told,
            steps: Arc::default(),
            mirror,
            connections,
        })))
    }

    /// TLS for the port.
    pub fn tls(&self) -> &ServerTls {
        &self.0.tls
    }

    /// What peers are told, now and whenever it changes.
    pub fn told(&self) -> watch::Receiver<Told> {
        self.0.told.subscribe()
    }

    /// The CA that join tokens pin.
    pub fn pinned(&self) -> Digest {
        self.all().shown().fingerprint()
    }

    /// The name of the CA that issues.
    pub fn issuing(&self) -> Digest {
        self.all().issuing().name()
    }

    /// How far a rotation has come.
    pub fn phase(&self) -> Phase {
        self.all().phase()
    }

    /// All CAs that are trusted, the issuing one first.
    pub fn outline(&self) -> Vec<Outline> {
        self.all().outline()
    }

    /// Whether a rotation can begin.
    ///
    /// # Errors
    /// [`RotationError::UnderWay`].
    pub fn may_begin(&self) -> Result<(), RotationError> {
        self.all().may_begin()
    }

    /// Whether there is a rotation to finish.
    ///
    /// # Errors
    /// [`RotationError::NoneUnderWay`].
    pub fn may_finish(&self) -> Result<(), RotationError> {
        self.all().may_finish()
    }

    /// A certificate for the bearer of a key, and the CAs that they are to trust, both PEM.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn issue(
        &self,
        identity: &Identity,
        key: &ProvenKey,
        now: Moment,
    ) -> Result<(String, String), CaError> {
        let all = self.all();
        let certificate = all.issuing().issue(identity, key, now)?;
        Ok((certificate, all.trusted()))
    }

    /// Waits until nobody else takes a step of a rotation.
    pub async fn turn(&self) -> Turn {
        Turn(Arc::clone(&self.0.steps).lock_owned().await)
    }

    /// Begins a rotation of a fleet of so many hosts. It goes on to its end also if nobody waits for it any more.
    ///
    /// # Errors
    /// [`RotationError`], TLS refuses, or the driver has stopped.
    pub async fn begin(&self, turn: Turn, driver: &Driver, hosts: usize) -> anyhow::Result<()> {
        let (this, driver) = (self.clone(), driver.clone());
        whole(async move {
            let begin = |all: &mut Authorities| all.begin(clock::now());
            this.step(&turn, &driver, Some(within(hosts)), begin).await
        })
        .await
    }

    /// Ends a rotation, and closes the connections of those who lost their place by it. It goes on to its end also if
    /// nobody waits for it any more.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn finish(
        &self,
        turn: Turn,
        driver: &Driver,
        left: Vec<Digest>,
    ) -> anyhow::Result<()> {
        let (this, driver) = (self.clone(), driver.clone());
        whole(async move {
            this.step(&turn, &driver, None, Authorities::finish).await?;
            for key in left {
                this.0.connections.close(key);
            }
            Ok(())
        })
        .await
    }

    /// Takes a step: on disk first, then in the mirror, in the registry and at the port, and then peers are told, with
    /// the same time to renew as before where none is given.
    async fn step(
        &self,
        _turn: &Turn,
        driver: &Driver,
        within: Option<Span>,
        step: impl FnOnce(&mut Authorities) -> Result<(), RotationError> + Send + 'static,
    ) -> anyhow::Result<()> {
        let (dir, before) = {
            let all = self.all();
            (all.dir().to_owned(), all.phase())
        };
        let taken = move || {
            let mut all = Authorities::load(&dir)?;
            let Err(error) = step(&mut all) else {
                return Ok(all);
            };
            // What is on disk decides, also where only the answer to it failed.
            let all = Authorities::load(&dir)?;
            if all.phase() == before {
                return Err(error);
            }
            Ok(all)
        };
        let all = tokio::task::spawn_blocking(taken)
            .await
            .context("a step of the rotation was cut off")??;
        self.0.mirror.authorities().await;
        // The port trusts a CA before it issues, and it issues once no copy can lack it.
        let certified = self.certify(&all);
        let issuing = all.issuing().name();
        *self.all() = all;
        // Before anybody hears of it: whoever has not come over to this CA is behind from now on.
        driver
            .change(move |fleet, _| fleet.registry.issuing = Some(issuing))
            .await?;
        self.0.told.send_modify(|told| {
            *told = Told::new(&self.all(), within.unwrap_or(told.within));
        });
        certified
    }

    /// Shows a new certificate of the controller, and trusts who is to be trusted, from the next handshake on.
    fn certify(&self, all: &Authorities) -> anyhow::Result<()> {
        let issued = all.shown().issue_server(&self.0.names, clock::now())?;
        let tls = &self.0.tls;
        Ok(tls.replace(&all.trusted(), &issued.certificate_pem, &issued.key_pem)?)
    }

    /// Until `stop`: renews the controller's certificate at half of its life, and shows the new CA once everybody has
    /// come over to it.
    pub async fn keep(self, driver: Driver, stop: CancellationToken) {
        let mut changes = driver.changes();
        let mut told = self.told();
        let mut renewal = Box::pin(tokio::time::sleep(SERVER_LIFE.0 / 2));
        loop {
            if self.phase() == Phase::Begun
                && let Err(error) = self.show_when_all_are_over(&driver).await
            {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "the new CA cannot be shown: it is tried again in a minute"
                );
                if stop
                    .run_until_cancelled(tokio::time::sleep(AGAIN))
                    .await
                    .is_none()
                {
                    return;
                }
                continue;
            }
            let begun = self.phase() == Phase::Begun;
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut renewal => {
                    renewal = Box::pin(tokio::time::sleep(SERVER_LIFE.0 / 2));
                    if let Err(error) = self.certify(&self.all()) {
                        let error = format!("{error:#}");
                        tracing::error!(error, "cannot renew the controller's certificate");
                    }
                }
                changed = told.changed() => if changed.is_err() { return },
                changed = changes.changed(), if begun => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    async fn show_when_all_are_over(&self, driver: &Driver) -> anyhow::Result<()> {
        let turn = self.turn().await;
        let all_over =
            |fleet: &Fleet| fleet.held.is_none() && fleet.registry.behind().next().is_none();
        if self.phase() != Phase::Begun || !driver.read(all_over).await? {
            return Ok(());
        }
        let fingerprint = self.all().issuing().fingerprint();
        self.step(&turn, driver, None, Authorities::show).await?;
        let note = move |fleet: &mut Fleet, now| fleet.note_show(&fingerprint, now);
        driver.change(note).await?;
        tracing::info!(%fingerprint, "everybody trusts the new CA: it vouches for the controller from now on");
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, Authorities> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Within what time so many hosts are to renew.
fn within(hosts: usize) -> Span {
    Span::secs(u64::try_from(hosts).unwrap_or(u64::MAX) / HOSTS_A_SECOND)
}

/// Does all of it, also if whoever asked for it goes away meanwhile: half a step, of which the registry does not know,
/// would lock people out.
async fn whole(
    work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    tokio::spawn(work)
        .await
        .context("a step of the rotation was cut off")?
}

//! Environments that follow: looks what is due whenever something has changed, and has it begin. What is due is decided
//! by the fleet, twice: when it is asked, and in the driver's turn in which it begins.

use crate::catalog::Catalog;
use crate::driver::Driver;
use crate::fleet::auto::Due;
use std::time::Duration;
use tamer_core::id::ApplicationName;
use tamer_kit::clock;
use tamer_release::trust::RepositoryName;
use tokio_util::sync::CancellationToken;

/// How long nothing is looked at where nothing happens.
const IDLE: Duration = Duration::from_secs(3600);

/// Begins what is due, until `stop`.
pub async fn run(driver: Driver, catalog: Catalog, stop: CancellationToken) {
    let (mut changes, mut audited) = (driver.changes(), driver.audited());
    loop {
        changes.mark_unchanged();
        // What is published or proven anew changes no object of the store, and is in the audit log.
        audited.mark_unchanged();
        let now = clock::now();
        let Ok((due, wake)) = driver.read(move |fleet| fleet.due(now)).await else {
            return;
        };
        for one in due {
            begin(&driver, &catalog, one).await;
        }
        let pause = wake.map_or(IDLE, |at| at.since(clock::now()));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            changed = audited.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn begin(driver: &Driver, catalog: &Catalog, due: Due) {
    let (environment, application) = (due.environment.clone(), due.application.clone());
    let wanted = catalog.wanted(environment, application, None, due.version.clone());
    let begun = match wanted.await {
        Ok(wanted) => {
            driver
                .change(move |fleet, now| fleet.deploy_by_itself(&wanted, now))
                .await
        }
        Err(error) => {
            let (due, why) = (due.clone(), tamer_kit::cause::chain(&error));
            let put_off = driver.change(move |fleet, now| fleet.put_off(&due, why.clone(), now));
            put_off.await.map(|()| Ok(None))
        }
    };
    match begun {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(asked))) => {
            tracing::info!(environment = %due.environment, version = %due.version, ?asked, "deployed by itself");
        }
        Ok(Err(why)) => {
            tracing::warn!(environment = %due.environment, version = %due.version, why, "cannot be deployed by itself, and is tried again");
        }
        // The controller is stopping.
        Err(_) => {}
    }
}

/// Takes in what is published of every application.
pub async fn take_in_published(driver: &Driver, catalog: &Catalog) {
    for name in catalog.publications.names().await {
        if let RepositoryName::Application(application) = name {
            take_in(driver, catalog, application).await;
        }
    }
}

/// Takes in what is published of an application now.
pub async fn take_in(driver: &Driver, catalog: &Catalog, application: ApplicationName) {
    match catalog.published(&application).await {
        Ok(versions) => {
            // A controller that is stopping takes it in when it starts.
            let _ = driver
                .change(move |fleet, _| fleet.set_published(application, versions))
                .await;
        }
        Err(error) => {
            tracing::error!(%application, error = &error as &dyn std::error::Error, "cannot tell what is published");
        }
    }
}

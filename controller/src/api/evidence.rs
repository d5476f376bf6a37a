//! Evidence of releases: taken from operators, kept, and given back. What it proves is judged elsewhere.

use super::operator::{Answer, OperatorApi};
use super::{caller, internal, operator, operator_anywhere, parse};
use crate::evidence::EvidenceError;
use crate::fleet::Fleet;
use crate::identity::registry::Role;
use tamer_core::digest::Digest;
use tamer_kit::clock;
use tamer_proto::v1;
use tamer_release::proofs::{self, Listed};
use tonic::{Request, Response, Status};

impl OperatorApi {
    pub(super) async fn attach(
        &self,
        request: Request<v1::AttachEvidenceRequest>,
    ) -> Answer<v1::AttachEvidenceResponse> {
        // What it proves is judged by others: it belongs to no environment.
        let by = operator_anywhere(&self.driver, &caller(&request), Role::Deployer).await?;
        let v1::AttachEvidenceRequest { manifest, bundles } = request.into_inner();
        let manifest: Digest = parse(&manifest)?;
        let uploaded = self.catalog.blobs.head(&manifest).await;
        if uploaded.map_err(|error| internal(&error))?.is_none() {
            return Err(Status::failed_precondition(format!(
                "there is no release {}: publish it first (tamer publish), then attach its evidence",
                manifest.short()
            )));
        }
        let listed = self.listed().await?;
        let added = self.catalog.evidence.add(manifest, bundles, listed).await;
        let added = added.map_err(|error| match error {
            EvidenceError::NotAdded(why) => Status::failed_precondition(why.to_string()),
            EvidenceError::File(error) => internal(&error),
        })?;
        if added.added > 0 {
            self.mirror.published().await;
            let what = format!("{manifest}: {} more", added.added);
            self.note(by, "evidence", what).await?;
        }
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Response::new(v1::AttachEvidenceResponse {
            added: count(added.added),
            kept: count(added.kept),
        }))
    }

    /// The keys whose statements or approvals count in some environment now.
    pub(super) async fn listed(&self) -> Result<Listed, Status> {
        let now = clock::now();
        let read = move |fleet: &Fleet| {
            let files = fleet.environments.values().map(|place| &place.file);
            let keys = files.flat_map(|file| {
                let states = file.evidence.keys.values().filter(|it| !it.has_ended(now));
                let approves = file.approval.keys.values().filter(|it| !it.has_ended(now));
                let states = states.map(|it| it.key.clone());
                states.chain(approves.map(|it| it.key.clone()))
            });
            keys.collect()
        };
        self.driver.read(read).await.map_err(super::stopped)
    }

    pub(super) async fn evidence(
        &self,
        request: Request<v1::ListEvidenceRequest>,
    ) -> Answer<v1::ListEvidenceResponse> {
        operator(&self.driver, &caller(&request), None, Role::Viewer).await?;
        let manifest: Digest = parse(&request.into_inner().manifest)?;
        let file = self.catalog.evidence.of(manifest).await;
        let file = file.map_err(|error| internal(&error))?;
        let bundles = proofs::bundles(&file).into_iter().map(<[u8]>::to_vec);
        Ok(Response::new(v1::ListEvidenceResponse {
            bundles: bundles.collect(),
        }))
    }
}

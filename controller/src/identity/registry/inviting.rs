//! Who may invite whom, and what somebody may do who comes with a token.

use super::{Denied, Registry, Role, Roles};
use crate::identity::tokens::Grant;
use tamer_core::id::OperatorName;

/// Why a token is not given out, or serves nobody any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGiven {
    /// Whoever gives it is no admin there.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The operator's name is somebody's, and whoever gives it may not take it away.
    #[error(
        "there is an operator {0} already, and only an admin of the whole fleet gives that name to somebody else"
    )]
    NotTheirs(OperatorName),
    /// It would leave the fleet without an admin.
    #[error(
        "{0} is the last admin of the whole fleet: invite another one first (`tamer operator invite NAME --role admin`)"
    )]
    LastAdmin(OperatorName),
}

impl Registry {
    /// Whether this operator may give out a token for this, as things are now: an admin wherever it gives a role, and
    /// of the whole fleet for a new key of somebody who stays what they are.
    ///
    /// # Errors
    /// [`NotGiven`].
    pub fn may_invite(&self, by: &OperatorName, grant: &Grant) -> Result<(), NotGiven> {
        let known = self.operators.get(by);
        let known = known.ok_or_else(|| Denied::Unknown(by.to_string()))?;
        if known.revoked {
            return Err(Denied::Revoked(by.to_string()).into());
        }
        let admin = |place| known.demand(by, place, Role::Admin);
        match grant {
            Grant::Host { environment, .. } => admin(Some(environment))?,
            Grant::Operator { name, roles } => {
                if roles.everywhere.is_some() || roles.environments.is_empty() {
                    admin(None)?;
                }
                for environment in roles.environments.keys() {
                    admin(Some(environment))?;
                }
                self.roles_with(Some(by), name, roles)?;
            }
        }
        Ok(())
    }

    /// What the bearer of this name may do once they have come with a token of these roles, given by that operator, or
    /// by root on the controller for `None`: what they may do already, unless they were shut out, and these besides.
    /// Somebody new of whom nothing is said looks.
    ///
    /// # Errors
    /// [`NotGiven::NotTheirs`], [`NotGiven::LastAdmin`].
    pub fn roles_with(
        &self,
        by: Option<&OperatorName>,
        name: &OperatorName,
        more: &Roles,
    ) -> Result<Roles, NotGiven> {
        if !self.may_name(by, name) {
            return Err(NotGiven::NotTheirs(name.clone()));
        }
        let known = self.operators.get(name).filter(|it| !it.revoked);
        let mut all = known.map_or_else(Roles::default, |it| it.roles.clone());
        all.add(more);
        if self.is_last_admin(name) && all.everywhere < Some(Role::Admin) {
            return Err(NotGiven::LastAdmin(name.clone()));
        }
        if all == Roles::default() {
            all = Roles::everywhere(Role::Viewer);
        }
        Ok(all)
    }

    /// Whether they may give an operator's name to whoever comes with a token. A name that somebody has is taken away
    /// by that, with all that it may do: only who may do everything everywhere gives it to somebody else.
    fn may_name(&self, by: Option<&OperatorName>, name: &OperatorName) -> bool {
        let everything = |by: &OperatorName| {
            let operator = self.operators.get(by).filter(|it| !it.revoked);
            operator.is_some_and(|it| it.roles.in_environment(None) >= Some(Role::Admin))
        };
        !self.operators.contains_key(name) || by.is_none_or(everything)
    }
}

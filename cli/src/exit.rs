//! How `tamer` ends: one number for each way, so that scripts can tell them apart.

/// The exit codes, as documented; a deployment's own comes from the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, or there was nothing to do.
    Done = 0,
    /// Something in Tamer itself, in the network or on this machine failed.
    Internal = 1,
    /// A wrong argument, a wrong file, or something named that does not exist.
    Usage = 2,
    /// Evidence is missing, or a policy or a role forbids it.
    Refused = 3,
    /// Somebody else is at it, or the environment is closed: outside of its windows, frozen or locked.
    Locked = 4,
    /// Checks before the change failed: nothing was changed.
    PreChecks = 5,
    /// Failed, and everything that had moved went back.
    RolledBack = 6,
    /// Failed, and not everything went back: look.
    NotRolledBack = 7,
    /// Waits for an approval.
    Approval = 8,
    /// Hosts could not be reached.
    Unreachable = 9,
    /// What runs was changed by hand on servers: found, or in the way of a release that changed nothing.
    Drift = 10,
    /// Stopped watching; the rollout goes on.
    Detached = 130,
}

impl Exit {
    const ALL: [Self; 12] = [
        Self::Done,
        Self::Internal,
        Self::Usage,
        Self::Refused,
        Self::Locked,
        Self::PreChecks,
        Self::RolledBack,
        Self::NotRolledBack,
        Self::Approval,
        Self::Unreachable,
        Self::Drift,
        Self::Detached,
    ];

    /// The number for the operating system.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit code that the controller gave a deployment; one that is not known here is internal.
    pub fn of_deployment(code: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|exit| u32::from(exit.code()) == code)
            .unwrap_or(Self::Internal)
    }

    /// What a refusal by the controller means for the exit code.
    pub fn of_status(code: tonic::Code) -> Self {
        use tonic::Code;
        match code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unauthenticated => Self::Usage,
            Code::FailedPrecondition | Code::PermissionDenied => Self::Refused,
            Code::Aborted => Self::Locked,
            Code::OutOfRange => Self::Unreachable,
            _ => Self::Internal,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130]);
        assert_eq!(Exit::of_deployment(6), Exit::RolledBack);
        assert_eq!(Exit::of_deployment(99), Exit::Internal);
    }

    #[test]
    fn refusals_by_the_controller_have_their_codes() {
        use tonic::Code;
        for (code, exit) in [
            (Code::InvalidArgument, 2),
            (Code::NotFound, 2),
            (Code::Unauthenticated, 2),
            (Code::FailedPrecondition, 3),
            (Code::PermissionDenied, 3),
            (Code::Aborted, 4),
            (Code::OutOfRange, 9),
            (Code::Unavailable, 1),
            (Code::Internal, 1),
        ] {
            assert_eq!(Exit::of_status(code).code(), exit, "{code:?}");
        }
    }
}

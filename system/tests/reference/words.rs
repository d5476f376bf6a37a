//! Types and names of the code in the words of those who write the files.

use syn::Type;

/// The last word of a type, and what is in its angle brackets.
pub(crate) fn type_parts(ty: &Type) -> (String, Vec<&Type>) {
    let Type::Path(path) = ty else {
        panic!("a type that this test cannot read")
    };
    let last = path.path.segments.last().unwrap();
    let inner = match &last.arguments {
        syn::PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter_map(|argument| match argument {
                syn::GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    (last.ident.to_string(), inner)
}

/// The last word of a type.
pub(crate) fn type_name(ty: &Type) -> String {
    type_parts(ty).0
}

/// What may be written where the code has this type.
pub(crate) fn value(ty: &Type) -> String {
    let (name, inner) = type_parts(ty);
    let inner: Vec<String> = inner.into_iter().map(value).collect();
    let plain = match name.as_str() {
        "Option" => return inner[0].clone(),
        "BTreeSet" | "Vec" => return format!("list of: {}", inner[0]),
        "BTreeMap" => return format!("table: {} = {}", inner[0], inner[1]),
        "String" => "text",
        "bool" => "true or false",
        "u16" | "u32" | "u64" | "usize" => "number",
        "PathBuf" => "path",
        "SocketAddr" => "address:port",
        "Span" => "[time](configuration.md#values)",
        "Quantity" => "[hosts](configuration.md#values)",
        "Size" => "[bytes](configuration.md#values)",
        "Umask" => "\"octal\"",
        "Room" => "[room](configuration.md#values)",
        "Selector" => "[labels](configuration.md#values)",
        "Version" => "version",
        "Digest" => "digest",
        "ApplicationName" | "ComponentName" | "EnvironmentName" | "HostName" | "CheckName"
        | "KeyName" => "name",
        "ComponentPath" => "\"application/component\"",
        "Hook" => "[hook](#hooks)",
        "Capability" => "[capability](configuration.md#the-files-of-a-release)",
        "EvidenceKind" => "[evidence](#evidence)",
        "VerifyingKey" => "public key",
        "Until" => "day",
        "EvidenceKey" | "ApprovalKey" => "table",
        "OnFailure" => "[on_failure](#on_failure)",
        "OnDrift" => "[on_drift](#on_drift)",
        "Every" => "[every](#every)",
        "SmtpTls" => "[tls](#tls)",
        "Policy" | "Auto" | "Demanded" | "BuildSpec" | "Approval" | "ComponentSpec" | "Allowed"
        | "Limits" | "BackupsFile" | "PlaceFile" => "table",
        "Point" => "[point](../environments.md#points-of-approval)",
        "Day" => "`mon` to `sun`",
        "TimeOfDay" => "time of day: `09:30`",
        "Zone" => "IANA time zone",
        "Border" => "day, or time of one: `2026-12-24 18:00`",
        "Window" | "Freeze" => "table",
        "Checks" => "table: name = check",
        "Pools" => "table: name = [labels](configuration.md#values)",
        "RouterSpec" => "[table](#routerapplicationcomponent)",
        "Acceptance" => "table: \"application/component\" = table: name = check",
        "Schemas" => "table: name = database",
        "WorksWith" => "table: name = [versions](configuration.md#values)",
        "Program" => "path in the release, and arguments",
        other => panic!("the type {other}: say in this test what people write for it"),
    };
    plain.to_owned()
}

/// Words as serde writes them with `rename_all = "kebab-case"`.
pub(crate) fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// A number of seconds as people write it.
pub(crate) fn span(seconds: u64) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= length && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

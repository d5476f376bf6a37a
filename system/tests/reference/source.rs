//! Rust sources as data: which keys a struct has, what is said of them, what their defaults are.
//!
//! Whatever is met here and not understood is a panic with its name: teach this file rather than
//! let the reference leave something out.

use crate::find::{Arms, Call, Calls, Pairs, StructLiteral};
use crate::words::{kebab, span, type_name, value};
use std::path::Path;
use syn::visit::Visit;
use syn::{Attribute, Expr, Fields, Item, Lit, Meta, Type};

/// One source file.
pub(crate) struct Source {
    path: String,
    file: syn::File,
}

/// One key of a TOML table, or one part of an enum's variant.
#[derive(Debug)]
pub(crate) struct Key {
    /// As it is written in the file.
    pub name: String,
    /// What the code says of it.
    pub doc: String,
    /// What may be written there.
    pub value: String,
    /// The default, as TOML; `None` where the key must be there.
    pub default: Option<String>,
}

/// One variant of an enum.
#[derive(Debug)]
pub(crate) struct Variant {
    /// Its name in the code.
    pub name: String,
    /// Its name as serde writes it in kebab case.
    pub word: String,
    /// What the code says of it.
    pub doc: String,
    /// Its number, where it has one.
    pub number: Option<u64>,
    /// Whether it is the enum's default.
    pub default: bool,
    /// Its named fields.
    pub keys: Vec<Key>,
}

impl Source {
    /// Reads a file, by its path in the repository.
    pub(crate) fn read(path: &str) -> Self {
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        let text = std::fs::read_to_string(&whole).unwrap_or_else(|e| panic!("{path}: {e}"));
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self {
            path: path.to_owned(),
            file,
        }
    }

    fn missing(&self, what: &str) -> ! {
        panic!("{}: no {what}: it was moved or renamed", self.path)
    }

    fn structure(&self, name: &str) -> &syn::ItemStruct {
        let found = self.file.items.iter().find_map(|item| match item {
            Item::Struct(item) if item.ident == name => Some(item),
            _ => None,
        });
        found.unwrap_or_else(|| self.missing(&format!("struct {name}")))
    }

    fn enumeration(&self, name: &str) -> Option<&syn::ItemEnum> {
        self.file.items.iter().find_map(|item| match item {
            Item::Enum(item) if item.ident == name => Some(item),
            _ => None,
        })
    }

    /// The keys of a struct that serde reads.
    pub(crate) fn keys(&self, name: &str) -> Vec<Key> {
        let item = self.structure(name);
        let all_default = serde_words(&item.attrs).iter().any(|w| w.0 == "default");
        let fields = item.fields.iter();
        fields
            .filter(|field| {
                let words = serde_words(&field.attrs);
                !words.iter().any(|w| w.0 == "flatten" || w.0 == "skip")
            })
            .map(|field| {
                let mut key = self.key(field);
                if all_default && key.default.is_none() {
                    let given = self.field_of_default(name, &key.name);
                    key.default = Some(given.unwrap_or_else(|| self.empty(&field.ty)));
                }
                key
            })
            .collect()
    }

    /// The fields of a struct with their types' names and what is said of them; nothing is demanded.
    pub(crate) fn fields(&self, name: &str) -> Vec<(String, &Type)> {
        let fields = self.structure(name).fields.iter();
        fields
            .map(|field| (field.ident.as_ref().unwrap().to_string(), &field.ty))
            .collect()
    }

    /// The variants of an enum.
    pub(crate) fn variants(&self, name: &str) -> Vec<Variant> {
        let Some(item) = self.enumeration(name) else {
            self.missing(&format!("enum {name}"));
        };
        item.variants
            .iter()
            .map(|variant| Variant {
                name: variant.ident.to_string(),
                word: kebab(&variant.ident.to_string()),
                doc: doc(&variant.attrs),
                number: variant.discriminant.as_ref().map(|(_, e)| number(e)),
                default: variant.attrs.iter().any(|a| a.path().is_ident("default")),
                keys: match &variant.fields {
                    Fields::Named(fields) => fields.named.iter().map(|f| self.key(f)).collect(),
                    _ => Vec::new(),
                },
            })
            .collect()
    }

    fn key(&self, field: &syn::Field) -> Key {
        let mut name = field.ident.as_ref().unwrap().to_string();
        let mut default = None;
        for (word, value) in serde_words(&field.attrs) {
            match (word.as_str(), value) {
                ("rename", Some(value)) => name = value,
                ("default", Some(function)) => default = Some(self.returned(&function)),
                ("default", None) => default = Some(self.empty(&field.ty)),
                // An absent Option is None, with or without a word about it.
                ("skip_serializing_if", _) => {}
                (word, _) => panic!("{}: serde({word}) on `{name}`: teach this test", self.path),
            }
        }
        if default.is_none() && type_name(&field.ty) == "Option" {
            default = Some(String::new());
        }
        Key {
            doc: doc(&field.attrs),
            value: value(&field.ty),
            name,
            default,
        }
    }

    /// What a function without arguments gives, as TOML.
    fn returned(&self, function: &str) -> String {
        let found = self.file.items.iter().find_map(|item| match item {
            Item::Fn(item) if item.sig.ident == function => match item.block.stmts.last() {
                Some(syn::Stmt::Expr(expr, None)) => Some(self.toml(expr)),
                _ => None,
            },
            _ => None,
        });
        found.unwrap_or_else(|| self.missing(&format!("fn {function}() that gives a value")))
    }

    /// What `impl Default for NAME` gives a field.
    fn field_of_default(&self, name: &str, field: &str) -> Option<String> {
        let block = self.file.items.iter().find_map(|item| match item {
            Item::Impl(item)
                if type_name(&item.self_ty) == name
                    && item.trait_.as_ref().is_some_and(|it| {
                        it.0.segments.last().is_some_and(|s| s.ident == "Default")
                    }) =>
            {
                Some(item)
            }
            _ => None,
        })?;
        let mut found = StructLiteral { field, expr: None };
        found.visit_item_impl(block);
        let expr = found.expr;
        let expr = expr.unwrap_or_else(|| self.missing(&format!("default of {name}.{field}")));
        Some(self.toml(&expr))
    }

    /// The default that a type has by itself, as TOML; empty for nothing.
    fn empty(&self, ty: &Type) -> String {
        let name = type_name(ty);
        match name.as_str() {
            "bool" => "false".to_owned(),
            "Option" | "BTreeMap" | "BTreeSet" | "Vec" | "Checks" => String::new(),
            name => match self.enumeration(name) {
                Some(_) => {
                    let variants = self.variants(name);
                    let default = variants.into_iter().find(|variant| variant.default);
                    format!("\"{}\"", default.expect("a #[default] variant").word)
                }
                // A table, whose own keys have their defaults.
                None => String::new(),
            },
        }
    }

    /// A constant expression as it would stand in a TOML file; empty for `None`.
    fn toml(&self, expr: &Expr) -> String {
        let teach = || -> ! { panic!("{}: a default that this test cannot read", self.path) };
        match expr {
            Expr::Lit(lit) => match &lit.lit {
                Lit::Int(int) => int.base10_digits().to_owned(),
                Lit::Bool(bool) => bool.value.to_string(),
                Lit::Str(text) => format!("\"{}\"", text.value()),
                _ => teach(),
            },
            Expr::Path(path) => {
                let names = names(&path.path);
                match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["None"] => String::new(),
                    [_, variant] => format!("\"{}\"", kebab(variant)),
                    _ => teach(),
                }
            }
            Expr::Call(call) => {
                let Expr::Path(path) = &*call.func else {
                    teach()
                };
                let names = names(&path.path);
                let (Some(argument), [kind, function]) = (call.args.first(), &names[..]) else {
                    teach()
                };
                match (kind.as_str(), function.as_str()) {
                    ("Span", "secs") => format!("\"{}\"", span(self.number(argument))),
                    ("Quantity" | "Room", "Percent") => {
                        format!("\"{}%\"", self.number(argument))
                    }
                    ("Room", "Bytes") => {
                        let bytes = self.number(argument);
                        assert_eq!(bytes % (1 << 20), 0, "whole MiB are easier to read");
                        format!("\"{}MiB\"", bytes >> 20)
                    }
                    ("Quantity", "Hosts") => self.number(argument).to_string(),
                    ("Umask", "octal") => format!("\"{:04o}\"", self.number(argument)),
                    ("PathBuf", "from") => self.toml(argument),
                    _ => teach(),
                }
            }
            Expr::Macro(macro_) if macro_.mac.path.is_ident("vec") => {
                let parse = syn::punctuated::Punctuated::<Expr, syn::Token![,]>::parse_terminated;
                let items = macro_.mac.parse_body_with(parse).unwrap();
                let items: Vec<String> = items.iter().map(|item| self.toml(item)).collect();
                format!("[{}]", items.join(", "))
            }
            _ => teach(),
        }
    }

    /// A constant number, which may be a product and name other constants of the file.
    fn number(&self, expr: &Expr) -> u64 {
        match expr {
            Expr::Lit(_) => number(expr),
            Expr::Path(path) => self.number(self.constant(&names(&path.path).join("::")).1),
            Expr::Binary(binary) if matches!(binary.op, syn::BinOp::Mul(_)) => {
                self.number(&binary.left) * self.number(&binary.right)
            }
            _ => panic!("{}: a number that this test cannot read", self.path),
        }
    }

    fn constant(&self, name: &str) -> (&syn::ItemConst, &Expr) {
        let found = self.file.items.iter().find_map(|item| match item {
            Item::Const(item) if item.ident == name => Some(item),
            _ => None,
        });
        let item = found.unwrap_or_else(|| self.missing(&format!("const {name}")));
        (item, &item.expr)
    }

    /// A constant's value and what is said of it.
    pub(crate) fn documented(&self, name: &str) -> (String, String) {
        let (item, expr) = self.constant(name);
        let value = match expr {
            Expr::Call(_) => self.toml(expr).trim_matches('"').to_owned(),
            Expr::Lit(lit) if matches!(lit.lit, Lit::Str(_)) => {
                self.toml(expr).trim_matches('"').to_owned()
            }
            _ => self.number(expr).to_string(),
        };
        (value, doc(&item.attrs))
    }

    /// Calls of a function by this name, wherever they are: their arguments as far as they are
    /// texts, and the field of a struct that the call's value goes to.
    pub(crate) fn calls(&self, function: &str) -> Vec<Call> {
        let mut calls = Calls {
            function,
            field: String::new(),
            found: Vec::new(),
        };
        calls.visit_file(&self.file);
        calls.found
    }

    /// Arms `Enum::Variant => literal` and `Enum::Variant(..) => literal`, wherever they are.
    pub(crate) fn arms(&self, variant: &str) -> Vec<u64> {
        let mut arms = Arms {
            variant,
            found: Vec::new(),
        };
        arms.visit_file(&self.file);
        arms.found
    }

    /// The first of every pair that begins with a text, in the body of a function.
    pub(crate) fn pairs(&self, function: &str) -> Vec<String> {
        let found = self.file.items.iter().find_map(|item| match item {
            Item::Fn(item) if item.sig.ident == function => Some(item),
            _ => None,
        });
        let mut pairs = Pairs(Vec::new());
        let body = found.unwrap_or_else(|| self.missing(&format!("fn {function}")));
        pairs.visit_item_fn(body);
        pairs.0
    }

    /// The default of a key that is read by hand, by `function("key", DEFAULT)`.
    pub(crate) fn default_in_call(&self, function: &str, key: &str) -> String {
        let calls = self.calls(function);
        let call = calls.iter().find(|call| call.texts == [key]);
        let call = call.unwrap_or_else(|| self.missing(&format!("{function}(\"{key}\", …)")));
        self.toml(call.last.as_ref().unwrap())
    }
}

/// The doc comment, its lines joined, without rustdoc's links.
fn doc(attrs: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attr in attrs {
        if let Meta::NameValue(pair) = &attr.meta
            && pair.path.is_ident("doc")
            && let Some(line) = text(&pair.value)
        {
            lines.push(line.trim().to_owned());
        }
    }
    lines.join(" ").replace("[`", "`").replace("`]", "`")
}

/// The words of `#[serde(word, word = "value")]`.
fn serde_words(attrs: &[Attribute]) -> Vec<(String, Option<String>)> {
    let mut words = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("serde")) {
        attr.parse_nested_meta(|meta| {
            let value = match meta.value() {
                Ok(value) => Some(value.parse::<syn::LitStr>()?.value()),
                Err(_) => None,
            };
            words.push((meta.path.require_ident()?.to_string(), value));
            Ok(())
        })
        .unwrap();
    }
    words
}

fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|s| s.ident.to_string()).collect()
}

pub(crate) fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn number(expr: &Expr) -> u64 {
    match expr {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Int(int) => int.base10_parse().unwrap(),
            _ => panic!("not a number"),
        },
        _ => panic!("not a number"),
    }
}

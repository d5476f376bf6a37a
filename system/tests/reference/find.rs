//! What is looked for in the bodies of functions.

use crate::source::text;
use syn::visit::{self, Visit};
use syn::{Expr, Lit};

/// A call that was found.
pub(crate) struct Call {
    /// The field of a struct literal that its value goes to.
    pub field: String,
    /// Those of its arguments that are texts.
    pub texts: Vec<String>,
    /// Its last argument.
    pub last: Option<Expr>,
}

/// Looks for calls of a function.
pub(crate) struct Calls<'a> {
    pub(crate) function: &'a str,
    pub(crate) field: String,
    pub(crate) found: Vec<Call>,
}

impl<'ast> Visit<'ast> for Calls<'_> {
    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if let syn::Member::Named(name) = &field.member {
            self.field = name.to_string();
        }
        visit::visit_field_value(self, field);
        self.field.clear();
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(path) = &*call.func
            && path.path.is_ident(self.function)
        {
            self.found.push(Call {
                field: self.field.clone(),
                texts: call.args.iter().filter_map(text).collect(),
                last: call.args.last().cloned(),
            });
        }
        visit::visit_expr_call(self, call);
    }
}

/// Looks for arms of a match that give a number for a variant.
pub(crate) struct Arms<'a> {
    pub(crate) variant: &'a str,
    pub(crate) found: Vec<u64>,
}

impl<'ast> Visit<'ast> for Arms<'_> {
    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let cases: Vec<&syn::Pat> = match &arm.pat {
            syn::Pat::Or(or) => or.cases.iter().collect(),
            pat => vec![pat],
        };
        let named = cases.into_iter().any(|pat| {
            let path = match pat {
                syn::Pat::TupleStruct(pat) => &pat.path,
                syn::Pat::Path(pat) => &pat.path,
                _ => return false,
            };
            path.segments
                .last()
                .is_some_and(|s| s.ident == self.variant)
        });
        if let Expr::Lit(lit) = &*arm.body
            && let Lit::Int(int) = &lit.lit
            && named
        {
            self.found.push(int.base10_parse().unwrap());
        }
        visit::visit_arm(self, arm);
    }
}

/// Looks for pairs that begin with a text.
pub(crate) struct Pairs(pub(crate) Vec<String>);

impl<'ast> Visit<'ast> for Pairs {
    fn visit_expr_tuple(&mut self, tuple: &'ast syn::ExprTuple) {
        if let (2, Some(name)) = (tuple.elems.len(), tuple.elems.first().and_then(text)) {
            self.0.push(name);
        }
        visit::visit_expr_tuple(self, tuple);
    }
}

/// Looks for what a field is given.
pub(crate) struct StructLiteral<'a> {
    pub(crate) field: &'a str,
    pub(crate) expr: Option<Expr>,
}

impl<'ast> Visit<'ast> for StructLiteral<'_> {
    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if matches!(&field.member, syn::Member::Named(name) if name == self.field) {
            self.expr = Some(field.expr.clone());
        }
    }
}

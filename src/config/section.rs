//! One macro: a section of the configuration is written once, and its struct, its defaults and the help that
//! `natter config --default` prints all come from there, so they cannot drift apart. Called by [`super::sections`].

/// A key's name and its help: the lines of its doc comment.
pub type Doc = (&'static str, &'static [&'static str]);

/// Declares a section: `field: Type = default`, each with a doc comment.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $name:ident {
            $( $(#[doc = $field_doc:literal])* $field:ident : $ty:ty = $default:expr ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $field_doc])* pub $field: $ty ),*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default ),* }
            }
        }

        impl $name {
            /// What the section is for: the lines of its doc comment.
            pub const ABOUT: &'static [&'static str] = &[$($doc),*];
            /// Its keys in order, each with its help.
            pub const KEYS: &'static [$crate::config::Doc] =
                &[$( (stringify!($field), &[$($field_doc),*]) ),*];
        }
    };
}

pub(super) use section;

//! The configuration file: text in, [`Config`] out, or every fault with its line, column and nearest valid key.
//!
//! ```text
//!  text ──yaml──► tree with places ──check──► values by path ──build──► Config ──rules──► faults across keys
//!                                   (schema: one table of keys, shapes and meanings)
//!  Config ──fields──► values by path ──explain──► what each means here, or the file again
//! ```
//!
//! Reads no file, resolves no host, never panics on any text. The original's schema loads unchanged.

mod address;
mod build;
mod check;
mod error;
mod explain;
mod fields;
mod local;
mod members;
mod read;
mod render;
mod rules;
mod schema;
mod schema_nodes;
mod template;
mod value;
mod yaml;

pub use error::{ConfigError, ConfigErrors};
pub use explain::{Explained, Source, explain};
pub use local::local;
pub use members::{Added, MemberError, Members, NodeAsk};
pub use render::show;
pub use template::{InitFacts, SshHost, init_template};

use check::Checked;
use grid_types::policy::Config;

/// A configuration that holds together, with where each value was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What decisions use.
    pub config: Config,
    checked: Checked,
}

impl From<Config> for Parsed {
    /// A configuration that was made and not read (`grid up --local`): every value counts as a default.
    fn from(config: Config) -> Self {
        Self { config, checked: Checked::default() }
    }
}

/// Reads a configuration.
///
/// # Errors
/// All faults in the order of the text. Where the text is not YAML, what comes after the first fault of syntax is
/// not looked at.
pub fn parse(text: &str) -> Result<Parsed, ConfigErrors> {
    let (root, mut errors) = yaml::read(text);
    let Some(root) = root else { return Err(ConfigErrors::sorted(errors)) };
    let mut checked = check::check(&root);
    let config = build::build(&checked);
    rules::check(&config, &mut checked);
    errors.append(&mut checked.errors);
    if errors.is_empty() { Ok(Parsed { config, checked }) } else { Err(ConfigErrors::sorted(errors)) }
}

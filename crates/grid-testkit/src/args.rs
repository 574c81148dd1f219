//! `--name value` arguments of the programs in `src/bin`. Owns their parsing and its messages; never ends the process.

use grid_types::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// The arguments of one program, by name without the dashes.
#[derive(Debug, Default)]
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Reads `--name value` pairs; a name that is not in `known` is an error that lists what is.
    pub fn parse(args: impl IntoIterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").filter(|n| known.contains(n));
            let name = name.ok_or_else(|| format!("unknown argument {arg}; known: --{}", known.join(" --")))?;
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            found.insert(name.to_owned(), value);
        }
        Ok(Self(found))
    }

    /// The arguments of this process.
    pub fn of_this_process(known: &[&str]) -> Result<Self, String> {
        Self::parse(std::env::args().skip(1), known)
    }

    /// The value of `--name`, if given.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("--{name} {text}: not understood"))
    }

    /// The value of `--name`, or `default`.
    pub fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// An amount of memory such as `512MiB`, in bytes.
    pub fn memory(&self, default: u64) -> Result<usize, String> {
        let Bytes(bytes) = self.or("memory", Bytes(default))?;
        usize::try_from(bytes).map_err(|_| format!("--memory {bytes}: too much for this machine"))
    }

    /// The value of `--name` as a path; it must be given.
    pub fn path(&self, name: &str) -> Result<PathBuf, String> {
        self.get(name)?.ok_or_else(|| format!("--{name} is needed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned), &["memory", "steps", "report"])
    }

    #[test]
    fn values_are_read_and_defaults_kept() {
        let args = parse("--memory 512MiB --steps 7").unwrap();
        assert_eq!(args.memory(1), Ok(512 << 20));
        assert_eq!(args.or("steps", 1u64), Ok(7));
        assert_eq!(args.get::<u64>("report"), Ok(None));
        assert!(args.path("report").is_err());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert!(parse("--step 7").unwrap_err().contains("known: --memory --steps"));
        assert!(parse("--steps").unwrap_err().contains("needs a value"));
        assert!(parse("--steps x").unwrap().or("steps", 1u64).is_err());
    }
}

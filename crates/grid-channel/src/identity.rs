//! The key and certificate of one end, on disk, and the fingerprint that the other end knows it by.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// SHA-256 of a certificate in DER, as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Pin([u8; 32]);

impl Pin {
    /// Of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no fingerprint: 64 hexadecimal digits of SHA-256");
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        let digits = digits.ok_or_else(wrong)?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        // An odd digit too many would be a byte of its own.
        if digits.len() != 64 {
            return Err(wrong());
        }
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

impl TryFrom<String> for Pin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of it.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The certificate could not be made.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Half of it is there: it is not made anew, because the other end knows the old one.
    #[error("{0} is missing, and the other half of this identity is there; remove both, and start the cluster anew")]
    Half(PathBuf),
}

/// One end's key and certificate. The key never leaves its machine.
pub struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

const CERTIFICATE: &str = "certificate.der";
const KEY: &str = "key.der";
/// The name in every certificate; nobody looks at it.
pub(crate) const NAME: &str = "grid";

impl Identity {
    /// What this folder holds; made there where it holds nothing.
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        let read = |name: &str| {
            let path = dir.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(IdentityError::File { path, source }),
            }
        };
        match (read(CERTIFICATE)?, read(KEY)?) {
            (Some(certificate), Some(key)) => {
                Ok(Self { certificate: certificate.into(), key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)) })
            }
            (None, None) => Self::make(dir),
            (None, Some(_)) => Err(IdentityError::Half(dir.join(CERTIFICATE))),
            (Some(_), None) => Err(IdentityError::Half(dir.join(KEY))),
        }
    }

    fn make(dir: &Path) -> Result<Self, IdentityError> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let (certificate, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            let open = || std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            open()
                .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
                .map_err(|source| IdentityError::File { path: path.clone(), source })
        };
        write(KEY, &key)?;
        write(CERTIFICATE, &certificate)?;
        Ok(Self { certificate, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)) })
    }

    /// What the other end must be told.
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_stays_the_same_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path()).unwrap().pin();
        assert_eq!(Identity::open(dir.path()).unwrap().pin(), first);
        assert_eq!(std::fs::metadata(dir.path().join(KEY)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(first.to_string().parse::<Pin>(), Ok(first));
    }

    #[test]
    fn half_of_one_is_not_made_whole_again() {
        let dir = tempfile::tempdir().unwrap();
        Identity::open(dir.path()).unwrap();
        std::fs::remove_file(dir.path().join(KEY)).unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::Half(path)) if path.ends_with(KEY)));
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        for text in ["", "00", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
            assert!(text.parse::<Pin>().unwrap_err().contains("64 hexadecimal digits"), "{text}");
        }
    }
}

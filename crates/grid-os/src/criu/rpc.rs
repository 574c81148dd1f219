//! CRIU's RPC, as far as grid uses it: `criu swrk` on a sequenced-packet socket. The messages are those of CRIU's
//! `images/rpc.proto` (MIT), with only the fields that grid sets or reads.

use prost::Message;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Request types.
pub(crate) mod kind {
    pub(crate) const DUMP: i32 = 1;
    pub(crate) const RESTORE: i32 = 2;
    pub(crate) const NOTIFY: i32 = 6;
}

/// `network_lock`: grid moves no established connection, so there is nothing to lock.
pub(crate) const NETWORK_LOCK_SKIP: i32 = 3;
/// `manage_cgroups_mode`: grid puts the tree where it belongs by itself.
pub(crate) const CGROUPS_IGNORE: i32 = 0;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PageServer {
    #[prost(int32, optional, tag = "4")]
    pub(crate) fd: Option<i32>,
}

/// A descriptor that CRIU has is used in place of what the images call by this name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InheritFd {
    #[prost(string, required, tag = "1")]
    pub(crate) key: String,
    #[prost(int32, required, tag = "2")]
    pub(crate) fd: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Opts {
    #[prost(int32, required, tag = "1")]
    pub(crate) images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(crate) file_locks: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(crate) shell_job: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(crate) log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub(crate) log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub(crate) ps: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub(crate) notify_scripts: Option<bool>,
    #[prost(bool, optional, tag = "18")]
    pub(crate) link_remap: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(crate) inherit_fd: Vec<InheritFd>,
    #[prost(int32, optional, tag = "34")]
    pub(crate) manage_cgroups_mode: Option<i32>,
    #[prost(uint32, optional, tag = "35")]
    pub(crate) ghost_limit: Option<u32>,
    #[prost(string, repeated, tag = "37")]
    pub(crate) external: Vec<String>,
    #[prost(bool, optional, tag = "46")]
    pub(crate) tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub(crate) lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "52")]
    pub(crate) tcp_close: Option<bool>,
    #[prost(int32, optional, tag = "64")]
    pub(crate) network_lock: Option<i32>,
    #[prost(bool, optional, tag = "67")]
    pub(crate) unprivileged: Option<bool>,
    #[prost(string, optional, tag = "68")]
    pub(crate) images_dir: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Req {
    #[prost(int32, required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) opts: Option<Opts>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) notify_success: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RestoreResp {
    #[prost(int32, required, tag = "1")]
    pub(crate) pid: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Notify {
    #[prost(string, optional, tag = "1")]
    pub(crate) script: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resp {
    #[prost(int32, required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(crate) success: bool,
    #[prost(message, optional, tag = "4")]
    pub(crate) restore: Option<RestoreResp>,
    #[prost(message, optional, tag = "5")]
    pub(crate) notify: Option<Notify>,
    #[prost(int32, optional, tag = "7")]
    pub(crate) cr_errno: Option<i32>,
    #[prost(string, optional, tag = "9")]
    pub(crate) cr_errmsg: Option<String>,
}

/// Our end of the socket to one `criu swrk`.
#[derive(Debug)]
pub(crate) struct Channel(pub(crate) OwnedFd);

impl Channel {
    /// Makes a pair: our end, and CRIU's.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(ours), theirs))
    }

    /// CRIU hears that nothing more comes, also where it holds this end.
    pub(crate) fn hang_up(&self) {
        let _ = nix::sys::socket::shutdown(self.0.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }

    pub(crate) fn send(&self, req: &Req) -> io::Result<()> {
        let bytes = req.encode_to_vec();
        let flags = nix::sys::socket::MsgFlags::MSG_NOSIGNAL;
        let sent = nix::sys::socket::send(self.0.as_raw_fd(), &bytes, flags)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next message; `UnexpectedEof` where CRIU has ended.
    pub(crate) fn receive(&self) -> io::Result<Resp> {
        let mut buffer = vec![0u8; 64 * 1024];
        let n = loop {
            match nix::sys::socket::recv(self.0.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => break other?,
            }
        };
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Resp::decode(&buffer[..n]).map_err(io::Error::other)
    }
}

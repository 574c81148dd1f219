//! The messages of CRIU's images that are inspected, with the fields that are looked at (`images/*.proto`, MIT).

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Plugins {
    #[prost(string, repeated, tag = "12")]
    pub(super) plugins: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Inventory {
    #[prost(uint32, required, tag = "1")]
    pub(super) version: u32,
    #[prost(message, optional, tag = "12")]
    pub(super) plugins: Option<Plugins>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PsTree {
    #[prost(uint32, required, tag = "1")]
    pub(super) pid: u32,
    #[prost(uint32, required, tag = "2")]
    pub(super) ppid: u32,
    #[prost(uint32, repeated, packed = "false", tag = "5")]
    pub(super) threads: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Creds {
    #[prost(uint32, required, tag = "1")]
    pub(super) uid: u32,
    #[prost(uint32, required, tag = "2")]
    pub(super) gid: u32,
    #[prost(uint32, required, tag = "3")]
    pub(super) euid: u32,
    #[prost(uint32, required, tag = "4")]
    pub(super) egid: u32,
    #[prost(uint32, required, tag = "5")]
    pub(super) suid: u32,
    #[prost(uint32, required, tag = "6")]
    pub(super) sgid: u32,
    #[prost(uint32, required, tag = "7")]
    pub(super) fsuid: u32,
    #[prost(uint32, required, tag = "8")]
    pub(super) fsgid: u32,
    #[prost(uint32, repeated, packed = "false", tag = "9")]
    pub(super) cap_inh: Vec<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "10")]
    pub(super) cap_prm: Vec<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "11")]
    pub(super) cap_eff: Vec<u32>,
    #[prost(uint32, required, tag = "13")]
    pub(super) secbits: u32,
    #[prost(uint32, repeated, packed = "false", tag = "14")]
    pub(super) groups: Vec<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "19")]
    pub(super) cap_amb: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Rlimit {
    #[prost(uint64, required, tag = "1")]
    pub(super) cur: u64,
    #[prost(uint64, required, tag = "2")]
    pub(super) max: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Rlimits {
    #[prost(message, repeated, tag = "1")]
    pub(super) rlimits: Vec<Rlimit>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TaskCore {
    #[prost(uint32, required, tag = "1")]
    pub(super) state: u32,
    #[prost(message, optional, tag = "8")]
    pub(super) rlimits: Option<Rlimits>,
    #[prost(int32, optional, tag = "14")]
    pub(super) oom_score_adj: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ThreadCore {
    #[prost(sint32, optional, tag = "3")]
    pub(super) nice: Option<i32>,
    #[prost(uint32, optional, tag = "4")]
    pub(super) policy: Option<u32>,
    #[prost(message, optional, tag = "10")]
    pub(super) creds: Option<Creds>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Core {
    #[prost(message, optional, tag = "3")]
    pub(super) task: Option<TaskCore>,
    #[prost(message, optional, tag = "5")]
    pub(super) thread: Option<ThreadCore>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Mm {
    #[prost(uint32, required, tag = "12")]
    pub(super) exe_file_id: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Fs {
    #[prost(uint32, required, tag = "1")]
    pub(super) cwd_id: u32,
    #[prost(uint32, required, tag = "2")]
    pub(super) root_id: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RegFile {
    #[prost(uint32, required, tag = "2")]
    pub(super) flags: u32,
    #[prost(string, required, tag = "6")]
    pub(super) name: String,
    #[prost(bool, optional, tag = "9")]
    pub(super) ext: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UnixSocket {
    #[prost(uint32, required, tag = "2")]
    pub(super) ino: u32,
    #[prost(uint32, required, tag = "5")]
    pub(super) flags: u32,
    #[prost(bytes = "vec", required, tag = "11")]
    pub(super) name: Vec<u8>,
    #[prost(uint32, optional, tag = "12")]
    pub(super) shutdown: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InetSocket {
    #[prost(uint32, required, tag = "5")]
    pub(super) proto: u32,
    #[prost(uint32, required, tag = "6")]
    pub(super) state: u32,
    #[prost(uint32, required, tag = "8")]
    pub(super) dst_port: u32,
}

/// `regfile`, `unixsk`, `isk` and the kind; other kinds hold nothing that opens a path.
#[derive(Clone, PartialEq, Message)]
pub(super) struct File {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(uint32, required, tag = "2")]
    pub(super) id: u32,
    #[prost(message, optional, tag = "3")]
    pub(super) reg: Option<RegFile>,
    #[prost(message, optional, tag = "4")]
    pub(super) inet: Option<InetSocket>,
    #[prost(message, optional, tag = "16")]
    pub(super) unix: Option<UnixSocket>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Remap {
    #[prost(uint32, required, tag = "1")]
    pub(super) orig_id: u32,
    #[prost(uint32, required, tag = "2")]
    pub(super) remap_id: u32,
    #[prost(int32, optional, tag = "3")]
    pub(super) kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Ghost {
    #[prost(uint32, required, tag = "1")]
    pub(super) uid: u32,
    #[prost(uint32, required, tag = "2")]
    pub(super) gid: u32,
    #[prost(uint32, required, tag = "3")]
    pub(super) mode: u32,
}

//! The keys of a node.

use super::schema::{Key, Shape, TextRule, Unit, Word, key, required, word};

const ANY: Shape = Shape::Text(TextRule::Any);
const MOST_GIB: f64 = 1_048_576.0;
const MOST_CPUS: f64 = 100_000.0;

pub(super) const NODE: &[Key] = &[
    required("name", Shape::Text(TextRule::Name), "what the node is called everywhere"),
    key("host", Shape::Text(TextRule::Host), "host name or address to reach it at"),
    key("port", Shape::Number(Unit::Count, 1.0, 65_535.0), "its ssh port"),
    key("user", Shape::Text(TextRule::User), "user to log in as; without one, ssh decides"),
    key("role", Shape::Word(ROLES), "what the node is for"),
    key(
        "cpu_count",
        Shape::Number(Unit::Count, 1.0, MOST_CPUS),
        "its CPUs, not compared with the machine's; with engine: ssh it lends so many where max_share_cpu is not set",
    ),
    key(
        "gpu_count",
        Shape::Number(Unit::Count, 0.0, 1024.0),
        "its GPUs, not compared with the machine's; max_share_gpu may not be more",
    ),
    key(
        "memory_gb",
        Shape::Number(Unit::Gib, 0.001, MOST_GIB),
        "its GiB of memory, not compared with the machine's; with engine: ssh it lends so many where max_share_memory_gb is not set",
    ),
    key("tags", Shape::Texts(TextRule::Any), "accepted, not used: nothing is placed by them"),
    key("ssh_key_path", ANY, "private key for ssh; without one, ssh decides"),
    key("ray_start_params", Shape::Free, "kept for the Ray engine; not used"),
    key("resource_sharing", Shape::Section(SHARING, None), "what the node lends"),
];

const ROLES: &[Word] = &[
    word("head", "its work is relieved"),
    Word { written: "master", canonical: "head", meaning: "its work is relieved" },
    word("worker", "it lends"),
];

const SHARING: &[Key] = &[
    key("can_share", Shape::Flag, "the node lends"),
    key(
        "max_share_cpu",
        Shape::Number(Unit::Cpus, 0.0, MOST_CPUS),
        "most CPUs that it lends; without it, cpu_count with engine: ssh, else 1",
    ),
    key(
        "max_share_memory_gb",
        Shape::Number(Unit::Gib, 0.0, MOST_GIB),
        "most GiB of memory that it lends; without it, memory_gb with engine: ssh, else 1",
    ),
    key(
        "max_share_gpu",
        Shape::Number(Unit::Count, 0.0, 1024.0),
        "most GPUs that it lends; without it, those that it has",
    ),
    key(
        "priority",
        Shape::Number(Unit::Weight, 0.0, 1_000_000.0),
        "among lenders that fit equally well the higher one lends first",
    ),
];

//! Programs that grid knows by name, as data: what it leaves alone, and what a program is for.
//!
//! A protection applies where the executable's *or* the short name matches: a name may lie, and then the process stays.
//! A classification goes by the executable alone.

use grid_types::policy::ProcessKind;
use grid_types::reason::ReasonCode;
use std::collections::HashMap;
use std::sync::OnceLock;

/// The kernel cuts short names here (`TASK_COMM_LEN` less its end).
const COMM_LENGTH: usize = 15;

/// One group of protected programs. A name that ends in `*` matches every longer one.
struct Group {
    code: ReasonCode,
    what: &'static str,
    names: &'static str,
}

const PROTECTED: &[Group] = &[
    Group { code: ReasonCode::Grid, what: "part of grid", names: "grid grid-* criu" },
    Group {
        code: ReasonCode::Shell,
        what: "a shell",
        names: "bash sh dash zsh fish ksh mksh tcsh csh ash nu pwsh elvish xonsh login su sudo doas runuser",
    },
    Group {
        code: ReasonCode::Shell,
        what: "a terminal or a login",
        names: "tmux* screen SCREEN script sshd* ssh mosh-server mosh-client gnome-terminal* konsole xterm alacritty kitty \
                wezterm* foot footclient tilix terminator xfce4-terminal lxterminal urxvt* ghostty byobu* ptyxis* agetty getty",
    },
    Group {
        code: ReasonCode::Desktop,
        what: "a display server or part of the desktop",
        names: "X Xorg Xwayland Xvnc* gnome-* gsd-* goa-* gdm* gvfs* kwin* plasma* kded* mutter* sway weston Hyprland \
                hyprland niri labwc river i3 i3bar waybar xfce4-* xfwm4 xfdesktop lxqt-* cinnamon* mate-* dbus-daemon \
                dbus-broker* pipewire* wireplumber pulseaudio xdg-* at-spi* ibus* fcitx* tracker-* localsearch* \
                evolution* nautilus dolphin thunar sddm* lightdm* picom dunst mako rofi polybar",
    },
    Group {
        code: ReasonCode::Desktop,
        what: "an editor",
        names: "code code-insiders code-server code-tunnel codium cursor windsurf vi vim vim.* gvim nvim emacs* nano hx \
                helix kak micro subl sublime_text* gedit kate kwrite atom zed zed-editor idea* pycharm* clion* webstorm* \
                goland* rustrover* phpstorm* rubymine* datagrip* jetbrains* rstudio* rsession",
    },
    Group {
        code: ReasonCode::Desktop,
        what: "a browser",
        names: "firefox* chrome chrome_* chromium* google-chrome* brave* opera* vivaldi* msedge* epiphany* librewolf* \
                falkon qutebrowser GeckoMain WebExtensions",
    },
    Group {
        code: ReasonCode::Desktop,
        what: "an application with a window",
        names: "slack discord Discord zoom teams* spotify thunderbird* signal-desktop obsidian soffice* libreoffice* \
                gimp* inkscape vlc mpv steam* telegram* keepassxc",
    },
    Group {
        code: ReasonCode::Database,
        what: "a database",
        names: "postgres* postmaster mysqld* mariadbd* mongod mongos redis-server redis-check-rdb redis-sentinel valkey* \
                memcached influxd clickhouse* etcd cockroach rethinkdb neo4j* couchdb beam.smp dragonfly keydb-server",
    },
    Group {
        code: ReasonCode::Service,
        what: "a service",
        names: "init systemd* (sd-pam) dockerd containerd* docker-proxy runc crun podman conmon kubelet kube-* nginx apache2 httpd \
                caddy haproxy traefik envoy cron crond atd rsyslogd chronyd ntpd cupsd NetworkManager wpa_supplicant \
                polkitd udisksd upowerd avahi-daemon ssh-agent gpg-agent keyboxd sshfs rpcbind slurmd slurmctld \
                slurmstepd slurmdbd munged raylet gcs_server tailscaled snapd tini dumb-init docker-init",
    },
];

/// Places that only editors install to, for what runs under an interpreter.
const EDITOR_PLACES: &[&str] =
    &[".vscode-server/", ".cursor-server/", ".windsurf-server/", "/JetBrains/", "/code-server/", ".vscode/extensions/"];

type Hit = (ReasonCode, &'static str);

struct Index {
    exact: HashMap<&'static str, Hit>,
    prefixes: Vec<(&'static str, Hit)>,
}

/// Built once: the first pass asks for every process.
fn index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let (mut exact, mut prefixes) = (HashMap::new(), Vec::new());
        for group in PROTECTED {
            for name in group.names.split_ascii_whitespace() {
                let hit = (group.code, group.what);
                match name.strip_suffix('*') {
                    Some(prefix) => prefixes.push((prefix, hit)),
                    None => {
                        exact.insert(name, hit);
                        exact.insert(name.get(..COMM_LENGTH).unwrap_or(name), hit);
                    }
                }
            }
        }
        Index { exact, prefixes }
    })
}

/// Whether a program of this name is left alone, and what it is.
pub(super) fn protected(name: &str) -> Option<Hit> {
    let index = index();
    let by_prefix = || index.prefixes.iter().find(|(p, _)| name.starts_with(p)).map(|(_, hit)| *hit);
    index.exact.get(name).copied().or_else(by_prefix)
}

/// A file that belongs to an editor.
pub(super) fn is_editors(path: &str) -> bool {
    EDITOR_PLACES.iter().any(|place| path.contains(place))
}

/// Shells proper, which also run scripts.
pub(super) fn is_shell(name: &str) -> bool {
    matches!(name, "bash" | "sh" | "dash" | "zsh" | "fish" | "ksh" | "mksh" | "ash")
}

/// Kinds by the executable's name.
const KINDS: &[(ProcessKind, &str)] = &[
    (
        ProcessKind::DataProcessing,
        "xz gzip pigz zstd bzip2 pbzip2 lz4 lzma 7z 7za 7zz zip unzip tar bsdtar ffmpeg ffprobe sort awk gawk mawk jq \
         duckdb sqlite3 convert magick sox samtools bwa bcftools bowtie2 gdal_translate pandoc",
    ),
    (ProcessKind::Io, "rsync cp mv dd scp sftp rclone wget curl aria2c find du restic borg"),
    (
        ProcessKind::Compute,
        "make gmake ninja cmake meson bazel cc cc1 cc1plus gcc g++ clang clang++ ld ld.lld lld mold collect2 cargo rustc go \
         javac mvn gradle ghc blender octave octave-cli julia R Rscript matlab stress-ng gmx lmp pw.x mpirun orterun hydra_pmi_proxy",
    ),
    (ProcessKind::Training, "torchrun accelerate deepspeed"),
    (
        ProcessKind::Inference,
        "ollama llama-server llama-cli vllm tritonserver text-generation-launcher text-generation-router",
    ),
    (ProcessKind::Interactive, "top htop btop less more man watch ipython ipython3 gdb lldb"),
];

/// What a program of this name is for.
pub(super) fn kind_of(name: &str) -> Option<ProcessKind> {
    KINDS.iter().find(|(_, names)| names.split_ascii_whitespace().any(|n| n == name)).map(|(kind, _)| *kind)
}

/// Libraries of numerical frameworks, by a part of their file name.
pub(super) const FRAMEWORKS: &[&str] =
    &["libtorch", "libcudart", "libcublas", "libtensorflow", "libjax", "jaxlib", "libonnxruntime", "libnccl"];
/// Words of a script's name that mean training.
pub(super) const TRAINING_WORDS: &[&str] =
    &["train", "training", "trainer", "finetune", "finetuning", "pretrain", "pretraining", "sft", "fit"];
/// Words of a script's name that mean serving a model.
pub(super) const INFERENCE_WORDS: &[&str] = &["infer", "inference", "serve", "serving", "predict", "generate", "vllm"];
/// Programs whose arguments are files and flags, and safe to show.
pub(super) const SHOW_ARGUMENTS: &[&str] =
    &["xz", "gzip", "pigz", "zstd", "bzip2", "lz4", "sort", "tar", "make", "ninja"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_cut_short_or_by_prefix() {
        let code = |name| protected(name).map(|(code, _)| code);
        assert_eq!(code("bash"), Some(ReasonCode::Shell));
        assert_eq!(code("gnome-shell"), Some(ReasonCode::Desktop));
        assert_eq!(code("postgres"), Some(ReasonCode::Database));
        assert_eq!(code("tmux: server"), Some(ReasonCode::Shell));
        assert_eq!(code("hydra_pmi_proxy"), None);
        assert_eq!(code("python3"), None);
        assert_eq!(code("basher"), None);
    }
}

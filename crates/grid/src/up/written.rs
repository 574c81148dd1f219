//! What the embedded cluster writes down before anything runs: its folders, and what each daemon needs to know.

use super::plan::Plan;
use super::{Account, UpError, account, down, failed};
use grid_types::NodeName;
use grid_types::exit::FaultClass;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) fn make_state(plan: &Plan, account: Account) -> Result<(), UpError> {
    let dir = |path: &Path, mode| {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    let what = plan.state.display().to_string();
    dir(&plan.state, 0o711).map_err(failed(&what))?;
    dir(&plan.state.join("nodes"), 0o711).map_err(failed(&what))?;
    // The daemon reads its own file in there; what holds the token is root's alone.
    dir(&plan.state.join("conf"), 0o711).map_err(failed(&what))?;
    dir(&plan.state.join("log"), 0o700).map_err(failed(&what))?;
    account::hand_over(&plan.head_dir(), account)?;
    // Who may write in `control` may stop grid; what agents answer is theirs alone.
    dir(&plan.state.join("stopped"), 0o755).map_err(failed(&what))?;
    let (control, group) = (plan.state.join("control"), account::group(&plan.config.policy.users.boost_group));
    dir(&control, 0o755).map_err(failed(&what))?;
    if group.is_some() {
        std::os::unix::fs::chown(&control, None, group).map_err(failed(&what))?;
        dir(&control, 0o775).map_err(failed(&what))?;
    }
    down::write_pid(&plan.state).map_err(failed(&what))?;
    down::note_left(&plan.state, false).map_err(failed(&what))?;
    write_private(&plan.state.join("conf/plan.json"), plan, None)
}

/// What each daemon needs to know, with a secret of this run for each worker: who knows it may speak to the head's agent
/// as that worker.
pub(super) fn write_configs(plan: &Plan, account: Account) -> Result<(), UpError> {
    let workers = plan.nodes.iter().map(|node| &node.name).chain(plan.remote.iter().map(|worker| &worker.name));
    let tokens = workers.map(|name| Ok((name.clone(), token()?)));
    let tokens: BTreeMap<NodeName, String> = tokens.collect::<Result<_, UpError>>()?;
    write_private(&plan.state.join("conf/hub.json"), &plan.hub_config(&plan.head()?, &tokens), None)?;
    super::others::write(plan, account, |worker| tokens[&worker.name].clone())?;
    // No token in it: the daemon's uid is what the agent goes by.
    write_private(&plan.state.join("conf/head.json"), &plan.head_config(), Some(account.gid))?;
    for node in &plan.nodes {
        let own = plan.spoke_config(node, &tokens[&node.name]);
        write_private(&plan.state.join(format!("conf/{}.json", node.name)), &own, None)?;
    }
    Ok(())
}

/// 256 bits that nobody can guess.
pub(super) fn token() -> Result<String, UpError> {
    grid_os::random::hex::<32>().map_err(failed("/dev/urandom"))
}

/// Writes a file that root alone may read, and this group where one is named; nobody but root may change it.
pub(crate) fn write_private(path: &Path, value: &impl serde::Serialize, readers: Option<u32>) -> Result<(), UpError> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
    let what = path.display().to_string();
    let json = serde_json::to_vec_pretty(value).unwrap_or_default();
    // Whole, or as it was: daemons read it whenever they are started again.
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed(&what))?;
    if readers.is_some() {
        fchown(&file, None, readers).map_err(failed(&what))?;
        file.set_permissions(std::fs::Permissions::from_mode(0o640)).map_err(failed(&what))?;
    }
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed(&what))?;
    std::fs::rename(&new, path).map_err(failed(&what))
}

/// Where daemons were started by another program before, an older grid or one that is gone, they are started by this one
/// from now on.
pub(super) fn replace_program(plan: &Plan) -> Result<(), UpError> {
    let reached = plan.remote.iter().map(|worker| super::others::reach_file(plan, worker));
    let own = plan.nodes.iter().map(|node| plan.state.join(format!("conf/{}.json", node.name)));
    for file in [plan.state.join("conf/hub.json")].into_iter().chain(own).chain(reached) {
        let what = file.display().to_string();
        let text = std::fs::read_to_string(&file).map_err(failed(&what))?;
        let mut value: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| UpError::new(FaultClass::State, format!("{what}: {e}; nothing was changed")))?;
        let program = serde_json::json!(plan.program);
        if value["program"] == program {
            continue;
        }
        value["program"] = program;
        let owner = std::fs::metadata(&file).map_err(failed(&what))?;
        write_private(&file, &value, None)?;
        std::os::unix::fs::chown(&file, Some(owner.uid()), None).map_err(failed(&what))?;
    }
    write_private(&plan.state.join("conf/plan.json"), plan, None)
}

/// Of a plan, whatever grid wrote the rest of it.
#[derive(serde::Deserialize)]
struct Before {
    #[serde(default)]
    members: grid_core::config::Members,
}

/// Takes along what was said of the nodes of the last cluster of this state; returns what its owner should know.
///
/// # Errors
/// It was said, and cannot be read: nobody shall miss a node without knowing why.
pub fn recall_members(plan: &mut Plan) -> Result<Vec<String>, UpError> {
    let file = plan.state.join("conf/plan.json");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        // None was up yet; who may not look is refused for better reasons.
        Err(_) => return Ok(Vec::new()),
    };
    let members = match serde_json::from_str::<Before>(&text) {
        Ok(before) => before.members,
        Err(e) => {
            let what = format!("{}: {e}; nothing was started", file.display());
            let hint = "move it aside: nodes that grid node add added have to be added again then";
            return Err(UpError::new(FaultClass::State, what).hint(hint));
        }
    };
    Ok(plan.join(members))
}

/// What daemons of this state were started with last; none where that cannot be read.
pub(super) fn written<T: serde::de::DeserializeOwned>(state: &Path, name: &str) -> Option<T> {
    let text = std::fs::read_to_string(state.join("conf").join(name)).ok()?;
    serde_json::from_str(&text).ok()
}

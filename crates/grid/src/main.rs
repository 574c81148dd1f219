//! The `grid` program: user commands, and the daemons as hidden subcommands.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

use grid_cli::cli::{
    self, Cli, Command, DaemonCommand, DaemonRunArgs, DownArgs, HomePumpArgs, HomeServeArgs, ReachArgs, ServiceCommand,
    UpArgs,
};
use grid_cli::cli::{Format, Printed};
use grid_cli::criu_path;
use grid_cli::remote;
use grid_cli::run;
use grid_cli::service::{self, Unit};
use grid_cli::up::{self, LocalSize, Plan, UpError};
use grid_os::tree_init;
use grid_types::api::Status;
use grid_types::exit::FaultClass;
use grid_types::facts::Gpus;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    // A shadow is this program under another's number: nothing else of it runs.
    grid_shadow::run_if_asked();
    if let Some(code) = run::launch_if_asked() {
        return code;
    }
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if serves(&cli.command) {
        // What is private says so itself; the rest must be open to owners of moved programs, whatever mask root has.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    }
    let state = std::path::absolute(&cli.global.state).unwrap_or_else(|_| cli.global.state.clone());
    let outcome = match &cli.command {
        Command::TreeInit(args) => {
            let private_tmp = args.private_tmp.map(|user| grid_os::spawn::Owner { uid: user.uid, gid: user.gid });
            let terms = tree_init::Terms { guest: args.guest, private_tmp, highest: args.highest };
            grid_shadow::pid1::run(&tree_init::TreeDir(args.dir.clone()), terms).map_err(|e| internal(&e))
        }
        Command::HomePump(args) => {
            let HomePumpArgs { dir, attempt, uid, gid, groups, private_tmp, patience_ms, own } = args.clone();
            let patience = patience_ms.map(std::time::Duration::from_millis);
            let pump = grid_home::pump::Pump { dir, attempt, uid, gid, groups, private_tmp, patience, own };
            pump.run().map_err(|e| internal(&e))
        }
        Command::HomeServe(args) => {
            let HomeServeArgs { dir, attempt, uid, gid, groups } = args.clone();
            let most_watched = grid_home::serve::MOST_WATCHED;
            grid_home::serve::Home { dir, attempt, uid, gid, groups, most_watched }.run().map_err(|e| internal(&e))
        }
        Command::TreeSession => tree_init::keep_session().map_err(|e| internal(&e)),
        Command::NodeInit(args) => node_init(&args.args),
        Command::Channel(args) => channel(&args.config, args.run_as),
        Command::Reach(args) => reach(args),
        Command::NodeRun(args) => block_on(remote::node_run(&args.config)).flatten(),
        Command::NodeStart => remote::node_start().map(|pin| _ = cli::text(&pin)),
        Command::NodeStop { directory, unless_living: true, .. } => remote::node_spare(directory),
        Command::NodeStop { directory, purge, .. } => remote::node_stop(directory, *purge),
        Command::Agent(args) => agent(&args.config),
        Command::Daemon(args) => {
            let DaemonCommand::Run(args) = &args.command;
            daemon(args)
        }
        Command::Run(args) => return run::run(args, &cli.global),
        Command::Up(args) => up_command(args, &state),
        Command::Down(args) => down_command(args, &state),
        Command::Service(command) => service_command(command, &state),
        Command::Uninstall { .. } => uninstall_command(&state, cli.global.output),
        _ => return block_on(cli::run(cli)).unwrap_or_else(|e| fail(&e)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e),
    }
}

/// Does it lay files for others, or start what does? A person's own files keep that person's mask.
fn serves(command: &Command) -> bool {
    use Command::{Agent, Channel, Daemon, NodeInit, NodeRun, NodeStart, Reach, Up};
    matches!(command, Agent(_) | Channel(_) | Daemon(_) | NodeInit(_) | NodeRun(_) | NodeStart | Reach(_) | Up(_))
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, UpError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| internal(&e))?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, work))
}

fn internal(e: &dyn std::fmt::Display) -> UpError {
    UpError { class: FaultClass::Internal, message: e.to_string(), hint: None }
}

fn fail(e: &UpError) -> ExitCode {
    cli::message(&format!("error: {}", e.message));
    if let Some(hint) = &e.hint {
        cli::message(&format!("  do: {hint}"));
    }
    ExitCode::from(e.class.code())
}

fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, UpError> {
    let text = std::fs::read_to_string(path).map_err(|e| internal(&format!("{}: {e}", path.display())))?;
    serde_json::from_str(&text).map_err(|e| internal(&format!("{}: {e}", path.display())))
}

fn agent(config: &Path) -> Result<(), UpError> {
    // Before anything is read, and before there is a second thread.
    grid_os::rights::keep_only(&grid_os::rights::AGENT).map_err(|e| rights_kept(&e))?;
    let read = read_config(config)?;
    block_on(grid_agent::run(read, config.to_owned()))?.map_err(|e| {
        let class = match e {
            grid_agent::AgentError::Ledger(_) => FaultClass::State,
            _ => FaultClass::Environment,
        };
        UpError { class, ..internal(&e) }
    })
}

fn rights_kept(e: &std::io::Error) -> UpError {
    UpError {
        class: FaultClass::Environment,
        hint: Some("start it through `sudo grid up`".into()),
        ..internal(&format!("rights that it must not have could not be given up: {e}. Nothing was started"))
    }
}

fn daemon(args: &DaemonRunArgs) -> Result<(), UpError> {
    // Before anything is read: what comes next is done without root.
    become_user(args.run_as)?;
    let path = args.config.as_deref().ok_or_else(|| internal(&"--config is missing; `grid up` starts the daemon"))?;
    let config = read_config(path)?;
    let handed = grid_head::handed_over(std::io::stdin()).map_err(|e| internal(&e))?;
    block_on(grid_head::run(config, handed))?.map_err(|e| UpError { class: FaultClass::State, ..internal(&e) })
}

/// As a user of its own, before anything is read.
fn become_user(user: Option<up::Account>) -> Result<(), UpError> {
    user.map_or(Ok(()), |user| grid_os::rights::become_unprivileged(user.uid, user.gid)).map_err(|e| rights_kept(&e))
}

fn channel(config: &Path, user: Option<up::Account>) -> Result<(), UpError> {
    become_user(user)?;
    let config = read_config(config)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|e| internal(&e))?;
    let environment = |e: grid_channel::ChannelError| UpError { class: FaultClass::Environment, ..internal(&e) };
    runtime.block_on(grid_channel::run(config)).map_err(environment)
}

fn reach(args: &ReachArgs) -> Result<(), UpError> {
    become_user(args.run_as)?;
    let config: remote::ReachConfig = read_config(&args.config)?;
    block_on(async { if args.leave { config.leave(args.purge).await } else { remote::reach(config).await } })?
}

fn node_init(args: &[std::ffi::OsString]) -> Result<(), UpError> {
    let [name, config] = args else { return Err(internal(&"node-init NAME CONFIG")) };
    up::node_init(&name.to_string_lossy(), Path::new(config)).map_err(|e| internal(&e))
}

fn up_command(args: &UpArgs, state: &Path) -> Result<(), UpError> {
    let configured = args.config.as_deref().map(config_file).transpose()?;
    let criu = criu_path::find().ok_or_else(|| UpError {
        class: FaultClass::Environment,
        message: "no CRIU was found".into(),
        hint: Some("make demo installs one, or set GRID_CRIU; see grid doctor".into()),
    })?;
    let program = std::env::current_exe().map_err(|e| internal(&e))?;
    let mut plan = match (args.local, configured) {
        (Some(workers), _) => Plan::local(workers, local_size(args)?, state, criu, program),
        (None, Some(config)) => Plan::of(config, state, criu, program),
        (None, None) => {
            return Err(UpError { class: FaultClass::Usage, ..internal(&"say --local N or --config FILE") });
        }
    };
    if args.daemon_user.is_some() {
        plan.config.policy.users.daemon.clone_from(&args.daemon_user);
    }
    plan.remote.iter_mut().for_each(|worker| worker.sudo = args.sudo);
    let noted = notes(&mut plan, args)?;
    // The one in the background says it.
    noted.iter().filter(|_| !args.detach).for_each(|note| cli::message(&format!("note: {note}")));
    if args.dry_run {
        cli::text(&up::would_start(&plan)?);
        return Ok(());
    }
    if args.detach {
        return detach(args, state);
    }
    block_on(up::up(plan, |plan, took, status| {
        cli::text(&is_up(plan, took, status));
    }))?
}

/// What is not wrong, and may not be what was meant.
fn notes(plan: &mut Plan, args: &UpArgs) -> Result<Vec<String>, UpError> {
    let mut notes = up::recall_members(plan)?;
    let elsewhere: Vec<String> = plan.nodes_elsewhere();
    if !elsewhere.is_empty() {
        let names = elsewhere.join(", ");
        notes.push(format!("{names} made on this machine; execution.engine: ssh reaches other machines"));
    }
    let cpus = std::thread::available_parallelism().map_or(u32::MAX, |n| n.get() as u32);
    if let Some(lent) = args.worker_cpu.filter(|lent| lent.0 > cpus * 1000) {
        notes.push(format!("each worker lends {lent} CPU, and this machine has {cpus} for all of them together"));
    }
    Ok(notes)
}

/// What `grid up` says of a cluster that answers.
fn is_up(plan: &Plan, took: Duration, status: &Status) -> String {
    let names: Vec<&str> = plan.config.nodes.iter().map(|n| n.name.as_str()).collect();
    let workers = match plan.remote.len() {
        0 if plan.over_ssh() => "no workers yet: grid node add NAME --host HOST".to_owned(),
        0 => format!(
            "{} workers in namespaces of their own, one kernel, this machine's own RAM and disk",
            plan.nodes.len()
        ),
        n => format!("{n} workers on machines of their own, reached by ssh"),
    };
    let mut out = format!("cluster   {} in {:.1} s: {workers}\n", names.join(", "), took.as_secs_f64());
    for node in status.nodes.iter().filter(|n| !n.head) {
        out += &match (&node.lendable, &node.why) {
            (Some(amount), _) => format!("lends     {} {amount}\n", node.node),
            (None, why) => format!("lends     {} nothing: {}\n", node.node, why.as_deref().unwrap_or("unknown")),
        };
    }
    out += &format!("autopilot {}\n", format!("{:?}", status.auto.mode).to_lowercase());
    out + "Next: grid offload scan   (in another terminal; Ctrl-C here brings everything home and ends it)\n"
}

fn service_command(command: &ServiceCommand, state: &Path) -> Result<(), UpError> {
    let lines = match command {
        ServiceCommand::Uninstall { dry_run } => service::uninstall(state, *dry_run)?,
        ServiceCommand::Install { config, dry_run } => {
            let absolute = |path: &Path| std::path::absolute(path).map_err(|e| internal(&e));
            let program = std::env::current_exe().map_err(|e| internal(&e))?;
            let criu = criu_path::find().filter(|found| criu_path::of_installation(&program).as_ref() != Some(found));
            let criu = criu.map(|path| absolute(&path)).transpose()?;
            let unit = Unit { program, config: absolute(config)?, state: state.to_owned(), criu };
            if let Some(path) = unit.unfit() {
                let what = format!(
                    "{:?} cannot stand in a unit of systemd's. Nothing was changed",
                    path.display().to_string()
                );
                let hint = Some("a path of letters, digits and / . _ - + @".into());
                return Err(UpError { class: FaultClass::Usage, message: what, hint });
            }
            service::install(&unit, state, *dry_run)?
        }
    };
    lines.iter().for_each(|line| _ = cli::text(line));
    Ok(())
}

/// What is left on this machine, in the form asked for.
fn uninstall_command(state: &Path, format: Format) -> Result<(), UpError> {
    let left = service::left(state);
    let at = |l: &service::Left| l.at.display().to_string();
    let human = left.iter().map(|l| format!("{}  ({})\n    goes by: {}", at(l), l.what, l.remove));
    let human =
        if left.is_empty() { "grid has nothing on this machine.".into() } else { human.collect::<Vec<_>>().join("\n") };
    let quiet = left.iter().map(at).collect::<Vec<_>>().join("\n");
    Printed::local(&left, human, quiet).map_err(|e| internal(&format!("{e:?}")))?.print(format);
    Ok(())
}

fn config_file(file: &Path) -> Result<grid_types::policy::Config, UpError> {
    let name = file.display().to_string();
    cli::trusted(file)
        .map_err(|(message, hint)| UpError { hint, ..UpError { class: FaultClass::Config, ..internal(&message) } })?;
    let text = std::fs::read_to_string(file)
        .map_err(|e| UpError { class: FaultClass::Config, ..internal(&format!("{name}: {e}")) })?;
    grid_core::config::parse(&text)
        .map(|parsed| parsed.config)
        .map_err(|e| UpError { class: FaultClass::Config, ..internal(&e.at(&name)) })
}

fn local_size(args: &UpArgs) -> Result<LocalSize, UpError> {
    let mut reader = grid_os::node::NodeReader::new(None).map_err(|e| internal(&e))?;
    let facts = reader.read(&"head".into(), Gpus::None).map_err(|e| internal(&e))?;
    let mut size = LocalSize::of_machine(facts.cpu_total.0 / 1000, facts.memory_total);
    size.lends.cpu = args.worker_cpu.unwrap_or(size.lends.cpu);
    size.lends.memory = args.worker_memory.unwrap_or(size.lends.memory);
    Ok(size)
}

/// Starts the same command again in a session of its own, and returns when the cluster answers.
fn detach(args: &UpArgs, state: &Path) -> Result<(), UpError> {
    let mut argv: Vec<String> = vec!["--state".into(), state.display().to_string(), "up".into()];
    if let Some(n) = args.local {
        argv.extend(["--local".into(), n.to_string()]);
    }
    argv.extend(args.config.iter().flat_map(|c: &PathBuf| ["--config".into(), c.display().to_string()]));
    argv.extend(args.worker_cpu.iter().flat_map(|c| ["--worker-cpu".into(), format!("{}m", c.0)]));
    argv.extend(args.worker_memory.iter().flat_map(|m| ["--worker-memory".into(), m.0.to_string()]));
    argv.extend(args.sudo.then(|| "--sudo".into()));
    argv.extend(args.daemon_user.iter().flat_map(|u| ["--daemon-user".into(), u.clone()]));
    up::detached(&argv)
}

fn down_command(args: &DownArgs, state: &Path) -> Result<(), UpError> {
    let still_away = match (args.yes, args.leave) {
        (true, _) => up::StillAway::Ends,
        (_, true) => up::StillAway::IsLeft,
        _ => up::StillAway::Refuses,
    };
    if args.dry_run {
        cli::text(&block_on(up::would_stop(state, args.recall_first, still_away))??);
        return Ok(());
    }
    for line in block_on(up::down(state, args.recall_first, still_away))?? {
        cli::text(&line);
    }
    if args.purge {
        up::purge(state)?;
    }
    if up::was_left(state) {
        cli::text("The head's daemons have ended, and what is away runs on. grid up takes it over.");
        return Ok(());
    }
    let held = up::still_held(state);
    if held > 0 {
        return Err(UpError {
            class: FaultClass::InDoubt,
            message: format!("the cluster is down, and {held} copies stay behind, with their control groups"),
            hint: Some("grid rescue says which, why, and what to do".into()),
        });
    }
    cli::text(&match up::living_on(state) {
        0 => "The cluster is down: no process, namespace, mount or control group of it is left here.".to_owned(),
        n => format!(
            "The cluster is down. {n} that came home live on, each in namespaces of its own; the next grid up finds them."
        ),
    });
    Ok(())
}

//! `token`: makes, lists and revokes credentials.

use std::path::PathBuf;

use clap::Subcommand;
use pipeops_controller::credentials::{Created, Credentials, CredentialsFile, NewUser};

use crate::say;

/// Make, list, renew and revoke the tokens of agents and users
///
/// A token is shown once, on standard output, and everything else about it on standard error.
/// The credentials file (mode 0600) holds only its SHA-256. A running controller takes changes
/// of the file over by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Credentials file; `token agent` and `token user` create it where there is none
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "PIPEOPS_CONTROLLER_CREDENTIALS"
    )]
    credentials: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the token of an agent, and with it a cluster
    Agent {
        /// Name of the cluster: letters, digits, `.`, `-` and `_`
        name: String,
        /// Workspace that is told to the agent
        #[arg(long, value_name = "NUMBER")]
        workspace: Option<i64>,
    },
    /// Make the token of a user
    User {
        /// Name of the user, for the audit log
        name: String,
        /// Name or id of a cluster that the user may reach, `*` for every one; may be repeated
        #[arg(long, value_name = "CLUSTER", required = true)]
        cluster: Vec<String>,
        /// Whom the agent impersonates for this user at the Kubernetes API; without, a request
        /// has the rights of the agent's service account
        #[arg(long, value_name = "NAME")]
        kubernetes_user: Option<String>,
        /// Group of the Kubernetes user; may be repeated
        #[arg(long, value_name = "NAME", requires = "kubernetes_user")]
        group: Vec<String>,
    },
    /// List agents and users, without their tokens
    List,
    /// Give an agent or a user a new token; the old one is worth nothing from then on, the
    /// cluster id stays
    Renew {
        /// Id that `token list` shows
        id: String,
    },
    /// Remove an agent or a user; a connected agent is disconnected
    Revoke {
        /// Id that `token list` shows
        id: String,
    },
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Some(path) = args.credentials else {
        let mut command = <crate::Cli as clap::CommandFactory>::command();
        let kind = clap::error::ErrorKind::MissingRequiredArgument;
        command
            .error(
                kind,
                "--credentials FILE is needed, or PIPEOPS_CONTROLLER_CREDENTIALS",
            )
            .exit();
    };
    let file = CredentialsFile::new(path);
    match args.command {
        Command::Agent { name, workspace } => show(&name, &file.add_agent(&name, workspace)?),
        Command::User {
            name,
            cluster,
            kubernetes_user,
            group,
        } => {
            let created = file.add_user(NewUser {
                name: name.clone(),
                clusters: cluster,
                kubernetes_user,
                groups: group,
            })?;
            show(&name, &created)
        }
        Command::List => Ok(say(&list(&file.load()?))?),
        Command::Renew { id } => show(&id, &file.renew(&id)?),
        Command::Revoke { id } => {
            let name = file.revoke(&id)?;
            eprintln!("revoked {id} ({name})");
            Ok(())
        }
    }
}

fn show(name: &str, created: &Created) -> anyhow::Result<()> {
    eprintln!("name:       {name}\nid:         {}", created.id);
    if let Some(cluster_id) = &created.cluster_id {
        eprintln!("cluster id: {cluster_id}");
    }
    eprintln!("token, shown only now:");
    Ok(say(&format!("{}\n", created.token.as_str()))?)
}

fn list(credentials: &Credentials) -> String {
    let mut rows = vec![["ID", "NAME", "KIND", "CLUSTER ID / CLUSTERS"].map(String::from)];
    for agent in &credentials.agents {
        rows.push([
            agent.id.clone(),
            agent.name.clone(),
            "agent".into(),
            agent.cluster_id().into(),
        ]);
    }
    for user in &credentials.users {
        let clusters = user.clusters.join(", ");
        let reach = match &user.kubernetes_user {
            Some(kubernetes) => format!("{clusters} as {kubernetes}"),
            None => clusters,
        };
        rows.push([user.id.clone(), user.name.clone(), "user".into(), reach]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let line = |row: &[String; 4]| {
        let [id, name, kind, rest] = row;
        let [a, b, c] = widths;
        format!("{id:a$}  {name:b$}  {kind:c$}  {rest}\n")
    };
    rows.iter().map(line).collect()
}

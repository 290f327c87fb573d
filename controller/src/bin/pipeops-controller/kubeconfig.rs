//! `kubeconfig`: what kubectl needs to reach one cluster.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use controlplane_driver::{Token, TokenSource};
use pipeops_controller::{kubeconfig::Kubeconfig, self_signed::SelfSigned};

use crate::say;

/// Write a kubeconfig for one user and one cluster
///
/// The user's token is read from a file or from standard input, never from the command line,
/// which other users of the machine can see.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// URL of the controller, such as https://controller.example.com:8443
    #[arg(long, value_name = "URL")]
    server: String,

    /// Name or id of the cluster, as `token list` shows them
    #[arg(long, value_name = "CLUSTER")]
    cluster: String,

    /// Authority that signed the controller's certificate, in PEM [default: those that kubectl's
    /// system trusts]
    #[arg(long, value_name = "FILE", conflicts_with = "self_signed")]
    ca: Option<PathBuf>,

    /// The same from the folder of `serve --self-signed`
    #[arg(long, value_name = "DIR")]
    self_signed: Option<PathBuf>,

    /// File that holds the user's token
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "token_stdin",
        conflicts_with = "token_stdin"
    )]
    token_file: Option<PathBuf>,

    /// Read the user's token from standard input
    #[arg(long)]
    token_stdin: bool,

    /// Where to write it, with mode 0600 [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Overwrite the file if it exists
    #[arg(long, requires = "out")]
    force: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let token = match args.token_file {
        Some(path) => TokenSource::File(path).read()?,
        None => {
            let mut text = String::new();
            let input = io::stdin().take(64 << 10).read_to_string(&mut text);
            input.context("cannot read the token from standard input")?;
            Token::new(text).context("standard input holds no token")?
        }
    };
    let ca = args
        .ca
        .or(args.self_signed.map(|folder| SelfSigned::at(folder).ca()));
    let ca = match ca {
        Some(path) => {
            let text = fs::read(&path);
            Some(text.with_context(|| format!("cannot read the CA file {}", path.display()))?)
        }
        None => None,
    };
    let config = Kubeconfig {
        server: args.server,
        cluster: args.cluster,
        ca,
        token,
    };
    let text = config.render()?;
    match args.out {
        Some(path) => write(&path, &text, args.force),
        None => Ok(say(&text)?),
    }
}

/// Writes a file of its own and renames it, so that nothing else reads it half or with the
/// rights of an older file.
fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    if !force && path.exists() {
        anyhow::bail!(
            "{} exists already: choose another file, or overwrite it with --force",
            path.display()
        );
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let written = private(&draft).and_then(|mut file| {
        let written = file.write_all(text.as_bytes());
        let renamed = written.and_then(|()| fs::rename(&draft, path));
        renamed.inspect_err(|_| drop(fs::remove_file(&draft)))
    });
    written.with_context(|| {
        format!(
            "cannot write {} by way of {}",
            path.display(),
            draft.display()
        )
    })
}

fn private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

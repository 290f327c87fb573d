//! A real proxy: squid, as Debian packages it, with a configuration and a folder of its own.

use std::{
    env, fs,
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};
use controlplane_e2e::world::BEHIND;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::played::listen;

pub(super) const USER: &str = "agent";
/// As it stands in a URL.
pub(super) const PASSWORD: &str = "p%40ss:w%20rd";
/// The user and `p@ss:w rd`, as `openssl passwd -apr1` writes it.
const USERS: &str = "agent:$apr1$a8bX7yQz$tYFfD3W8Dy.ypw8c.LFZ4/\n";
/// Of the user `nobody`, which squid runs as where the test runs as root.
const NOBODY: u32 = 65534;
/// Attempts to find two free ports.
const ATTEMPTS: u32 = 5;

/// A running squid.
pub(super) struct Squid {
    child: Child,
    folder: Folder,
    /// Where it speaks HTTP.
    pub(super) http: SocketAddr,
    /// Where it speaks HTTP over TLS.
    pub(super) https: SocketAddr,
    /// The authority of its certificate.
    pub(super) ca_pem: String,
}

impl Squid {
    /// Starts it. It connects to everything but `denied.test`, for its only user. `None`, and a line
    /// that names the test, where there is no squid and it is not required.
    pub(super) async fn start() -> Result<Option<Self>> {
        let Some(program) = find("squid", &path()) else {
            let test = std::thread::current().name().unwrap_or("?").to_string();
            ensure!(
                std::env::var("CI").as_deref() != Ok("true"),
                "{test}: the proxy squid is required in CI: apt-get install squid"
            );
            eprintln!("SKIPPED {test}: there is no proxy squid (apt-get install squid)");
            return Ok(None);
        };
        for _ in 0..ATTEMPTS {
            if let Some(squid) = Self::attempt(&program).await? {
                return Ok(Some(squid));
            }
        }
        bail!("squid cannot listen: see its messages above")
    }

    /// `None` where somebody was faster to take a port.
    async fn attempt(program: &Path) -> Result<Option<Self>> {
        let ((http_port, http), (https_port, https)) = (listen().await, listen().await);
        drop((http_port, https_port));
        let folder = Folder::new()?;
        let ca_pem = folder.fill(http, https)?;
        let mut command = Command::new(program);
        command
            .args(["-N", "-d", "1", "-f"])
            .arg(folder.0.join("squid.conf"))
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn().context("cannot start squid")?;
        let mut lines = BufReader::new(child.stderr.take().context("stderr")?).lines();
        let mut ready = 0;
        while ready < 2 {
            let Some(line) = lines.next_line().await? else {
                return Ok(None);
            };
            eprintln!("squid: {line}");
            if line.contains("Cannot bind") {
                return Ok(None);
            }
            ready += u32::from(line.contains("Accepting HTTP"));
        }
        // Whatever it says must not make it wait.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Some(Self {
            child,
            folder,
            http,
            https,
            ca_pem,
        }))
    }

    /// Ends it, and returns what it was asked for: status, method, target and user. What was
    /// refused may lack, where the client was gone before squid had written all of its error page.
    pub(super) async fn log(mut self) -> Result<Vec<String>> {
        let id = self.child.id().context("squid has ended by itself")?;
        let id = Pid::from_raw(i32::try_from(id)?).context("not a process")?;
        kill_process(id, Signal::TERM)?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "squid: {status}");
        let log = fs::read_to_string(self.folder.0.join("access.log"))?;
        Ok(log
            .lines()
            .map(|line| line.trim_end().to_string())
            .collect())
    }
}

/// Everything that squid reads and writes.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let mut name = [0; 8];
        getrandom::fill(&mut name)?;
        let name = format!("controlplane-squid-{:016x}", u64::from_be_bytes(name));
        let folder = Self(env::temp_dir().join(name));
        fs::create_dir(&folder.0)?;
        Ok(folder)
    }

    /// Writes the configuration, and returns the authority of its certificate.
    fn fill(&self, http: SocketAddr, https: SocketAddr) -> Result<String> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()])?;
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        self.write("tls.pem", &format!("{cert}{key}"))?;
        self.write("hosts", &format!("127.0.0.1 {BEHIND} denied.test\n"))?;
        self.write("users", USERS)?;
        let helpers = ["/usr/lib/squid", "/usr/lib64/squid", "/usr/libexec/squid"];
        let helper = find("basic_ncsa_auth", &helpers.map(PathBuf::from))
            .context("squid has no program basic_ncsa_auth: install the whole package of squid")?;
        let folder = self.0.display();
        let helper = helper.display();
        self.write(
            "squid.conf",
            &format!(
                "http_port {http}\n\
                 https_port {https} tls-cert={folder}/tls.pem\n\
                 hosts_file {folder}/hosts\n\
                 visible_hostname proxy.test\n\
                 pid_filename none\n\
                 cache_log /dev/null\n\
                 cache deny all\n\
                 pinger_enable off\n\
                 max_filedescriptors 256\n\
                 shutdown_lifetime 0 seconds\n\
                 logformat asked %03>Hs %rm %ru %un\n\
                 access_log stdio:{folder}/access.log asked\n\
                 auth_param basic program {helper} {folder}/users\n\
                 auth_param basic children 1 startup=1\n\
                 acl user proxy_auth REQUIRED\n\
                 acl denied dstdomain denied.test\n\
                 http_access deny !user\n\
                 http_access deny denied\n\
                 http_access allow all\n"
            ),
        )?;
        // It may run as somebody else.
        self.write("access.log", "")?;
        if geteuid().is_root() {
            chown(&self.0, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(cert)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        if geteuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where programs are; squid is one of those that only root has in its path.
fn path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).collect()
}

fn find(program: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let mut files = folders.iter().map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}

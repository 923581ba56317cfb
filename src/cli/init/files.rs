//! The files of `tallyd init`, as text.

use std::path::PathBuf;

use super::prompts::Answers;
use super::{Connect, Language, Monitoring};

/// The file with the application's environment.
pub(super) const ENVIRONMENT: &str = "tallyd.env";

/// The address for TCP clients. Another machine's clients need another address, and a private network.
const TCP: &str = "127.0.0.1:7421";

/// A file, with its path in the folder.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) is_secret: bool,
}

impl File {
    fn new(path: &str, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into(), is_secret: false }
    }
}

/// An example in the application's language: its path, its text, and the command before its path.
pub(super) struct Example {
    path: &'static str,
    text: &'static str,
    runner: &'static str,
}

impl Example {
    /// The command that runs it in this folder.
    pub(super) fn command(&self, folder: &str) -> String {
        match self.path.strip_prefix("examples/") {
            // Cargo knows an example by its name.
            Some(_) => self.runner.to_owned(),
            None => format!("{} {folder}/{}", self.runner, self.path),
        }
    }
}

pub(super) const fn example(language: Language) -> Example {
    match language {
        Language::Node => Example {
            path: "tallyd-example.mjs",
            text: include_str!("templates/example.mjs"),
            runner: "npm install tallyd && node",
        },
        Language::Python => Example {
            path: "tallyd_example.py",
            text: include_str!("templates/example.py"),
            runner: "pip install tallyd && python3",
        },
        Language::Rust => Example {
            path: "examples/tallyd_example.rs",
            text: include_str!("templates/example.rs"),
            runner: "cargo add tallyd-client && cargo run --example tallyd_example",
        },
        Language::Shell => {
            Example { path: "tallyd-example.sh", text: include_str!("templates/example.sh"), runner: "sh" }
        }
    }
}

/// The files for these answers.
pub(super) fn of(answers: &Answers) -> anyhow::Result<Vec<File>> {
    let mut files = vec![configuration(answers), environment(answers)];
    let example = example(answers.language);
    files.push(File::new(example.path, example.text));
    if answers.monitoring == Monitoring::Grafana {
        files.extend(monitoring(answers));
    }
    Ok(files)
}

fn configuration(answers: &Answers) -> File {
    let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
    let mut lines = vec![
        "# tallyd's configuration, by `tallyd init`. What is not here is a default: `tallyd config check --show` prints all.".to_owned(),
        format!("data_dir = {}", text(&answers.data_dir.display().to_string())),
    ];
    if let Some(token) = &answers.token {
        lines.extend([
            String::new(),
            "[listen]".into(),
            format!("tcp = {}", text(TCP)),
            format!("tcp_tokens = [{}]", text(token)),
        ]);
    }
    if let Some(url) = &answers.database_url {
        lines.extend([String::new(), "[database]".into(), format!("url = {}", text(url))]);
    }
    File { is_secret: answers.has_secret(), ..File::new("config.toml", lines.join("\n") + "\n") }
}

fn environment(answers: &Answers) -> File {
    let socket = answers.data_dir.join("tallyd.sock");
    let endpoint = match answers.connect {
        Connect::Socket => format!("unix:{}", socket.display()),
        Connect::Tcp => format!("tcp://{TCP}"),
    };
    let mut lines = vec![
        "# What the application needs: `set -a; . ./tallyd.env`, or `node --env-file=tallyd.env`.".to_owned(),
        format!("TALLYD_ENDPOINT={}", quoted(&endpoint)),
    ];
    lines.extend(answers.token.as_ref().map(|token| format!("TALLYD_TOKEN={token}")));
    lines.push(format!("TALLYD_HTTP=http://{}", answers.http));
    if answers.language == Language::Shell {
        lines.push("# Where the command line finds the daemon.".into());
        lines.push(format!("TALLYD_DATA_DIR={}", quoted(&answers.data_dir.display().to_string())));
    }
    File { is_secret: answers.token.is_some(), ..File::new(ENVIRONMENT, lines.join("\n") + "\n") }
}

/// A value that shells and readers of environment files read alike.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

fn monitoring(answers: &Answers) -> Vec<File> {
    let prometheus =
        include_str!("../../../grafana/prometheus/prometheus.yml").replace("127.0.0.1:7420", &answers.http);
    let host = answers.data_dir.join("postgres");
    let database = match answers.database_url {
        Some(_) => "# host:port and database of database.url.\nTALLYD_POSTGRES_HOST=\nTALLYD_POSTGRES_DATABASE=\nTALLYD_POSTGRES_SSLMODE=verify-full".into(),
        None => format!("TALLYD_POSTGRES_HOST={}\nTALLYD_POSTGRES_DATABASE=tallyd\nTALLYD_POSTGRES_SSLMODE=disable", quoted(&host.display().to_string())),
    };
    let environment = format!(
        "# Grafana's environment. Its role's password: tallyd psql -c \"ALTER ROLE tallyd_reader LOGIN PASSWORD '…'\"\n\
         TALLYD_PROMETHEUS_URL=http://127.0.0.1:9090\n{database}\nTALLYD_READER_PASSWORD=\n"
    );
    let mut files = vec![
        File::new("monitoring/prometheus.yml", prometheus),
        File::new("monitoring/alerts.yml", include_str!("../../../grafana/prometheus/alerts.yml")),
        File { is_secret: true, ..File::new("monitoring/grafana.env", environment) },
    ];
    files.extend(GRAFANA.map(|(path, text)| File::new(path, text)));
    files
}

macro_rules! grafana {
    ($($path:literal),*) => {
        [$((concat!("monitoring/", $path), include_str!(concat!("../../../grafana/", $path)))),*]
    };
}

/// Files of grafana/ that are written as they are.
const GRAFANA: [(&str, &str); 6] = grafana![
    "provisioning/datasources/tallyd.yml",
    "provisioning/dashboards/tallyd.yml",
    "dashboards/costs.json",
    "dashboards/budgets-users.json",
    "dashboards/pipeline.json",
    "dashboards/spend.json"
];

#[cfg(test)]
mod tests {
    use super::*;
    use tallyd_config::Config;

    fn answers() -> Answers {
        Answers {
            database_url: None,
            data_dir: "/srv/it's here".into(),
            connect: Connect::Tcp,
            token: Some("0123456789abcdef".into()),
            language: Language::Node,
            monitoring: Monitoring::Grafana,
            http: "127.0.0.1:7420".into(),
        }
    }

    #[test]
    fn the_daemon_takes_the_configuration_whatever_is_in_an_answer() {
        let url = "postgresql://u:p\"\\'@h/d?sslmode=verify-full".to_owned();
        let config = configuration(&Answers { database_url: Some(url.clone()), ..answers() });
        assert!(config.is_secret);
        let config = Config::from_text(&config.text, []).unwrap();
        assert_eq!(config.database.url.unwrap().expose(), url);
        assert_eq!(config.data_dir.display().to_string(), "/srv/it's here");
        assert_eq!(config.listen.tcp.as_deref(), Some(TCP));
    }

    #[test]
    fn the_environment_is_read_by_a_shell_as_it_was_meant() {
        for (connect, expected) in [
            (Connect::Socket, "unix:/srv/it's here/tallyd.sock||\n"),
            (Connect::Tcp, "tcp://127.0.0.1:7421|0123456789abcdef|\n"),
        ] {
            let token = answers().token.filter(|_| connect == Connect::Tcp);
            let file = environment(&Answers { connect, token, ..answers() });
            let script = format!("{}\necho \"$TALLYD_ENDPOINT|$TALLYD_TOKEN|\"", file.text);
            let shell = std::process::Command::new("sh").arg("-c").arg(script).env_clear().output().unwrap();
            assert_eq!(String::from_utf8_lossy(&shell.stdout), expected);
        }
    }

    #[test]
    fn every_dashboard_and_data_source_is_written() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana");
        let written: Vec<String> = monitoring(&answers()).into_iter().map(|file| file.path.display().to_string()).collect();
        let mut found = 0;
        for folder in ["dashboards", "provisioning/dashboards", "provisioning/datasources", "prometheus"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let path = match folder {
                    // The tests of the alerts are promtool's.
                    "prometheus" if name == "alerts_test.yml" => continue,
                    "prometheus" => format!("monitoring/{name}"),
                    _ => format!("monitoring/{folder}/{name}"),
                };
                assert!(written.contains(&path), "{path} is not written: add it to GRAFANA");
                found += 1;
            }
        }
        assert_eq!(written.len(), found + 1, "grafana.env is made here: {written:?}");
    }

    #[test]
    fn prometheus_scrapes_the_daemon_that_is_configured() {
        let files = monitoring(&Answers { http: "127.0.0.1:9999".into(), ..answers() });
        assert!(files[0].text.contains("127.0.0.1:9999") && !files[0].text.contains("7420"), "{}", files[0].text);
    }
}

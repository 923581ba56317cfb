//! `tallyd top` at a real terminal: a pseudo-terminal, and an emulator that keeps its screen.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::{bound_to_us, signal, until};

const ROWS: u16 = 24;

/// A terminal with `tallyd top` in it.
struct Terminal {
    keyboard: File,
    /// Kept open, so that the terminal's settings can be read after the program's end.
    inside: File,
    screen: Arc<Mutex<vt100::Parser>>,
    child: Child,
}

impl Terminal {
    fn start(daemon: &Daemon, columns: u16) -> Self {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(outside.as_fd(), size).unwrap();
        let path = ptsname(&outside, Vec::new()).unwrap();
        let inside = OpenOptions::new().read(true).write(true).open(path.to_str().unwrap()).unwrap();
        let settings = daemon.command(&["top"]);
        let mut command = bound_to_us(env!("CARGO_BIN_EXE_tallyd"));
        command.args(settings.get_args()).current_dir(settings.get_current_dir().unwrap()).env_clear();
        command.envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        let end = || inside.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size_of(ROWS), size_of(columns), 0)));
        let (mut output, shown) = (File::from(outside), Arc::clone(&screen));
        let keyboard = output.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self { keyboard, inside, screen, child }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        until(what, || {
            let text = self.text();
            if holds(&text) { Ok(()) } else { Err(text) }
        });
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program's end. The terminal must have its old settings again then.
    fn ended(mut self) -> ExitStatus {
        let status = until("it ends", || self.child.try_wait().unwrap().ok_or_else(|| self.text()));
        let modes = tcgetattr(&self.inside).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "the terminal reads lines again");
        until("the alternate screen is left", || {
            let screen = self.screen.lock().unwrap();
            if screen.screen().alternate_screen() || screen.screen().hide_cursor() {
                Err("not yet".into())
            } else {
                Ok(())
            }
        });
        status
    }
}

fn size_of(cells: u16) -> NonZero<u16> {
    NonZero::new(cells).unwrap()
}

/// The number after a word.
fn number(text: &str, word: &str) -> u64 {
    let after = text.split(word).nth(1).unwrap_or_default();
    let digits = after.split_whitespace().next().unwrap_or_default().replace(',', "");
    digits.parse().unwrap_or(0)
}

#[test]
fn a_terminal_shows_a_daemon_at_work_gone_and_back() {
    let mut daemon = Daemon::embedded().start();
    daemon.until_status("the schema is in place", |status| status["database"]["connected"] == true);
    let load = Load::start(&daemon.socket(), 2);
    let mut terminal = Terminal::start(&daemon, 100);
    terminal.until("the daemon's work is shown", |text| number(text, "acked") > 0 && number(text, "committed") > 0);
    terminal.until("today's cost is", |text| text.contains("USD") && !text.contains("does not answer"));
    terminal.press("?");
    terminal.until("the keys are", |text| text.contains("sort by another column"));
    terminal.press("?\t");
    terminal.until("it is sorted anew", |text| text.contains("calls ▼") && !text.contains("another column"));
    let sent = load.finish();
    assert!(sent.last_seqs.iter().all(|seq| *seq > 0));
    daemon.kill();
    terminal.until("it is gone", |text| text.contains("GONE") && text.contains("no daemon is running"));
    daemon.up();
    terminal.until("it is back", |text| !text.contains("GONE") && text.contains("  ok  "));
    terminal.press("q");
    assert_eq!(terminal.ended().code(), Some(0));
    let terminal = Terminal::start(&daemon, 40);
    terminal.until("a narrow one shows it, too", |text| text.contains("Write-ahead log") && text.contains("model"));
    signal(terminal.child.id(), rustix::process::Signal::TERM);
    assert_eq!(terminal.ended().code(), Some(0));
}

#[test]
fn without_a_terminal_it_is_text_or_json() {
    let mut daemon = Daemon::embedded();
    let none = daemon.run(&["top", "--once"]);
    assert_eq!(none.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&none.stderr).contains("tallyd serve"));
    daemon.up();
    let model =
        "{\"provider\":\"claude\",\"model\":\"claude-sonnet-4-5\",\"input_tokens\":1000,\"output_tokens\":10}\n";
    daemon.lines(model);
    daemon.until_status("it is committed", |status| status["database"]["committed_records"] == 1);
    let picture = daemon.run(&["top"]);
    let text = String::from_utf8(picture.stdout).unwrap();
    assert!(text.contains("claude-sonnet-4-5") && text.contains("< 0.01") && !text.contains('\u{1b}'), "{text}");
    assert!(String::from_utf8_lossy(&picture.stderr).contains("--json goes on"));
    let line = daemon.run(&["top", "--json", "--once"]);
    let line: Value = serde_json::from_slice(&line.stdout).unwrap();
    assert_eq!(line["today"]["models"][0]["cost_usd"], "0.00315");
    assert_eq!((&line["rates"]["refused"], &line["error"]), (&serde_json::json!(0.0), &Value::Null));
}

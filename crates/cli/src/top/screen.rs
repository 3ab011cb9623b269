//! A terminal that is drawn on and left as it was.
//!
//! What is drawn is on the alternate screen, so that what was there before is there again afterwards. Keys
//! are read one by one and not shown; Ctrl-C is such a key. All of that ends when the [`Screen`] is dropped:
//! with `q`, with an error, or with a panic that unwinds.

use std::{
    io::{self, IsTerminal, Read},
    thread,
};

use console::Term;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Keys that were pressed and not taken yet; more wait in the kernel.
const KEYS_MAX: usize = 16;

/// Ctrl-C where it is no signal.
const CTRL_C: u8 = 3;

/// What somebody does to the terminal.
pub(super) enum Event {
    /// It is to be left.
    Leave,
    /// It has another size.
    Resized,
}

/// The terminal of standard output, and of standard input if that is one.
pub(super) struct Screen {
    term: Term,
    /// How input was, if it is a terminal.
    modes: Option<Termios>,
    keys: Option<mpsc::Receiver<u8>>,
    ends: [Signal; 3],
    resized: Signal,
}

impl Screen {
    /// Takes it over.
    ///
    /// # Errors
    /// The terminal or signals refuse.
    pub(super) fn open() -> io::Result<Self> {
        let mut screen = Self {
            term: Term::buffered_stdout(),
            modes: None,
            keys: None,
            ends: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
            resized: signal(SignalKind::window_change())?,
        };
        if io::stdin().is_terminal() {
            let modes = tcgetattr(io::stdin())?;
            let mut by_key = modes.clone();
            // Ctrl-Z too would leave the terminal as it is now.
            by_key.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            screen.modes = Some(modes); // before they are changed: they are restored from then on
            tcsetattr(io::stdin(), OptionalActions::Drain, &by_key)?;
            screen.keys = Some(keys());
        }
        screen.term.write_str("\x1b[?1049h")?; // xterm: "Use Alternate Screen Buffer"
        screen.term.hide_cursor()?;
        screen.term.flush()?;
        Ok(screen)
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        let (lines, columns) = self.term.size();
        (columns.into(), lines.into())
    }

    /// Draws lines that fit.
    ///
    /// # Errors
    /// The terminal has gone.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let (_, height) = self.size();
        self.term.move_cursor_to(0, 0)?;
        for (number, line) in lines.iter().take(height).enumerate() {
            if number > 0 {
                self.term.write_str("\n")?;
            }
            // Cleared before and not after it: behind a full line the cursor is still on its last character.
            self.term.clear_line()?;
            self.term.write_str(line)?;
        }
        if lines.len() < height {
            self.term.write_str("\n")?;
            self.term.clear_to_end_of_screen()?;
        }
        self.term.flush()
    }

    /// Waits for what somebody does. Cancel-safe, as what it waits for is.
    pub(super) async fn event(&mut self) -> Event {
        let [interrupt, terminate, hangup] = &mut self.ends;
        let keys = &mut self.keys;
        let leave = async {
            match keys {
                Some(keys) => loop {
                    match keys.recv().await {
                        Some(b'q' | b'Q' | CTRL_C) | None => return,
                        Some(_) => {}
                    }
                },
                None => std::future::pending().await,
            }
        };
        // All are cancel-safe per their docs.
        tokio::select! {
            () = leave => Event::Leave,
            _ = interrupt.recv() => Event::Leave,
            _ = terminate.recv() => Event::Leave,
            _ = hangup.recv() => Event::Leave,
            _ = self.resized.recv() => Event::Resized,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing restored.
        let _ = self.term.show_cursor();
        let _ = self.term.write_str("\x1b[?1049l");
        let _ = self.term.flush();
        if let Some(modes) = &self.modes {
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, modes);
        }
    }
}

/// The keys that are pressed, until input ends. The thread that reads them ends with the process: nothing
/// else can wake it.
fn keys() -> mpsc::Receiver<u8> {
    let (sender, keys) = mpsc::channel(KEYS_MAX);
    thread::spawn(move || {
        for key in io::stdin().lock().bytes() {
            let Ok(key) = key else { return };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

//! `ekiden top`: what is asked of services and what they use, now.
//!
//! The server counts; what is shown is the difference of two answers ([`rates`]), as lines of a terminal's
//! size ([`table`]). Everything that is not the asking and the [`screen`] is pure.

mod rates;
mod screen;
mod table;

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use clap::Args;
use ekiden_aws::native::{GetUsageRequest, GetUsageResponse};

use tokio::time::error::Elapsed;

use self::{
    rates::{Sample, Samples, Sort, View},
    screen::{Event, Screen},
};
use crate::{
    api::{Api, may_pass},
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print},
};

/// Pages of one look: more than a region can have services.
const PAGES_MAX: usize = 10_000;

/// How long one look may take before it is said that there is no answer.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// What to look at.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "On a terminal it goes on until `q` or Ctrl-C. Elsewhere it looks twice and prints one table.\n\n\
    Examples:\n  \
    ekiden top\n  \
    ekiden top website --every 1\n  \
    ekiden top --sort latency\n  \
    ekiden top --once --output json"
)]
pub struct Top {
    /// Only this service, with its instances
    service: Option<String>,
    /// How long until the next look; what is shown is of that time
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    every: u64,
    /// What comes first: the most of it, or names in order
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Print one table, of the time from now on, and end
    #[arg(long)]
    once: bool,
}

/// Who is asked, and of what.
struct Asked<'a> {
    api: &'a Api,
    service_arn: Option<String>,
}

impl Top {
    /// Shows it.
    ///
    /// # Errors
    /// There is no such service, or the endpoint refuses; or it cannot be reached, unless something is on
    /// the screen already.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        let service_arn = match &self.service {
            Some(name) => Some(api.arn(name).await?),
            None => None,
        };
        let asked = Asked { api, service_arn };
        let one_table = self.once || format != OutputFormat::Text || !io::stdout().is_terminal();
        match one_table {
            true => self.print_once(&asked, format).await,
            false => self.watch(&asked).await,
        }
    }

    async fn print_once(&self, asked: &Asked<'_>, format: OutputFormat) -> Outcome {
        let before = asked.look().await?;
        tokio::time::sleep(self.every()).await;
        let view = View::of(Some(&before), &asked.look().await?, self.sort);
        let instances = self.service.is_some();
        Ok(print(format, &view, |view| table::text(view, instances))?)
    }

    async fn watch(&self, asked: &Asked<'_>) -> Outcome {
        // What is wrong from the start is said where it stays to be read.
        let mut samples = Samples::new(asked.look().await?);
        let mut looked_at = Instant::now();
        let mut problem = None;
        let mut screen = Screen::open()?;
        let looking = asked.look_after(self.every());
        tokio::pin!(looking);
        loop {
            let (width, height) = screen.size();
            let title = format!("{}, every {} s; q leaves", asked.api.url_of(""), self.every);
            let view = samples.view(self.sort);
            let instances = self.service.is_some();
            screen.draw(&table::frame(
                &view,
                instances,
                &[Some(title.as_str()), problem.as_deref()],
                width,
                height,
            ))?;
            tokio::select! {
                event = screen.event() => match event { // cancel-safe: see there
                    Event::Leave => return Ok(()),
                    Event::Resized => {}
                },
                sample = &mut looking => { // pinned: it goes on where it was
                    match sample {
                        Ok(Ok(sample)) => {
                            samples.take(sample);
                            looked_at = Instant::now();
                            problem = None;
                        }
                        Ok(Err(failure)) if !may_pass(&failure) => return Err(failure),
                        Ok(Err(failure)) => {
                            problem = Some(unanswered(&failure.sentence(), looked_at));
                        }
                        Err(_) => problem = Some(unanswered("there is no answer", looked_at)),
                    }
                    looking.set(asked.look_after(self.every()));
                }
            }
        }
    }

    fn every(&self) -> Duration {
        Duration::from_secs(self.every)
    }
}

impl Asked<'_> {
    async fn look_after(&self, wait: Duration) -> Result<Result<Sample, Failure>, Elapsed> {
        tokio::time::sleep(wait).await;
        tokio::time::timeout(LOOK_TIME, self.look()).await
    }

    async fn look(&self) -> Result<Sample, Failure> {
        let mut request = GetUsageRequest {
            service_arn: self.service_arn.clone(),
            ..GetUsageRequest::default()
        };
        let mut sample = Sample::default();
        for _ in 0..PAGES_MAX {
            let mut page: GetUsageResponse = self.api.native("GetUsage", &request).await?;
            request.next_token = page.next_token.take();
            sample.add(page);
            if request.next_token.is_none() {
                break;
            }
        }
        Ok(sample)
    }
}

/// What matters first: a line is cut where the terminal ends.
fn unanswered(why: &str, looked_at: Instant) -> String {
    let ago = age(looked_at.elapsed().as_secs());
    format!("as it was {ago} ago, and asked again: {why}")
}
